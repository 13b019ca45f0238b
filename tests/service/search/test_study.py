"""The sweep's study: what is asked, told, stopped and kept."""

import json
import math
from pathlib import Path

import optuna
import pytest
from study_support import CONDITIONAL, PLAIN, goodness, run, search, take

from search_spaces.samplers import CmaEs, Gp, Grid, NsgaII, Random, Sampler, Tpe
from search_spaces.space import SearchSpace
from service.search.ask import ask, enqueue, retry
from service.search.early_stopping import (
    EarlyStopping,
    Hyperband,
    Median,
    SuccessiveHalving,
)
from service.search.journal import open_storage
from service.search.study import StudyStore
from service.search.study_trials import Asked, StudyTrial, read_trials
from service.search.tell import report_value, tell
from service.states import TrialState

# -- ask and tell


def test_a_trial_goes_its_way(storage: str) -> None:
    store = StudyStore.open(storage, "s-1", search())
    asked = take(store)
    assert (asked.number, asked.attempt, asked.label) == (0, 0, None)
    assert CONDITIONAL.contains(asked.values)
    assert store.counts()[TrialState.RUNNING] == 1
    assert report_value(store, 0, evaluation=1, value=0.25) is False
    assert tell(store, 0, TrialState.COMPLETED, 0.5) == TrialState.COMPLETED
    assert store.records() == [
        StudyTrial("s-1", 0, 0, TrialState.COMPLETED, asked.values, None, (0.5,), {1: 0.25})
    ]
    assert read_trials(storage, "s-1") == store.records()
    assert store.records()[0].objective == 0.5


STATES = [
    (TrialState.COMPLETED, 0.9, 0.9, "COMPLETE"),
    (TrialState.STOPPED_EARLY, None, 0.2, "PRUNED"),
    (TrialState.DIVERGED, None, None, "PRUNED"),
    (TrialState.FAILED, None, None, "FAIL"),
    (TrialState.CANCELLED, None, None, "WAITING"),
]


@pytest.mark.parametrize(("state", "told", "objective", "optuna_state"), STATES)
def test_states_are_what_the_table_says(
    storage: str, state: TrialState, told: float | None, objective: float | None, optuna_state: str
) -> None:
    store = StudyStore.open(storage, "s", search())
    take(store)
    report_value(store, 0, evaluation=1, value=0.1)
    report_value(store, 0, evaluation=2, value=0.2)
    assert tell(store, 0, state, told) == state
    [record] = StudyStore.open(storage, "s", search()).records()
    assert (record.state, record.objective) == (state, objective)
    [inside] = optuna.load_study(study_name="s", storage=open_storage(storage)).trials
    assert inside.state.name == optuna_state
    assert any(math.isnan(v) for v in inside.intermediate_values.values()) == (
        state == TrialState.DIVERGED
    )


def test_the_first_word_stands(journal: str) -> None:
    store = StudyStore.open(journal, "s", search())
    take(store)
    tell(store, 0, TrialState.COMPLETED, 1.0)
    assert tell(store, 0, TrialState.FAILED) == TrialState.COMPLETED
    assert report_value(store, 0, evaluation=3, value=5.0) is False
    assert store.records()[0].objective == 1.0
    assert store.records()[0].intermediate == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_objective_that_is_not_finite_diverged(journal: str, value: float) -> None:
    store = StudyStore.open(journal, "s", search(early_stopping=Median()))
    take(store)
    assert report_value(store, 0, evaluation=1, value=0.5) is False
    assert report_value(store, 0, evaluation=2, value=value) is True
    assert tell(store, 0, TrialState.COMPLETED, value) == TrialState.DIVERGED
    [record] = store.records()
    assert record.objectives == ()
    assert math.isnan(record.intermediate[2])


def test_what_cannot_be_told(journal: str) -> None:
    store = StudyStore.open(journal, "s", search())
    take(store)
    with pytest.raises(ValueError, match="end must be a final state, but got 'running'"):
        tell(store, 0, TrialState.RUNNING)
    with pytest.raises(ValueError, match=r"must have 1 objective\(s\), but got None"):
        tell(store, 0, TrialState.COMPLETED)
    with pytest.raises(ValueError, match="one of the 1 of s, but got 3"):
        tell(store, 3, TrialState.FAILED)
    enqueue(store, {"policy": "cist", "rho": 1.0, "learning_rate": 1e-3})
    with pytest.raises(ValueError, match="trial 1 must be running to be ended"):
        tell(store, 1, TrialState.FAILED)


def test_diverged_and_stopped_trials_teach_tpe(journal: str) -> None:
    space = SearchSpace.parse({"tau": {"float": [0, 1]}})
    store = StudyStore.open(journal, "s", search(space, Tpe(num_startup=10, seed=1)))
    late = []
    for index in range(60):
        asked = take(store)
        tau = float(asked.values["tau"])
        if index >= 30:
            late.append(tau)
        if tau > 0.4:
            # Late in training, where a bare NaN would look better than an early stop.
            report_value(store, asked.number, evaluation=3, value=0.0)
            tell(store, asked.number, TrialState.DIVERGED)
        else:
            report_value(store, asked.number, evaluation=1, value=-tau)
            tell(store, asked.number, TrialState.STOPPED_EARLY)
    assert sum(tau > 0.4 for tau in late) / len(late) < 0.3


