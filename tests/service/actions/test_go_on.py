"""Sweeps that go on: with more trials, repeated ones, and knowledge of an earlier sweep; and those
that stop."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes import MemoryClient, make_study_document, make_sweep_plan
from records_support import make_store, plan_of, record_sweep

from service.actions import go_on, run
from service.actions.go_on import (
    MoreOfStudy,
    extend_sweep,
    read_more,
    resume_sweep,
    retry_trials,
    with_more,
    with_more_trials,
)
from service.actions.record import list_sweeps
from service.actions.run_result import RunEvent, RunResult, SweepBegins
from service.cluster import job as jobs
from service.cluster.sweep_job import SweepJob
from service.driver.lock import sweep_lock
from service.driver.open_study import (
    apply_changes,
    check_repeats,
    check_warm_start,
    open_study,
    trials_of,
    trials_to_start_with,
)
from service.driver.place import Place
from service.driver.study_changes import StudyChanges
from service.errors import JobError, PlanError, SpecError, TrackingError
from service.events import SweepSummary
from service.plan.estimates import InputFacts
from service.plan.places import plan_file, sweep_folder
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.record.runs import Runs
from service.search.ask import ask, retry
from service.search.recover import reconcile
from service.search.study import StudyStore
from service.search.tell import tell
from service.spec.parse import parse_spec
from service.states import TrialState
from service.workspace import Cluster, Workspace


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


def test_failed_trials_are_put_in_line_once(tmp_path: Path) -> None:
    store = make_study(tmp_path, "tiny", [TrialState.FAILED, TrialState.COMPLETED])
    plan = make_sweep_plan(name="tiny")
    changes = StudyChanges(retry_failed=True)
    assert list(apply_changes(changes, store, plan, home=tmp_path)) == ["trial 0 is in line again"]
    assert list(apply_changes(changes, store, plan, home=tmp_path)) == []
    asked = ask(store)
    assert asked is not None and asked.retry_of == 0


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ((0,), "trial 0 .* but trial 4 repeats it"),
        ((1,), "trial 1 .* must have failed, .* but it is completed"),
        ((3, 1, 2), "trial 1 "),
        ((9,), "trial 9 .* but there is none of this number"),
        ((), "none has that was not repeated: nothing to retry.*kd-sweep retry tiny-1 NUMBER"),
    ],
)
def test_what_cannot_be_repeated_is_refused(
    tmp_path: Path, trials: tuple[int, ...], message: str
) -> None:
    states = [TrialState.FAILED, TrialState.COMPLETED, TrialState.DIVERGED, TrialState.CANCELLED]
    store = make_study(tmp_path, "tiny", states)
    retry(store, 0)
    records = trials_of(make_sweep_plan(name="tiny"), tmp_path)
    with pytest.raises(PlanError, match=f"^retry: .*{message}"):
        check_repeats(StudyChanges(retry=trials, retry_failed=not trials), "tiny-1", records)
    check_repeats(StudyChanges(retry=(2, 3)), "tiny-1", records)


def test_trials_that_were_named_are_repeated_once(tmp_path: Path) -> None:
    store = make_study(tmp_path, "tiny", [TrialState.DIVERGED, TrialState.CANCELLED])
    plan, changes = make_sweep_plan(name="tiny"), StudyChanges(retry=(0, 1))
    assert len(list(apply_changes(changes, store, plan, home=tmp_path))) == 2
    assert [asked.number for asked in reconcile(store)] == [1], "a cancelled one as itself"
    assert list(apply_changes(changes, store, plan, home=tmp_path)) == []


def test_with_nothing_to_retry_nothing_is_driven(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_at", None)
    plan = plan_of()
    with pytest.raises(JobError, match=f"{plan.sweep_id}/study.journal: the study's journal must"):
        retry_trials("latest", workspace)
    store = open_study(plan, sweep_folder(plan, workspace.home))
    asked = ask(store)
    assert asked is not None
    tell(store, asked.number, TrialState.COMPLETED, 1.0)
    with pytest.raises(PlanError, match="nothing to retry"):
        retry_trials("latest", workspace)


def starting_with(source: str) -> SweepPlan:
    return make_sweep_plan(name="late").model_copy(update={"warm_start": source})


def test_a_warm_start_says_what_it_could_use(tmp_path: Path) -> None:
    make_study(tmp_path, "early", [TrialState.COMPLETED, TrialState.FAILED])
    source = make_sweep_plan(name="early").sweep_id
    plan = starting_with(source)
    known = f"the sampler starts with 1 of the 2 finished trials of {source}"
    assert check_warm_start(plan, trials_to_start_with(plan, tmp_path)) == known
    store = open_study(plan, sweep_folder(plan, tmp_path))
    told = list(apply_changes(StudyChanges(), store, plan, home=tmp_path))
    assert told[0] == known
    assert told[1].startswith(f"trial 1 of {source} cannot be used: ")
    assert store.records() == [], "they are no trials of this sweep"
    shutil.rmtree(sweep_folder(make_sweep_plan(name="early"), tmp_path))
    assert list(apply_changes(StudyChanges(), store, plan, home=tmp_path)) == [], "it knows them"


def test_a_warm_start_that_teaches_nothing_is_refused_before_anything_runs(tmp_path: Path) -> None:
    make_study(tmp_path, "early", [TrialState.FAILED])
    source = make_sweep_plan(name="early").sweep_id
    plan = starting_with(source)
    message = f"--from {source}: .* none of 1 does, the first because it is failed"
    with pytest.raises(PlanError, match=message):
        check_warm_start(plan, trials_to_start_with(plan, tmp_path))
    with pytest.raises(PlanError, match="none of 0 does. Start without it"):
        check_warm_start(plan, [])


def test_a_warm_start_from_nowhere_is_refused(tmp_path: Path) -> None:
    plan = starting_with("no-such-sweep")
    store = open_study(plan, sweep_folder(plan, tmp_path))
    with pytest.raises(JobError, match="no-such-sweep"):
        list(apply_changes(StudyChanges(), store, plan, home=tmp_path))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace whose record has one finished sweep of six trials."""
    record_sweep(make_store(tmp_path), tmp_path, plan_of(), [({"tau": 1.0}, {"rouge_l": 1.0})])
    return Workspace(tmp_path)


