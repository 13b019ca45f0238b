"""What a sweep that somebody else submits may name: folders and addresses of a list, and code only
from who may bring it. Looks at nothing but the parsed sweep, and where links lead."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from service.accounts.users import User
from service.errors import SpecError
from service.own_code.sweep import divergences_of
from service.plan.study import StudyPlan
from service.spec.document import SweepSpec
from trainers.files.urls import is_url, without_secrets
from trainers.trial.catalogue import DIVERGENCES

# Text for a model to read, which may well hold an address.
TEXTS = ("data.template",)
CODE = ("trust_remote_code", "allow_pickle")
ASK = "Ask an admin for it (kd-sweep users add --code)"


@dataclass(frozen=True)
class Allowed:
    """The folders and the beginnings of addresses that sweeps of users who are no admins may name.
    `hidden`: folders in those that they may not: the service's own."""

    folders: tuple[Path, ...] = ()
    addresses: tuple[str, ...] = ()
    hidden: tuple[Path, ...] = ()

    def check(self, spec: SweepSpec, user: User) -> None:
        """Raises `SpecError` for the first thing that the user's sweep may not name."""
        if not user.may_bring_code():
            _check_brings_no_code(spec)
        if not user.may_name_anything():
            for place, text in _texts(spec.model_dump(mode="json")):
                self._check_text(place, text)

    def check_study(self, study: StudyPlan, user: User) -> None:
        """Raises `SpecError` for a cell with code that the user may not bring: cells also come
        without a document, where a study is extended."""
        if not user.may_bring_code():
            _check_shipped(str(cell.values.get("divergence", "")) for cell in study.cells)

    def _check_text(self, place: str, text: str) -> None:
        if place in TEXTS:
            return
        if is_url(text) or text.lower().startswith("file:"):
            if not any(_is_below(text, one) for one in self.addresses):
                shown = ", ".join(self.addresses) or "none"
                raise SpecError(
                    f"{place}: an address must be one that the service allows ({shown}), but got "
                    f"{without_secrets(text)!r:.80}. Leave it out: the service has its own."
                )
        elif text.startswith(("/", "~")) or ".." in Path(text).parts:
            if not _is_in(text, self.folders) or _is_in(text, self.hidden):
                shown = ", ".join(map(str, self.folders)) or "none"
                raise SpecError(
                    f"{place}: a path must be in a folder that the service allows ({shown}), but "
                    f"got {text!r:.80}. Name what is in there, relative to the first."
                )


def _check_brings_no_code(spec: SweepSpec) -> None:
    _check_shipped(divergences_of(spec))
    for place, value in _values(spec.model_dump(mode="json")):
        if value is True and place.rpartition(".")[2] in CODE:
            raise SpecError(
                f"{place}: must be false, since code of a model's would run in the service, but "
                f"got true. {ASK}."
            )
    if spec.notify.names():
        raise SpecError(
            f"notify: must be left out, since it runs programs and calls addresses in the "
            f"service's place, but got {spec.notify.names()[0]!r:.80}. {ASK}."
        )


def _check_shipped(divergences: Iterable[str]) -> None:
    own = [name for name in divergences if name and name not in DIVERGENCES]
    if own:
        raise SpecError(
            f"divergence: must be one that is shipped, since yours would run in the service, but "
            f"got {own[0]!r:.80}. {ASK}."
        )


def _texts(document: Any) -> Iterator[tuple[str, str]]:
    return ((place, value) for place, value in _values(document) if isinstance(value, str))


def _values(document: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every value below the document with its place; names are those of fields."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from _values(value, f"{place}.{name}".removeprefix("."))
    elif isinstance(document, Sequence) and not isinstance(document, str):
        for index, value in enumerate(document):
            yield from _values(value, f"{place}[{index}]")
    else:
        yield place, document


def _is_in(path: str, folders: Sequence[Path]) -> bool:
    """Whether the path leads into one of the folders, links followed."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(one)) for one in folders)


def _is_below(address: str, allowed: str) -> bool:
    """Whether the address is `allowed` or one below it, on the very same host."""
    one, other = urlsplit(address), urlsplit(allowed)
    if _host(one) != _host(other) or ".." in one.path.split("/") or "%2e" in one.path.lower():
        return False
    root = other.path.rstrip("/")
    return one.path == other.path or one.path.startswith(f"{root}/") or not root


def _host(address: SplitResult) -> tuple[str, str]:
    return address.scheme.lower(), address.netloc.lower()
