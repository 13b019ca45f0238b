"""Places that are a folder or the URL of a store that fsspec knows, such as s3://bucket/prefix."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

# What stands before a host: a user's name, and perhaps a password.
_USER = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.\-]*)://(?P<user>[^\s/?#'\"<>]*)@")
# A name alone that is a token, as in https://TOKEN@host: long, or with a prefix of the services'.
_TOKEN = re.compile(r"[\w.~%\-]{24,}$|(gh[pousr]|github_pat|glpat|hf|sk|xox[a-z])[_\-]")
_OPTION = re.compile(r"(?<=[?&;])(?P<name>[\w.\-%]+)=(?P<value>[^\s&;#'\"<>]+)")
_SECRET = re.compile(
    r"pass(word|wd|phrase)?$|pwd$|secret|token|api_?key|access_?key|account_?key|private_?key"
    r"|signature$|^sig$|^sas$|credential|^auth$|^key$",
    re.IGNORECASE,
)
_HIDDEN = "***"


def is_url(place: str) -> bool:
    """Returns whether `place` is the URL of a store, not a folder."""
    return "://" in place


def file_system(place: str | Path) -> tuple[Any, str]:
    """Returns the fsspec file system behind a URL or a folder, and the path in it, without a slash
    at its end. The file system remembers no listing: another node may have written there. Raises
    `ValueError` for a URL that nothing here can open."""
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(str(place))
    except ImportError as error:  # a package such as s3fs
        raise ValueError(
            f"{without_secrets(str(place))}: needs a package that is not installed: {error}. "
            "Install it here and on every node, or name a folder."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{without_secrets(str(place))}: must be a folder or a URL that fsspec knows, but got: "
            f"{error}."
        ) from error
    system.invalidate_cache()
    return system, str(root).rstrip("/")


def holds_secret(text: str) -> bool:
    """Returns whether a URL in `text` holds a password or a token: beside the user's name, as the
    only name of an http(s) address, or as an option such as `?token=…`."""
    return without_secrets(text) != text


def secret_places(document: Any, place: str = "") -> Iterator[str]:
    """Yields where in a document, as `a.b`, a text stands that holds a password or a token."""
    if isinstance(document, str) and holds_secret(document):
        yield place
    elif isinstance(document, Mapping):
        for name, value in document.items():
            yield from secret_places(value, f"{place}.{name}" if place else str(name))
    elif isinstance(document, list | tuple):
        for number, value in enumerate(document):
            yield from secret_places(value, f"{place}.{number}")


def without_secrets(text: str) -> str:
    """Returns `text` with the passwords and tokens of all its URLs hidden."""
    if "://" not in text:
        return text
    return _OPTION.sub(_hide_option, _USER.sub(_hide_password, text))


def _hide_password(found: re.Match[str]) -> str:
    user, colon, password = found["user"].partition(":")
    if password and password != _HIDDEN:
        return f"{found['scheme']}://{user}:{_HIDDEN}@"
    if not colon and _TOKEN.match(user):
        return f"{found['scheme']}://{_HIDDEN}@"
    return found[0]


def _hide_option(found: re.Match[str]) -> str:
    is_secret = _SECRET.search(unquote(found["name"]).replace("-", "_"))
    return f"{found['name']}={_HIDDEN}" if is_secret else found[0]