def test_going_on_here_drives_the_recorded_plan(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven: list[tuple[SweepPlan, StudyChanges]] = []

    def run_at(place: Place, plan: SweepPlan, **_: object) -> SweepSummary:
        driven.append((plan, place.changes))
        return SweepSummary(plan.sweep_id, run_id, "completed", {}, None, None, 1.0)

    run_id = list_sweeps(workspace)[0].run_id
    monkeypatch.setattr(run, "run_at", run_at)
    events: list[RunEvent] = []
    result = resume_sweep("latest", workspace, on_event=events.append)
    extend_sweep("latest", workspace, trials=5)
    monkeypatch.setattr(go_on, "_check_repeats", lambda *_: None)
    retry_trials("latest", workspace, trials=[3, 0])
    retry_trials("latest", workspace)
    assert isinstance(result, RunResult) and result.state == "completed"
    assert events == [SweepBegins(plan_of())]
    longer = with_more_trials(plan_of(), 5)
    assert driven == [
        (plan_of(), StudyChanges()),
        (longer, StudyChanges()),
        (plan_of(), StudyChanges(retry=(3, 0))),
        (plan_of(), StudyChanges(retry_failed=True)),
    ]


def test_going_on_there_is_another_job_of_the_same_sweep(
    workspace: Workspace, client: MemoryClient
) -> None:
    there = workspace.on(Cluster("http://head:8265"))
    first = resume_sweep("latest", there)
    client.infos[0].status = "FAILED"
    second = extend_sweep("latest", there, trials=2)
    assert isinstance(first, SweepJob) and isinstance(second, SweepJob)
    assert second.submission_id == f"{first.submission_id}-a2"
    order = jobs.order_of(client, second)
    assert order.plan.num_trials == plan_of().num_trials + 2
    assert order.max_driver_restarts == 1


def test_a_sweep_that_ended_before_it_was_recorded_goes_on(
    tmp_path: Path, client: MemoryClient
) -> None:
    make_store(tmp_path)
    there = Workspace(tmp_path, cluster=Cluster("http://head:8265"))
    with pytest.raises(TrackingError, match="no sweep is recorded"):
        resume_sweep("tiny", there)
    plan = make_sweep_plan()
    folder = sweep_folder(plan, tmp_path)
    with sweep_lock(folder):
        plan_file(folder).write_text(plan.model_dump_json())
    for reference in ("tiny", "latest", plan.sweep_id[:6]):
        job = resume_sweep(reference, there)
        assert isinstance(job, SweepJob) and jobs.order_of(client, job).plan == plan
        client.infos[-1].status = "FAILED"
    with pytest.raises(TrackingError, match="no sweep is recorded"):
        resume_sweep("teeny", there)


def test_a_plan_of_another_version_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(self: Runs, run_id: str, artifact: str, folder: Path) -> Path:
        path = folder / artifact
        path.write_text('{"plan": 1}')
        return path

    monkeypatch.setattr(Runs, "download", download)
    with pytest.raises(TrackingError, match="its plan.json must be one of this version"):
        resume_sweep("latest", workspace)


def study_plan(**changes: object) -> SweepPlan:
    spec = parse_spec(make_study_document(**changes))
    return make_plan(spec, InputFacts(), Resources(num_cpus=2), code_version="1")


def test_a_study_is_given_seeds_and_cells_under_its_id() -> None:
    plan = study_plan()
    more = with_more(plan, study=MoreOfStudy(2, ({"tau": [2, 8, 16]},)))
    assert more.study is not None
    assert more.study.seeds == (0, 1, 2, 3)
    assert [cell.label for cell in more.study.cells] == ["tau=1", "tau=2", "tau=8", "tau=16"]
    assert (more.sweep_id, more.num_trials) == (plan.sweep_id, 16)
    assert "cells: tau=2 is an earlier one again" in more.warnings[-1]


def test_a_study_of_a_search_section_is_given_cells_too() -> None:
    plan = study_plan(cells=None, search={"tau": {"choice": [1, 2]}})
    more = with_more(plan, study=MoreOfStudy(0, ({"tau": 4},)))
    assert more.study is not None
    assert [cell.label for cell in more.study.cells] == ["tau=1", "tau=2", "tau=4"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trials": 2}, "is a study, which takes --seeds and --cells, but got --trials"),
        ({}, "is a study, .* but got none"),
        (
            {"trials": 2, "study": MoreOfStudy(1)},
            "is a study, .* but got --trials beside them",
        ),
        ({"study": MoreOfStudy(0, ({"tau": 1},))}, "must get a cell that it has not"),
    ],
)
def test_a_study_is_given_nothing_else(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        with_more(study_plan(), **given)


@pytest.mark.parametrize("given", [{}, {"study": MoreOfStudy(1)}])
def test_a_search_is_given_trials_alone(given: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="is a search, which takes --trials alone, but got"):
        with_more(make_sweep_plan(), **given)


def test_new_cells_are_held_to_the_rules_of_a_study() -> None:
    with pytest.raises(SpecError, match=r"cells\[0\]\.batch_size: cells may not differ in it"):
        with_more(study_plan(), study=MoreOfStudy(0, ({"batch_size": 4},)))


def test_what_a_study_gets_is_read_as_yaml() -> None:
    assert read_more(2, None) == MoreOfStudy(2, ())
    assert read_more(0, "{tau: [1, 2]}") == MoreOfStudy(0, ({"tau": [1, 2]},))
    assert read_more(0, "[{tau: 1}, {tau: 2}]") == MoreOfStudy(0, ({"tau": 1}, {"tau": 2}))
    with pytest.raises(SpecError, match="^--cells: must be a list of mappings, or one, but got"):
        read_more(0, "tau")
    with pytest.raises(SpecError, match="^--cells, line 1"):
        read_more(0, "[1")