# -- every sampler through the store


SAMPLERS: list[Sampler] = [
    Tpe(num_startup=4),
    Random(),
    Grid(points_per_range=3),
    Gp(num_startup=4),
    CmaEs(),
    NsgaII(population_size=4),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.kind)
@pytest.mark.parametrize("space", [CONDITIONAL, PLAIN], ids=["conditional", "plain"])
def test_a_reopened_study_goes_on_as_if_never_closed(
    tmp_path: Path, sampler: Sampler, space: SearchSpace
) -> None:
    several = 2 if sampler.kind == "nsgaii" else 1
    directions = ("maximize", "minimize")[:several]
    asked_for = search(space, sampler, directions=directions)
    whole = run(StudyStore.open(str(tmp_path / "a"), "s", asked_for), 9, objectives=several)
    pieces = []
    for _ in range(9):
        store = StudyStore.open(str(tmp_path / "b"), "s", asked_for)
        pieces += run(store, 1, objectives=several)
    if sampler.kind == "gp":
        # Its kernel fit starts from the last one, which a new process does not have.
        whole, pieces = whole[:4], pieces[:4]
    assert pieces == whole
    assert len({json.dumps(point) for point in whole}) == len(whole)


def test_the_grid_ends(journal: str) -> None:
    space = SearchSpace.parse({"n": {"int": [1, 3]}})
    store = StudyStore.open(journal, "s", search(space, Grid(points_per_range=9)))
    enqueue(store, {"n": 2}, label="two")
    assert [take(store).values["n"] for _ in range(3)] == [2, 1, 3]
    assert ask(store) is None
    enqueue(store, {"n": 7}, label="seven")
    assert take(store).values == {"n": 7}
    assert ask(store) is None


# -- trials in line


def test_enqueued_trials_come_first_and_as_given(storage: str) -> None:
    store = StudyStore.open(storage, "s", search())
    inside = {"policy": "fixed", "tau": 2.0, "learning_rate": 1e-3}
    outside = {"policy": "fixed", "tau": 1.0, "soft_weight": 0.0}
    enqueue(store, inside, label="forward_kl tau=2")
    enqueue(store, outside, label="hard loss only")
    assert store.counts()[TrialState.PENDING] == 2
    assert [r.values for r in store.records()] == [inside, outside]
    assert take(store) == Asked(0, inside, "forward_kl tau=2", 0)
    assert take(store) == Asked(1, outside, "hard loss only", 0)
    assert take(store).label is None


@pytest.mark.parametrize("sampler", [Gp(num_startup=3), CmaEs(), Tpe()], ids=lambda s: s.kind)
def test_trials_outside_the_space_do_not_blind_the_sampler(
    tmp_path: Path, sampler: Sampler
) -> None:
    """With them or without, the sampler models the same points."""
    found = []
    for name, controls in (("with", 2), ("without", 0)):
        store = StudyStore.open(str(tmp_path / name), "s", search(PLAIN, sampler))
        for _ in range(controls):
            enqueue(store, {"tau": 3.0, "soft_weight": 0.0}, label="hard loss only")
            tell(store, take(store).number, TrialState.COMPLETED, 99.0)
        for index in range(8):
            values = {"tau": 1.0 + index / 4, "beta": 0.1 * index}
            enqueue(store, values)
            tell(store, take(store).number, TrialState.COMPLETED, goodness(values))
        asked = take(store)
        visible = store.study.get_trials(deepcopy=False)
        assert len(visible) == 9
        space = store.study.sampler.infer_relative_search_space(store.study, visible[-1])
        found.append((sorted(space), set(asked.values)))
    assert found[0] == found[1] == (["beta", "tau"], {"beta", "tau"})


def test_a_failed_trial_is_retried_as_a_new_one(journal: str) -> None:
    store = StudyStore.open(journal, "s", search())
    enqueue(store, {"tau": 1.0, "soft_weight": 0.0}, label="control")
    first = take(store)
    with pytest.raises(ValueError, match="trial 0 must have failed.* but got state running"):
        retry(store, 0)
    tell(store, 0, TrialState.FAILED)
    retry(store, 0)
    again = take(store)
    assert (again.number, again.values, again.label) == (1, first.values, "control")


# -- early stopping


