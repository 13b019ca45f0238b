"""Profiles: the clusters and services that a user works with, each under a name in `kd-sweep.toml`.

    [profiles.lab]
    address = "http://head:8265"
    token_env = "LAB_RAY_TOKEN"

    [profiles.team]
    server = "https://sweeps.example.org"
    token_file = "~/.kd-sweep/team-token"

A profile is read as values for environment variables, which it never sets: what the environment, a
flag or the sweep says counts more.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.errors import SpecError
from service.workspace import SERVER_VARIABLE, TOKEN_VARIABLE
from trainers.files.names import CONTROL
from trainers.nearest import nearest

FILE = "kd-sweep.toml"
TOKEN, TOKEN_FILE, SERVER = "token_env", "token_file", "server"
MOST_BYTES = 64 * 1024
# key: the environment variables that stand for the same; the first is the one to set
VARIABLES = {
    "address": ("KD_SWEEP_ADDRESS", "RAY_API_SERVER_ADDRESS"),
    TOKEN: ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"),
    "home": ("KD_SWEEP_HOME",),
    "storage": ("KD_SWEEP_STORAGE",),
    "study_url": ("KD_SWEEP_STUDY_URL",),
    "tracking": ("MLFLOW_TRACKING_URI",),
    SERVER: (SERVER_VARIABLE,),
    TOKEN_FILE: (TOKEN_VARIABLE,),
}


def find_file(folder: Path, home: Path) -> Path | None:
    """Returns the nearest `kd-sweep.toml` in `folder` and those above it, else the one in `home`;
    None when there is none."""
    places = (folder, *folder.parents, home)
    return next((place / FILE for place in places if (place / FILE).is_file()), None)


def variables_of(name: str, file: Path | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment variables that profile `name` adds to `environment`. Raises
    `SpecError` naming file, key and the known keys."""
    if file is None:
        raise SpecError(
            f"--profile {name}: a {FILE} must be in this folder or above, or in the home folder, "
            f"but got none. Write one: [profiles.{name}] and below it address = "
            '"http://HEAD:8265".'
        )
    found: dict[str, str] = {}
    profile = _profile(name, file)
    for key, value in profile.items():
        # Not the first variable alone: the address under Ray's own name is an address, too.
        if any(environment.get(variable) for variable in VARIABLES[key]):
            continue
        if key == TOKEN_FILE and environment.get(SERVER_VARIABLE, "") not in (
            "",
            profile.get(SERVER),
        ):
            continue  # another service must not get it
        if key == TOKEN:
            value = _token(value, f"{file}: profiles.{name}.{TOKEN}", environment)
            found["RAY_AUTH_MODE"] = "token"
        elif key == TOKEN_FILE:
            value = _read_token(file.parent / Path(value).expanduser(), file, name)
        found[VARIABLES[key][0]] = value
    return found


def _profile(name: str, file: Path) -> dict[str, str]:
    profiles = _profiles(file)
    if name not in profiles:
        raise SpecError(
            f"{file}: profiles: must hold '{name}', but got: {', '.join(profiles) or 'none'}."
            f"{nearest(name, list(profiles))}"
        )
    profile: Any = profiles[name]
    if not isinstance(profile, dict):
        raise SpecError(
            f"{file}: profiles.{name}: must be a table, but got {profile!r}. Write "
            f"[profiles.{name}] and its keys below."
        )
    for key, value in profile.items():
        _check(key, value, f"{file}: profiles.{name}.{key}")
    return profile


def _profiles(file: Path) -> dict[str, Any]:
    document = _read_toml(file)
    profiles = document.get("profiles", {})
    others = [key for key in document if key != "profiles"]
    if others or not isinstance(profiles, dict):
        raise SpecError(
            f"{file}: must hold tables [profiles.NAME] alone, but got "
            f"'{others[0] if others else 'profiles'}' at the top."
        )
    return profiles


def _read_toml(file: Path) -> dict[str, Any]:
    """The border to TOML: returns what the file holds, or raises `SpecError` whatever it is."""
    try:
        raw = file.read_bytes()
        if len(raw) > MOST_BYTES:
            raise ValueError(
                f"{len(raw):,} bytes, and a few profiles need less than {MOST_BYTES:,}"
            )
        return tomllib.loads(raw.decode("utf-8-sig"))
    except OSError as error:
        raise SpecError(
            f"{file}: must be a file that can be read, but got: {error.strerror or error}. Correct "
            "its permissions."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"{file}, line {line}: must be text in UTF-8, but got the byte "
            f"0x{error.object[error.start]:02x}. Save it as UTF-8."
        ) from error
    except (ValueError, RecursionError) as error:  # TOML's own, and of a number of 5,000 digits
        raise SpecError(f"{file}: must be TOML, but got: {error}.") from error


def _check(key: str, value: object, place: str) -> None:
    if key not in VARIABLES:
        raise SpecError(
            f"{place}: a key must be one of {', '.join(VARIABLES)}, but got '{key}'."
            f"{nearest(key, list(VARIABLES))}"
        )
    if not isinstance(value, str) or not value or CONTROL.search(value):
        raise SpecError(
            f"{place}: must be a text that is not empty, without control characters, but got "
            f"{value!r}."
        )


def _read_token(path: Path, file: Path, name: str) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or "it is no plain text"
        raise SpecError(
            f"{file}: profiles.{name}.{TOKEN_FILE}: must be a file with the service's token alone, "
            f"but got {path}: {reason}. Write the token into it, readable for you alone."
        ) from error


def _token(variable: str, place: str, environment: Mapping[str, str]) -> str:
    """The file names the variable alone, so that it can be shared."""
    token = environment.get(variable)
    if not token:
        raise SpecError(
            f"{place}: the environment variable {variable} must hold the cluster's token, but it "
            f"is not set. Set it, or correct {TOKEN}."
        )
    return token
