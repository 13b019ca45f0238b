"""Where everything that a user makes is stored: the home folder, and what is kept where in it.

What preparing keeps there (`prepared/`) is named by `trainers.preparing`; what one sweep keeps, in
its own folder, by `service.plan.places`.
"""

import hashlib
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from service.errors import PlanError
from trainers.files.names import absolute_path

SQLITE = "sqlite:///"
HOME_VARIABLE = "KD_SWEEP_HOME"
DRIVER_LOCK = "driver.lock"  # in the folder of each sweep
DEFAULT_EXPERIMENT = "kd-sweep"  # of MLflow, where a sweep names none


def home_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of everything that a user makes: KD_SWEEP_HOME, or ~/.kd-sweep. Raises
    `PlanError` as `checked_home` does."""
    return checked_home(environment.get(HOME_VARIABLE) or "~/.kd-sweep")


def checked_home(home: Path | str) -> Path:
    """Returns the absolute path of the home folder, whether it is there or not. Raises `PlanError`
    for what can be no folder."""
    try:
        path = absolute_path(str(home), Path.cwd())
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"{path} is a file")
    except (OSError, ValueError) as error:
        raise PlanError(_unusable(home, error)) from error
    return path


def make_home(home: Path) -> None:
    """Makes the home folder where it is not there yet, for its owner alone: records and prompts are
    in it. Raises `PlanError` when that cannot be done."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(home, os.W_OK | os.X_OK):
            raise PermissionError("it may not be written")
    except OSError as error:
        raise PlanError(_unusable(home, error)) from error


def _unusable(home: Path | str, error: Exception) -> str:
    return (
        f"home: the folder of sweeps must be one that can be made and written, but got: {error} "
        f"(of {str(home):.80}). Set {HOME_VARIABLE} to another folder."
    )


def sweeps_folder(storage: Path) -> Path:
    """Returns the folder of all sweeps that are stored in `storage`: the home folder, or another
    one that a sweep names."""
    return storage / "sweeps"


def caches_folder(home: Path) -> Path:
    """Returns the folder of the teachers' caches."""
    return home / "caches"


def measured_folder(home: Path) -> Path:
    """Returns the folder of what earlier sweeps took."""
    return home / "measured"


def pictures_folder(home: Path) -> Path:
    """Returns the folder of pictures that belong to no sweep."""
    return home / "pictures"


def reruns_folder(home: Path) -> Path:
    """Returns the folder in which trials are trained again."""
    return home / "reruns"


def evaluations_folder(home: Path) -> Path:
    """Returns the folder in which finished students are evaluated."""
    return home / "evaluations"


def launches_folder(home: Path) -> Path:
    """Returns the folder of sweeps that were handed over to processes of their own."""
    return home / "launches"


def documents_folder(home: Path) -> Path:
    """Returns the folder of sweep documents that came over the network."""
    return home / "documents"


def accounts_file(home: Path) -> Path:
    """Returns the SQLite file of the service's users, where no other database is named."""
    return home / "accounts.db"


def spool_folder(home: Path, uri: str, experiment: str = DEFAULT_EXPERIMENT) -> Path:
    """Returns the folder in which entries for an experiment of the MLflow server `uri` wait while
    it is away."""
    folder = home / "spool" / hashlib.sha256(uri.encode()).hexdigest()[:8]
    if experiment == DEFAULT_EXPERIMENT:
        return folder
    return folder / urlsafe_b64encode(experiment.encode()).decode()


def spool_folders(home: Path, uri: str) -> dict[str, Path]:
    """Returns the folder of each experiment of the server for which entries ever waited."""
    folder = spool_folder(home, uri)
    found = {DEFAULT_EXPERIMENT: folder}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        # `spool_folder` made the names; what else stands there is nobody's.
        with suppress(ValueError):
            if path.is_dir() and path.suffix == "":
                found[urlsafe_b64decode(path.name).decode()] = path
    return found


def record_file(home: Path) -> Path:
    """Returns the SQLite file of MLflow that is used where no other store is named."""
    return home.resolve() / "mlflow.db"


def sqlite_uri(path: Path) -> str:
    """Returns the address of a SQLite file, as SQLAlchemy reads it: what is behind a `?` would be
    options, and `%41` a letter."""
    name = str(path)
    # Only where it must be: MLflow makes an empty folder of the name as it is written.
    if "?" in name or unquote(name) != name:
        name = name.replace("%", "%25").replace("?", "%3F")
    return SQLITE + name


def sqlite_path(uri: str) -> Path:
    """Returns the file that `sqlite_uri`, or a user, wrote as an address."""
    return Path(unquote(uri.removeprefix(SQLITE).partition("?")[0]))
