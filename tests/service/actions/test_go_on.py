"""Sweeps gone on with: more trials, repeated ones, and knowledge of an earlier sweep."""

from pathlib import Path

import pytest
from fakes import make_sweep_plan

from service.actions.cluster import with_warm_start
from service.actions.go_on import stop_here, with_more_trials
from service.driver.lock import sweep_lock
from service.driver.open_study import apply_changes, open_study
from service.driver.study_changes import StudyChanges
from service.errors import JobError, PlanError
from service.plan.places import sweep_folder
from service.search.ask import ask
from service.search.study import StudyStore
from service.search.tell import tell
from service.states import TrialState


def make_study(home: Path, name: str, states: list[TrialState]) -> StudyStore:
    plan = make_sweep_plan(name=name)
    store = open_study(plan, sweep_folder(plan, home))
    for state in states:
        asked = ask(store)
        assert asked is not None
        tell(store, asked.number, state, 1.0 if state is TrialState.COMPLETED else None)
    return store


def test_an_extended_sweep_is_the_same_sweep() -> None:
    plan = make_sweep_plan(trials=4)
    longer = with_more_trials(plan, 6)
    assert (longer.sweep_id, longer.num_trials) == (plan.sweep_id, 10)


def test_a_grid_has_no_more_points_than_it_has() -> None:
    plan = make_sweep_plan(
        search={"tau": {"choice": [1.0, 2.0]}}, sampler={"kind": "grid"}, trials=2
    )
    with pytest.raises(
        PlanError, match="grid sampler has 2 points besides the controls, but got 3"
    ):
        with_more_trials(plan, 1)


def test_a_control_on_the_grid_is_not_drawn_again(tmp_path: Path) -> None:
    plan = make_sweep_plan(
        search={"tau": {"choice": [1, 2, 3]}},
        sampler={"kind": "grid"},
        trials=None,
        controls="default",
    )
    store = open_study(plan, sweep_folder(plan, tmp_path))
    asked = list(iter(lambda: ask(store), None))
    assert len(asked) == plan.num_trials == 5
    assert [one.label for one in asked[4:]] == [None] and asked[4].values == {"tau": 3}
    assert len({plan.spec.trial_config(one.values) for one in asked}) == 5


def test_a_warm_start_is_another_sweep() -> None:
    plan = make_sweep_plan()
    one, other = with_warm_start(plan, "dolly-1"), with_warm_start(plan, "dolly-2")
    assert len({plan.sweep_id, one.sweep_id, other.sweep_id}) == 3


def test_failed_trials_are_put_in_line_once(tmp_path: Path) -> None:
    store = make_study(tmp_path, "tiny", [TrialState.FAILED, TrialState.COMPLETED])
    plan = make_sweep_plan(name="tiny")
    changes = StudyChanges(retry_failed=True)
    assert list(apply_changes(changes, store, plan, home=tmp_path)) == ["trial 0 is in line again"]
    assert list(apply_changes(changes, store, plan, home=tmp_path)) == []
    asked = ask(store)
    assert asked is not None and asked.retry_of == 0


def test_a_completed_trial_is_not_repeated(tmp_path: Path) -> None:
    store = make_study(tmp_path, "tiny", [TrialState.COMPLETED])
    with pytest.raises(ValueError, match="must have failed, diverged or been cancelled"):
        plan = make_sweep_plan(name="tiny")
        list(apply_changes(StudyChanges(retry=(0,)), store, plan, home=tmp_path))


def test_a_warm_start_says_what_it_could_use(tmp_path: Path) -> None:
    make_study(tmp_path, "early", [TrialState.COMPLETED, TrialState.FAILED])
    source = make_sweep_plan(name="early").sweep_id
    plan = make_sweep_plan(name="late")
    store = open_study(plan, sweep_folder(plan, tmp_path))
    told = list(apply_changes(StudyChanges(warm_start=source), store, plan, home=tmp_path))
    assert told[0] == f"the sampler starts with 1 of the 2 finished trials of {source}"
    assert told[1].startswith(f"trial 1 of {source} cannot be used: ")
    assert store.records() == [], "they are no trials of this sweep"


def test_a_warm_start_from_nowhere_is_refused(tmp_path: Path) -> None:
    plan = make_sweep_plan()
    store = open_study(plan, sweep_folder(plan, tmp_path))
    with pytest.raises(JobError, match="no-such-sweep"):
        list(apply_changes(StudyChanges(warm_start="no-such-sweep"), store, plan, home=tmp_path))


def test_nothing_is_stopped_where_nothing_runs(tmp_path: Path) -> None:
    plan = make_sweep_plan()
    with pytest.raises(JobError, match="must run on this machine.*runs nowhere"):
        stop_here(plan, tmp_path)
    with sweep_lock(sweep_folder(plan, tmp_path)):
        pass
    with pytest.raises(JobError, match="runs nowhere"):
        stop_here(plan, tmp_path)
