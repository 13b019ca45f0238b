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

HOME_VARIABLE = "KD_SWEEP_HOME"
DEFAULT_EXPERIMENT = "kd-sweep"  # of MLflow, where a sweep names none


def home_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of everything that a user makes: KD_SWEEP_HOME, or ~/.kd-sweep."""
    named = environment.get(HOME_VARIABLE)
    return Path(named or Path.home() / ".kd-sweep").expanduser().resolve()


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
