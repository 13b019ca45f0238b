"""Where a sweep's files are stored: its folder, its checkpoints, its Optuna study."""

from pathlib import Path

from service.plan.plan import SweepPlan
from service.spec.document import SweepSpec
from trainers.files.urls import is_url

JOURNAL = "study.journal"
# In the sweep's folder: how its last driver ended, written before it leaves Ray.
END_MARKER = "ended"


def storage_folder(spec: SweepSpec, home: Path) -> Path:
    """Returns the folder below which the sweep's files lie: the storage path, or where that is a
    URL, the home folder."""
    path = spec.storage.path
    return home if path is None or is_url(path) else Path(path)


def sweep_folder(plan: SweepPlan, home: Path) -> Path:
    """Returns the folder of all that this sweep writes; where the storage path is a URL, of all but
    its checkpoints."""
    return storage_folder(plan.spec, home) / "sweeps" / plan.sweep_id


def checkpoints_url(plan: SweepPlan) -> str | None:
    """Returns the URL below which the trials' checkpoints lie, by number; None when they lie in the
    sweep's folder."""
    path = plan.spec.storage.path
    return f"{path.rstrip('/')}/sweeps/{plan.sweep_id}/trials" if path and is_url(path) else None


def study_storage(plan: SweepPlan, folder: Path) -> str:
    """Returns where the Optuna study lies: a database's URL, or the journal in the sweep's
    folder."""
    return plan.spec.storage.study_url or str(folder / JOURNAL)
