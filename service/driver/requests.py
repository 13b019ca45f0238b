"""What users ask of a running driver from another process that sees the sweep's folder: a file for
each wish, which the driver takes away once it has obeyed.

Files and not signals: only who may write into the folder is heard, no process id can mean another
process by now, and a driver in a notebook or on another machine hears it too.
"""

import shutil
from pathlib import Path

from service.plan.places import requests_folder

_STOP = "stop"
_STOP_TRIAL = "stop-trial-"


def clear_requests(folder: Path) -> None:
    """Forgets what an earlier driver was asked for, and did not live to do."""
    shutil.rmtree(requests_folder(folder), ignore_errors=True)


def ask_to_stop(folder: Path, trial: int | None = None) -> Path:
    """Asks the driver of the sweep in `folder` to stop it, or to cancel one trial alone. Returns
    the file that is gone once it has obeyed."""
    path = requests_folder(folder) / (_STOP if trial is None else f"{_STOP_TRIAL}{trial}")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def not_running(sweep_id: str, trial: int) -> str:
    """Returns what to say of a trial that is to be cancelled and does not run."""
    return (
        f"sweep {sweep_id}: trial {trial} must be running to be cancelled, but it is not. "
        f"`kd-sweep trials {sweep_id}` shows how each is."
    )


def asked_to_stop(folder: Path) -> dict[Path, int | None]:
    """Returns what the driver was asked for and has not done yet: by file, the trial to be
    cancelled, None where it is the sweep."""
    found: dict[Path, int | None] = {}
    place = requests_folder(folder)
    for path in sorted(place.iterdir()) if place.is_dir() else []:
        number = path.name.removeprefix(_STOP_TRIAL)
        if path.name == _STOP:
            found[path] = None
        elif number != path.name and number.isascii() and number.isdigit():
            found[path] = int(number)
    return found
