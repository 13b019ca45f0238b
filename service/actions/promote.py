"""A trial's student under a name of its own, in the model registry of the same store."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from service.actions.record import ask_best, open_record
from service.client.asking import route, tell
from service.errors import PlanError, SpecError, TrackingError
from service.record.entries import ModelFacts
from service.record.plans import read_plan
from service.record.records import RunRecord
from service.record.registry import Version, make_loadable, put_merged, register, versions
from service.record.run_entries import model_facts
from service.record.runs import Runs
from service.record.students import Student, download_student, student_of
from service.results.best import Best, find_best
from service.results.question import asked
from service.workspace import Server, Workspace
from trainers.students.folders import is_adapter


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


def promote_trial(
    run: str, workspace: Workspace | Server, *, name: str, merge: bool = False
) -> Promoted:
    """Registers the student of a trial (run id, or SWEEP/NUMBER) as the next version of a model.
    name: NAME, or NAME@ALIAS to point an alias at it. One that is registered under that name is
    not registered twice. merge: a student that is an adapter is registered as the whole model that
    it is with its base, which is recorded with its run.

    Raises `SpecError` for a name or alias that is none, `TrackingError` for a run that is not
    there or has no student, `PlanError` for an adapter that cannot be merged.
    """
    if isinstance(workspace, Server):
        return _promote_there(run, workspace, name)
    model, sign, alias = (part.strip() for part in name.partition("@"))
    if not model or (sign and not alias):
        raise SpecError(f"--as: must be NAME or NAME@ALIAS, but got '{name}'.")
    runs = open_record(workspace)
    record = runs.get(run)
    student = student_of(runs.uri, record, run)
    whole = _merged(student, record, runs) if merge else None
    if whole is not None:
        student = whole
    elif student.model_id is None:
        _make_loadable(student, record, runs)
    version = register(runs.uri, student, model, alias or None)
    last = f"@{alias}" if alias else f"/{version.version}"
    return Promoted(record, version, f"models:/{model}{last}")


def best_registered(
    sweep: str | tuple[str, ...],
    workspace: Workspace | Server,
    *,
    metric: str | tuple[str | None, str] | None = None,
    where: Sequence[str] = (),
    per: str | None = None,
    top: int | None = None,
) -> Best:
    """Returns what `record.best_trials` does, of registered students alone, each with what it is
    registered as."""
    question = asked(sweep, metric=metric, where=where, per=per, top=top)
    if isinstance(workspace, Server):
        return ask_best(workspace, question, is_registered=True)
    runs = open_record(workspace)
    names: dict[str, tuple[str, ...]] = {}
    for one in versions(runs.uri):
        names[one.run_id] = (*names.get(one.run_id, ()), one.text)
    return find_best(runs, replace(question, registered=names))


def _promote_there(run: str, server: Server, name: str) -> Promoted:
    sweep, slash, number = run.rpartition("/")
    if not slash:
        raise SpecError(
            f"promote: a service knows trials as SWEEP/NUMBER, but got '{run:.80}'. For example "
            "latest/7."
        )
    path = route("sweeps", sweep, "trials", number, "promote")
    return tell(server, path, Promoted, {"name": name})


def sweeps_registered(model: str, workspace: Workspace) -> set[str]:
    """Returns the ids of the sweeps that have students under a registered name."""
    runs = open_record(workspace)
    return {runs.get(one.run_id).sweep_id for one in versions(runs.uri, model)}


def _make_loadable(student: Student, record: RunRecord, runs: Runs) -> None:
    make_loadable(runs.uri, student, _facts(record, runs))


def _merged(student: Student, record: RunRecord, runs: Runs) -> Student | None:
    """The whole model of a student that is an adapter, recorded beside it; None of any other."""
    with TemporaryDirectory(prefix="kd-model-") as room:
        adapter, whole = download_student(runs.uri, student, Path(room)), Path(room) / "whole"
        if not is_adapter(adapter):
            return None
        from trainers.preparing.adapters import write_whole

        try:
            write_whole(adapter, runs.trial_file(record.run_id), whole)
        except ValueError as error:
            raise PlanError(f"promote: {error}") from error
        return put_merged(runs.uri, student, whole, _facts(record, runs))


def _facts(record: RunRecord, runs: Runs) -> ModelFacts:
    facts = model_facts(read_plan(runs, record.sweep_id))
    if facts is None:
        raise TrackingError(
            f"run '{record.run_id}': its student must be a model of transformers to be "
            "registered, but it is none."
        )
    return facts
