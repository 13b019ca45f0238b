"""A trial's student under a name of its own, in the model registry of the same store."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.actions.record import open_record
from service.errors import SpecError, TrackingError
from service.record.plans import read_plan
from service.record.records import RunRecord
from service.record.registry import Version, make_loadable, register, versions
from service.record.run_entries import model_facts
from service.record.runs import Runs
from service.record.students import Student, student_of
from service.results.best import Best, find_best
from service.results.question import asked
from service.workspace import Workspace


@dataclass(frozen=True)
class Promoted:
    """What was registered; uri: how MLflow loads it."""

    record: RunRecord
    version: Version
    uri: str

    def to_json(self) -> dict[str, Any]:
        """Returns it as one JSON object."""
        return {
            "run_id": self.record.run_id,
            "sweep_id": self.record.sweep_id,
            "trial": self.record.trial,
            "name": self.version.name,
            "version": self.version.version,
            "aliases": list(self.version.aliases),
            "uri": self.uri,
        }


def promote_trial(run: str, workspace: Workspace, *, name: str) -> Promoted:
    """Registers the student of a trial (run id, or SWEEP/NUMBER) as the next version of a model.
    name: NAME, or NAME@ALIAS to point an alias at it. One that is registered under that name is
    not registered twice.

    Raises `SpecError` for a name or alias that is none, `TrackingError` for a run that is not
    there or has no student.
    """
    model, sign, alias = (part.strip() for part in name.partition("@"))
    if not model or (sign and not alias):
        raise SpecError(f"--as: must be NAME or NAME@ALIAS, but got '{name}'.")
    runs = open_record(workspace)
    record = runs.get(run)
    student = student_of(runs.uri, record, run)
    if student.model_id is None:
        _make_loadable(student, record, runs)
    version = register(runs.uri, student, model, alias or None)
    last = f"@{alias}" if alias else f"/{version.version}"
    return Promoted(record, version, f"models:/{model}{last}")


def best_registered(
    sweep: str,
    workspace: Workspace,
    *,
    metric: str | tuple[str | None, str] | None = None,
    where: Sequence[str] = (),
    per: str | None = None,
    top: int | None = None,
) -> Best:
    """Returns what `record.best_trials` does, of registered students alone, each with what it is
    registered as."""
    question = asked(sweep, metric=metric, where=where, per=per, top=top)
    runs = open_record(workspace)
    names: dict[str, tuple[str, ...]] = {}
    for one in versions(runs.uri):
        names[one.run_id] = (*names.get(one.run_id, ()), one.text)
    return find_best(runs, replace(question, registered=names))


def _make_loadable(student: Student, record: RunRecord, runs: Runs) -> None:
    facts = model_facts(read_plan(runs, record.sweep_id))
    if facts is None:
        raise TrackingError(
            f"run '{record.run_id}': its student must be a model of transformers to be "
            "registered, but it is none."
        )
    make_loadable(runs.uri, student, facts)
