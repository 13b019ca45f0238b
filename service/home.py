"""Where everything that a user makes is stored: the home folder, and what is kept where in it.

What preparing keeps there (`prepared/`) is named by `trainers.preparing`; what one sweep keeps, in
its own folder, by `service.plan.places`.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

HOME_VARIABLE = "KD_SWEEP_HOME"


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


def spool_folder(home: Path, uri: str) -> Path:
    """Returns the folder in which entries for the MLflow server `uri` wait while it is away."""
    return home / "spool" / hashlib.sha256(uri.encode()).hexdigest()[:8]


def record_file(home: Path) -> Path:
    """Returns the SQLite file of MLflow that is used where no other store is named."""
    return home.resolve() / "mlflow.db"
