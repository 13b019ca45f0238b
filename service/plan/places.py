"""Where a sweep's files are stored: its folder and what is kept where in it, its checkpoints, its
Optuna study. Pure."""

from pathlib import Path

from service.home import DRIVER_LOCK, caches_folder, sweeps_folder
from service.plan.plan import SweepPlan
from service.spec.document import SweepSpec
from trainers.files.urls import is_url


def storage_folder(spec: SweepSpec, home: Path) -> Path:
    """Returns the folder that holds the sweep's own: the storage path, or where that is a URL, the
    home folder."""
    path = spec.storage.path
    return home if path is None or is_url(path) else Path(path)


def teacher_caches_folder(spec: SweepSpec, home: Path) -> Path:
    """Returns the folder that the teacher's caches are built in; those of a URL go there from
    here."""
    section = spec.teacher_cache
    return Path(str(section.folder)) if section.is_elsewhere else caches_folder(home)


def sweep_folder(plan: SweepPlan, home: Path) -> Path:
    """Returns the folder of everything that this sweep writes; where the storage path is a URL, of
    everything but its checkpoints."""
    return sweeps_folder(storage_folder(plan.spec, home)) / plan.sweep_id


def checkpoints_url(plan: SweepPlan) -> str | None:
    """Returns the URL below which each trial has its checkpoints, under its number; None where they
    are kept in the sweep's folder."""
    path = plan.spec.storage.path
    return f"{path.rstrip('/')}/sweeps/{plan.sweep_id}/trials" if path and is_url(path) else None


def study_storage(plan: SweepPlan, folder: Path) -> str:
    """Returns where the Optuna study is stored: a database's URL, or the journal in the sweep's
    folder."""
    return plan.spec.storage.study_url or str(folder / "study.journal")


def trials_folder(folder: Path) -> Path:
    """Returns the folder in which each trial of the sweep has its own, named by its number."""
    return folder / "trials"


def checkpoints_folder(trials: Path, number: int) -> Path:
    """Returns the folder of a trial's checkpoints in `trials`, as `trainers` writes them."""
    return trials / str(number) / "checkpoints"


def slots_folder(folder: Path) -> Path:
    """Returns the folder in which Ray Train keeps what it writes about the sweep's slots."""
    return folder / "slots"


def own_modules_folder(folder: Path) -> Path:
    """Returns the folder that the sweep's own divergences are imported from."""
    return folder.resolve() / "own_modules"


def driver_lock(folder: Path) -> Path:
    """Returns the file that the sweep's driver holds locked, with its host and process in it."""
    return folder / DRIVER_LOCK


def plan_file(folder: Path) -> Path:
    """Returns the file with the plan that the sweep's newest driver runs."""
    return folder / "plan.json"


def requests_folder(folder: Path) -> Path:
    """Returns the folder in which other processes leave what they want of the sweep's driver."""
    return folder / "requests"


def logs_folder(folder: Path) -> Path:
    """Returns the folder with what each of the sweep's drivers wrote."""
    return folder / "logs"


def end_marker(folder: Path) -> Path:
    """Returns the file that says how the sweep's last driver ended, which it writes before it
    leaves Ray."""
    return folder / "ended"


def report_file(folder: Path) -> Path:
    """Returns the page with the sweep's report."""
    return folder / "report.html"