@pytest.mark.parametrize("kind", [SuccessiveHalving(), Median(num_startup=1), Hyperband()])
def test_weak_trials_are_stopped_but_never_at_their_last_evaluation(
    journal: str, kind: EarlyStopping
) -> None:
    store = StudyStore.open(journal, "s", search(early_stopping=kind))
    ends = []
    for level in range(8):
        number, end = take(store).number, 0
        for evaluation in (1, 2, 3, 4):
            if report_value(store, number, evaluation=evaluation, value=-float(level)):
                end = evaluation
                break
        ends.append(end)
        state = TrialState.STOPPED_EARLY if end else TrialState.COMPLETED
        tell(store, number, state, None if end else -float(level))
    assert ends[0] == 0
    assert set(ends) - {0} <= set(kind.rungs(4))
    assert any(ends)
    assert store.counts()[TrialState.STOPPED_EARLY] == sum(end > 0 for end in ends)


def test_a_verdict_is_repeated_and_survives(journal: str) -> None:
    asked_for = search(early_stopping=SuccessiveHalving())
    store = StudyStore.open(journal, "s", asked_for)
    good, weak = take(store).number, take(store).number
    assert [report_value(store, good, evaluation=e, value=5.0) for e in (1, 2)] == [False, False]
    assert [report_value(store, weak, evaluation=e, value=1.0) for e in (1, 2)] == [False, True]
    again = StudyStore.open(journal, "s", asked_for)
    assert [report_value(again, weak, evaluation=e, value=9.0) for e in (1, 2)] == [False, True]
    assert again.records()[weak].intermediate == {1: 1.0, 2: 1.0}


@pytest.mark.parametrize(
    ("last", "steps"), [(10, list(range(1, 11))), (4, [2, 5, 7, 10]), (3, [3, 6, 10]), (1, [10])]
)
def test_shorter_trials_are_judged_at_the_same_share(
    journal: str, last: int, steps: list[int]
) -> None:
    kind = SuccessiveHalving(grace=0.3)  # rungs at 3 and 6 of 10
    store = StudyStore.open(journal, "s", search(early_stopping=kind, num_evaluations=10))
    for level in (9.0, 8.0):
        number = take(store).number
        for evaluation in range(1, 11):
            report_value(store, number, evaluation=evaluation, value=level)
    number = take(store).number
    for evaluation in range(1, last + 1):
        report_value(store, number, evaluation=evaluation, value=10.0, last=last)
    assert list(store.records()[number].intermediate) == steps
    number = take(store).number
    verdicts = [
        report_value(store, number, evaluation=evaluation, value=1.0, last=last)
        for evaluation in range(1, last + 1)
    ]
    # stopped at its first evaluation after 30 % of its own budget; one that has only one, never
    assert (
        verdicts.index(True) == next(n for n, step in enumerate(steps) if step >= 3)
        if (last > 1)
        else not any(verdicts)
    )


def test_labelled_trials_are_not_stopped_but_count_for_the_others(journal: str) -> None:
    store = StudyStore.open(journal, "s", search(early_stopping=SuccessiveHalving()))
    point = {"policy": "fixed", "tau": 2.0, "learning_rate": 1e-3}
    verdicts = []
    for level in (9.0, 1.0):
        enqueue(store, point, label=f"control {level}")
        number = take(store).number
        verdicts += [
            report_value(store, number, evaluation=evaluation, value=level)
            for evaluation in (1, 2, 3, 4)
        ]
    assert not any(verdicts)
    number = take(store).number
    assert [
        report_value(store, number, evaluation=evaluation, value=5.0) for evaluation in (1, 2)
    ] == [False, True]


def test_trials_outside_the_space_are_neither_stopped_nor_compared(journal: str) -> None:
    store = StudyStore.open(journal, "s", search(early_stopping=SuccessiveHalving()))
    enqueue(store, {"soft_weight": 0.0})
    outside, first = take(store).number, take(store).number
    assert not any(
        report_value(store, outside, evaluation=evaluation, value=9.0)
        for evaluation in (1, 2, 3, 4)
    )
    assert not any(
        report_value(store, first, evaluation=evaluation, value=5.0) for evaluation in (1, 2, 3, 4)
    )


# -- several objectives


def test_two_objectives(storage: str) -> None:
    asked_for = search(PLAIN, NsgaII(population_size=4), directions=("maximize", "minimize"))
    store = StudyStore.open(storage, "s", asked_for)
    number = take(store).number
    assert report_value(store, number, evaluation=1, value=0.5) is False
    with pytest.raises(ValueError, match=r"must have 2 objective\(s\), but got 0\.5"):
        tell(store, number, TrialState.COMPLETED, 0.5)
    tell(store, number, TrialState.COMPLETED, [0.5, 2.0])
    assert tell(store, take(store).number, TrialState.COMPLETED, [0.5, math.nan]) == (
        TrialState.DIVERGED
    )
    assert [record.objectives for record in store.records()] == [(0.5, 2.0), ()]
    assert len(run(store, 6, objectives=2)) == 6


def test_what_cannot_be_searched(journal: str) -> None:
    two = {"directions": ("maximize", "minimize")}
    with pytest.raises(ValueError, match="early_stopping: kind must be none .* but got median"):
        StudyStore.open(journal, "s", search(early_stopping=Median(), **two))
    with pytest.raises(ValueError, match="cmaes must have one objective"):
        StudyStore.open(journal, "s", search(sampler=CmaEs(), **two))
