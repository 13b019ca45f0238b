"""A trial as a folder that can be carried elsewhere and trained again there."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import PlanError
from service.own_code.sources import module_not_kept
from service.record.records import RunRecord
from service.record.students import download_student, student_of
from service.record.surroundings import surroundings
from service.rerun.original import INPUT_NAMES, RESULT, TRIAL
from service.words import describe
from trainers.files.store import write_text
from trainers.students.folders import is_adapter
from trainers.trial.trial_file import TrialFile, TrialPaths

if TYPE_CHECKING:
    from service.record.runs import Runs

UNKNOWN_IMAGE = "kd-sweep"


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, and the names in it."""

    folder: Path
    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the folder as one JSON object."""
        return {"folder": str(self.folder), "names": self.names}


def export(reference: str, runs: "Runs", folder: Path, *, merge: bool = False) -> Exported:
    """Writes the trial with its student, its inputs, what was recorded and a README with the
    command that trains it again into `folder`, which must not exist or be empty. merge: a student
    that is an adapter is written as the whole model that it is with its base.

    Raises `TrackingError` for a run that is no trial or has no student, `PlanError` when the folder
    is not empty, an input is not on this machine any more, or an adapter cannot be merged.
    """
    _check_new(folder)
    record = runs.get(reference)
    student = student_of(runs.uri, record, reference)
    trial = runs.trial_file(record.run_id)
    inputs = _inputs_of(trial)
    written = download_student(runs.uri, student, folder)
    if merge and is_adapter(written):
        _merge(written, trial)
    if runs.has_artifact(record.run_id, RESULT):
        runs.download(record.run_id, RESULT, folder).rename(folder / "recorded.json")
    for name, source in inputs.items():
        target = folder / "inputs" / name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    # Relative: the folder is read wherever it is carried. The cache is left behind, since it can be
    # built again from the teacher.
    paths = TrialPaths.model_validate({"teacher": None} | {n: f"inputs/{n}" for n in inputs})
    trial.model_copy(update={"paths": paths}).write(folder / TRIAL)
    write_text(folder / "README.md", _readme(record, trial, is_adapter(written)))
    return Exported(folder, tuple(sorted(path.name for path in folder.iterdir())))


def _check_new(folder: Path) -> None:
    try:
        is_empty = not folder.exists() or not any(folder.iterdir())
    except OSError as error:
        raise PlanError(f"export: '{folder}' must be a folder, but got: {error}.") from error
    if not is_empty:
        raise PlanError(f"export: '{folder}' must be empty or new, but it holds files.")


def _inputs_of(trial: TrialFile) -> dict[str, Path]:
    found = {}
    for name in INPUT_NAMES:
        place = getattr(trial.paths, name)
        if place is None:
            continue
        if not Path(place).is_dir():
            raise PlanError(
                f"export: the trial's {name} must still be on this machine, but '{place}' is not "
                "there. Export where the sweep ran."
            )
        found[name] = Path(place)
    return found


def _merge(student: Path, trial: TrialFile) -> None:
    """Puts the whole model in the place of an adapter."""
    from trainers.preparing.adapters import write_whole

    adapter = student.rename(student.with_name(".adapter"))
    try:
        write_whole(adapter, trial, student)
    except ValueError as error:
        raise PlanError(f"export: {error}") from error
    finally:
        shutil.rmtree(adapter)


OPENED = "a Hugging Face folder with its card"
# How a student is opened that is no whole model.
OPENED_BESIDE = """an adapter, which PEFT opens beside the model in
`inputs/student` (`PeftModel.from_pretrained(model, "student")`); `kd-sweep export --merge` writes
the whole model in its place"""


def _not_here(trial: TrialFile) -> str:
    module = module_not_kept(trial)
    if module is None:
        return ""
    return (
        f"\nThe source of its divergence was not kept with the sweep: Python must find the module\n"
        f"`{module}` where it is trained."
    )


def _readme(record: RunRecord, trial: TrialFile, is_beside: bool) -> str:
    opened = OPENED_BESIDE if is_beside else OPENED
    around = record.tags | surroundings(trial)
    image = around.get("provenance.image", UNKNOWN_IMAGE)
    where = around.get("provenance.commit", f"code {around.get('code_version', '')}")
    workers = trial.world_size
    launch = "python -m trainers"
    if workers > 1:
        launch = f"torchrun --standalone --nproc-per-node {workers} -m trainers"
    metrics = "\n".join(f"| {name} | {value!r} |" for name, value in sorted(record.metrics.items()))
    versions = ", ".join(f"{name} {text}" for name, text in sorted(trial.versions.items()))
    return f"""# {record.label or describe(record.hyperparameters)}

Trial {record.trial} of sweep {record.sweep_id}, run {record.run_id}, {record.state}.

`student/` is the trained model: {opened}. `inputs/` holds what it was
trained from, `trial.json` everything that decides what the training computes.{_not_here(trial)}

Train it again, in the image it was trained in:

    docker run --rm --network none --user "$(id -u):$(id -g)" -e HOME=/tmp \\
      -v "$PWD":/room -w /room {image} {launch} trial.json --output again

or with kd-sweep of the same version installed: `{launch} trial.json --output again`. The same
numbers as in `recorded.json` must then be in `again/result.json`, `weights_sha256` among them.

The image is built from `docker/Dockerfile` of the project at {where}; trained with {versions} on
{trial.device}, {workers} worker(s).

| metric | value |
|---|---|
{metrics}
"""
