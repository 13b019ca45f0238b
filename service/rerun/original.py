"""What was recorded of a trial that is to be run again, and where its inputs are now."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import PlanError, TrackingError
from service.own_code.sources import KEPT
from service.record import tags
from service.record.records import RunRecord
from service.record.runs import Runs
from service.record.surroundings import surroundings
from service.rerun.verdict import Numbers
from service.states import FINISHED, TrialState
from trainers.files.json_files import read_object
from trainers.trial.metrics import TRAINING_METRICS
from trainers.trial.probe import is_diagnostic
from trainers.trial.trial_file import TrialFile

INPUT_NAMES = ("teacher", "student", "data", KEPT)
CACHE = "teacher_cache"
RESULT, TRIAL = "result.json", "trial.json"
LOSS = "loss"


@dataclass(frozen=True)
class Original:
    """A trial to be run again, with all that was recorded of it. inputs: name → folder on this
    machine; steps: after how many it was stopped early, None for one that ran to its budget."""

    record: RunRecord
    trial: TrialFile
    recorded: Numbers
    inputs: dict[str, Path]
    steps: int | None


def load_original(reference: str, runs: Runs, mounts: Mapping[str, Path]) -> Original:
    """Returns the trial that `reference` names. mounts: name of an input → its folder on this
    machine, where it is not the recorded one.

    Raises `TrackingError` for a run that is no finished trial, `PlanError` for an input that is not
    there.
    """
    record = runs.get(reference)
    if record.state not in FINISHED or record.tags.get("kind") != tags.KIND_TRIAL:
        raise TrackingError(
            f"run '{reference}': must be a finished trial of a sweep to be run again, but got a "
            f"{record.tags.get('kind')} that is {record.state}."
        )
    trial = runs.trial_file(record.run_id)
    result = _recorded_result(runs, record)
    # `result.json` has the numbers to the last digit. Where it was not kept, MLflow's metrics are
    # the same values, without the weights' hash.
    steps = int(result["steps"]) if record.state is TrialState.STOPPED_EARLY and result else None
    metrics = result.get("metrics") or {
        name: value
        for name, value in record.metrics.items()
        if name not in TRAINING_METRICS
        and not is_diagnostic(name)
        and not name.startswith(tags.TEST)
    }
    recorded = Numbers(
        metrics=metrics,
        weights_sha256=result.get("weights_sha256"),
        losses=dict(runs.history(record.run_id, LOSS)),
        facts=_recorded_facts(record, trial),
    )
    return Original(record, trial, recorded, _inputs(trial, mounts), steps)


def _recorded_result(runs: Runs, record: RunRecord) -> dict[str, Any]:
    """Returns the trial's `result.json`, or nothing where it was not kept."""
    if not runs.has_artifact(record.run_id, RESULT):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = runs.download(record.run_id, RESULT, Path(folder))
        try:
            return read_object(path, {"steps": int, "metrics": dict})
        except ValueError as error:
            raise TrackingError(f"run '{record.run_id}': {error}") from error


def _recorded_facts(record: RunRecord, trial: TrialFile) -> dict[str, str]:
    known = record.tags | surroundings(trial)
    facts = {name: text for name, text in known.items() if name.startswith("provenance.")}
    facts |= {f"versions.{name}": text for name, text in trial.versions.items()}
    if "cpu_capability" in trial.numerics:
        facts["numerics.cpu_capability"] = str(trial.numerics["cpu_capability"])
    return facts | {"device": trial.device}


def _inputs(trial: TrialFile, mounts: Mapping[str, Path]) -> dict[str, Path]:
    """Returns the folder of each input on this machine. Raises `PlanError` for one that is not
    there."""
    unknown = sorted(set(mounts) - set(INPUT_NAMES))
    if unknown:
        raise PlanError(
            f"--mount: must name one of {', '.join(INPUT_NAMES)}, but got '{unknown[0]}'. "
            "Write e.g. --mount data=FOLDER."
        )
    found = {}
    for name in INPUT_NAMES:
        place = mounts.get(name) or getattr(trial.paths, name)
        if place is None:
            continue
        folder = Path(place).expanduser().resolve()
        if not folder.is_dir():
            raise PlanError(
                f"rerun: the trial's {name} must be a folder on this machine, but '{folder}' is "
                f"not there. Say where it is: --mount {name}=FOLDER."
            )
        found[name] = folder
    # Not required: a cache that is not here any more is built again from the teacher, bit for bit.
    cache = trial.paths.teacher_cache
    if cache is not None and Path(cache).is_dir():
        found[CACHE] = Path(cache)
    return found
