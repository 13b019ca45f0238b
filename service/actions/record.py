"""Questions to the record: which sweeps and trials there are, which are best, how they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.client.asking import ask, ask_all, route
from service.client.sending import Params
from service.errors import NotRecorded, SpecError, TrackingError
from service.frames import Framed
from service.home import make_home
from service.record.moved import follow_move
from service.record.records import RunRecord, SweepRecord
from service.record.runs import Runs
from service.record.store import check_address, replay_spool
from service.record.surroundings import surroundings
from service.results.best import Best, find_best
from service.results.by_example import scores_of
from service.results.compare import Comparison, compare
from service.results.question import Question, asked
from service.results.significance import Entry
from service.results.significance import significance as find_significance
from service.workspace import Server, Workspace
from trainers.trial.trial_file import TrialFile


@dataclass(frozen=True)
class SweepTrials(Framed):
    """A recorded sweep with its trials, by number."""

    sweep: SweepRecord
    trials: list[RunRecord]

    def to_json(self) -> list[dict[str, Any]]:
        """Returns one row a trial."""
        return [trial.to_json() for trial in self.trials]


def open_record(workspace: Workspace) -> Runs:
    """Returns the workspace's record, empty where it is not there yet; first delivers what earlier
    processes could not. Raises `TrackingError` when it does not answer."""
    uri = workspace.tracking_uri
    check_address(uri)
    make_home(workspace.home)
    follow_move(uri, workspace.home)
    replay_spool(uri, workspace.home)
    return Runs(uri, home=workspace.home)


def list_sweeps(workspace: Workspace | Server) -> list[SweepRecord]:
    """Returns the recorded sweeps, the newest first."""
    if isinstance(workspace, Server):
        return ask_all(workspace, route("sweeps"), SweepRecord)
    return open_record(workspace).sweeps()


def list_trials(sweep: str, workspace: Workspace | Server) -> SweepTrials:
    """Returns the trials of a sweep (id, unique beginning of one, name or `latest`). Raises
    `TrackingError` when there is none."""
    if isinstance(workspace, Server):
        meant = ask(workspace, route("sweeps", sweep), SweepRecord)
        rows = ask_all(workspace, route("sweeps", meant.sweep_id, "trials"), RunRecord)
        return SweepTrials(meant, rows)
    runs = open_record(workspace)
    found = runs.resolve_sweep(sweep)
    return SweepTrials(found, runs.trials(found.sweep_id))


def best_trials(
    sweep: str | tuple[str, ...],
    workspace: Workspace | Server,
    *,
    metric: str | tuple[str | None, str] | None = None,
    where: Sequence[str] = (),
    per: str | None = None,
    top: int | None = None,
) -> Best:
    """Returns the best configs of a sweep, or of each sweep (`all`, or the ids of several), what
    was found of them, and the winner under each metric.

    metric: to rank by, each sweep's objective by default, and by (metric, maximize | minimize) that
    way round; where: `field=value` each, or with != <
    <= > >=, all of which must hold; per: a field, for the `top` configs of each of its values (one
    by default). Raises `TrackingError` for an unknown sweep, `SpecError` for an unknown metric or
    field.
    """
    question = asked(sweep, metric=metric, where=where, per=per, top=top)
    if isinstance(workspace, Server):
        return ask_best(workspace, question)
    return find_best(open_record(workspace), question)


def ask_best(server: Server, question: Question, *, is_registered: bool = False) -> Best:
    """Returns a service's answer to a question of one sweep, or of all that its user sees;
    is_registered: of registered students instead of trials."""
    assert isinstance(question.sweep, str)
    path = route("sweeps", question.sweep, "best") if question.is_of_one else route("best")
    registered = {"registered": True} if is_registered else {}
    return ask(server, path, Best, {**question.to_params(), **registered})


def read_trial(run: str, workspace: Workspace | Server) -> TrialFile:
    """Returns the `trial.json` of a trial (run id, or SWEEP/NUMBER). Raises `TrackingError` when
    there is none."""
    if isinstance(workspace, Server):
        sweep, _, number = run.rpartition("/")
        return ask(workspace, route("sweeps", sweep, "trials", number, "file"), TrialFile)
    runs = open_record(workspace)
    return runs.trial_file(runs.get(run).run_id)


def write_best_trial(best: Best, workspace: Workspace | Server, path: Path) -> None:
    """Writes the `trial.json` of the best trial. Raises `TrackingError` when there is none,
    `PlanError` unless `path` is a new file in a folder that is there."""
    best.export(lambda one: read_trial(f"{one.sweep_id}/{one.trial}", workspace), path)


def compare_trials(
    trials: Sequence[str],
    workspace: Workspace | Server,
    *,
    significance: bool = False,
    metric: str | None = None,
    control: str | None = None,
    examples: bool = False,
) -> Comparison:
    """Returns what differs between trials (run ids, or SWEEP/NUMBER), and their metrics.

    significance: also what their seeds say of each config against a control; then a sweep may be
    named in place of its trials, and one is enough. metric: which one that is about, the sweeps'
    objective by default; control: a trial of the config that the others are compared with, by
    default the best of the control trials, else the first config; examples: compare by the scores
    of single examples too, which reads a file of each trial. Raises `SpecError` for fewer than
    two, and as `service.results.significance` does; `TrackingError` for what is not there.
    """
    if isinstance(workspace, Server):
        wanted = {"significance": significance, "metric": metric, "control": control}
        told: Params = {**wanted, "run": list(trials), "examples": examples}
        return ask(workspace, route("compare"), Comparison, told)
    if significance:
        return _significant(trials, open_record(workspace), metric, control, examples)
    for option, given in (("metric", metric), ("control", control), ("examples", examples)):
        if given:
            raise SpecError(
                f"--{option}: goes with --significance alone, but got it without. Add "
                f"--significance, or leave --{option} out."
            )
    if len(trials) < 2:
        raise SpecError(f"compare: two runs or more must be named, but got {len(trials)}. Add one.")
    runs = open_record(workspace)
    return compare([_with_surroundings(runs.get(trial), runs) for trial in trials])


def _significant(
    references: Sequence[str],
    runs: Runs,
    metric: str | None,
    control: str | None,
    examples: bool,
) -> Comparison:
    base = None if control is None else runs.get(control)
    found: dict[str, dict[str, RunRecord]] = {}
    for reference in references:
        for record in _meant(reference, runs):
            found.setdefault(record.sweep_id, {})[record.run_id] = record
    if base is not None and base.run_id not in found.get(base.sweep_id, {}):
        found.setdefault(base.sweep_id, {})[base.run_id] = base
    entries = [
        Entry(
            runs.resolve_sweep(sweep),
            tuple(records.values()),
            _inputs(records, found, runs),
            _tuning(sweep, records, runs),
        )
        for sweep, records in found.items()
    ]
    read = scores_of(runs) if examples else None
    judged = find_significance(entries, metric=metric, control=base, read=read)
    return compare([one for entry in entries for one in entry.records], judged)


def _tuning(sweep: str, records: Mapping[str, RunRecord], runs: Runs) -> tuple[RunRecord, ...]:
    """Returns the trials that chose learning rates for those of a study; none of other sweeps."""
    if not any(one.tuned for one in records.values()):
        return ()
    return tuple(one for one in runs.trials(sweep) if one.is_tuning)


def _meant(reference: str, runs: Runs) -> list[RunRecord]:
    """Returns the trials of a sweep, or the one trial, that a reference means."""
    if "/" in reference:
        return [runs.get(reference)]
    try:
        found = runs.trials(runs.resolve_sweep(reference).sweep_id)
        return [one for one in found if not one.is_tuning]
    except NotRecorded:
        try:
            return [runs.get(reference)]
        except NotRecorded as error:
            raise NotRecorded(
                f"compare: '{reference}': must be a sweep, SWEEP/NUMBER or a run's id, but got "
                "none of them. `kd-sweep sweeps` and `kd-sweep trials SWEEP` list them."
            ) from error


def _inputs(
    records: Mapping[str, RunRecord], sweeps: Mapping[str, object], runs: Runs
) -> dict[str, str]:
    """Returns the fingerprints of what a sweep's trials read, where it is one of several."""
    if len(sweeps) < 2:
        return {}
    around = _with_surroundings(next(iter(records.values())), runs).tags
    return {name: text for name, text in around.items() if name.startswith("fingerprint.")}


def _with_surroundings(record: RunRecord, runs: Runs) -> RunRecord:
    """Returns the record with what the trial ran in, which may explain a difference; as it is where
    its `trial.json` cannot be read."""
    try:
        around = surroundings(runs.trial_file(record.run_id))
    except TrackingError:
        return record
    return replace(record, tags=around | record.tags)
