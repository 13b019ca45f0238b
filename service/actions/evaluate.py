"""Students of chosen trials on evaluation sets."""

from collections.abc import Callable, Sequence
from pathlib import Path

from service.actions.record import open_record
from service.errors import SpecError
from service.evaluation.evaluate import Evaluation, HowToEvaluate, SetResult
from service.evaluation.judges import ModelAt, ModelHere, judge_named
from service.evaluation.judging import Judging
from service.evaluation.sets import NamedSet, named_sets, sets_of_sweeps
from service.record.plans import read_plan
from service.record.runs import Runs
from service.workspace import Workspace

__all__ = ["HowToEvaluate", "ModelAt", "ModelHere", "evaluate_trials", "judge_named"]


def evaluate_trials(
    trials: Sequence[str],
    workspace: Workspace,
    *,
    on: Sequence[str] = (),
    harness: Sequence[str] = (),
    how: HowToEvaluate | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[SetResult]:
    """Returns what the students of trials (run ids, or SWEEP/NUMBER) score on evaluation sets
    (`[NAME=]PLACE` each) and on tasks of lm-evaluation-harness (`harness`, by name), and records it
    with their runs; with neither, on the sets that their sweep names in `data.test`. A set that a
    run was evaluated on is not measured again, unless `how` says so; say: takes what is being done,
    a line each.

    Raises `SpecError` for no trial or set, `TrackingError` for a run that is no finished trial or
    has no student, `PlanError` for a set that is missing, of another task or without labels, and
    for a judge that cannot judge.
    """
    if not trials:
        raise SpecError("evaluate: a trial must be named, but got none. Add RUN or SWEEP/NUMBER.")
    given = named_sets(on, workspace.folder, harness)
    runs = open_record(workspace)
    sets = given or _own_sets(runs, trials, workspace.folder)
    how = how or HowToEvaluate()
    evaluation = Evaluation(runs, workspace.home, how, say)
    if how.judge is None:
        return evaluation.evaluate(trials, sets)
    judging = Judging(runs, workspace.home, how.judge, say)
    judging.check(sets)
    return judging.results(evaluation.evaluate(trials, sets))


def _own_sets(runs: Runs, trials: Sequence[str], folder: Path) -> list[NamedSet]:
    sweeps = dict.fromkeys(runs.get(trial).sweep_id for trial in trials)
    return sets_of_sweeps({one: read_plan(runs, one).spec.data.test for one in sweeps}, folder)
