"""The sweep's study: what is asked, told and kept, through any death of its driver."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces.samplers import CmaEs, Gp, Grid, NsgaII, Random, Sampler, Tpe
from search_spaces.space import SearchSpace
from service.early_stopping import (
    EarlyStopping,
    Hyperband,
    Median,
    NoEarlyStopping,
    SuccessiveHalving,
)
from service.errors import JobError, PlanError
from service.journal import open_storage
from service.states import TrialState
from service.study import StudyStore
from service.study_trials import Asked, Search, StudyTrial, read_trials

CONDITIONAL = SearchSpace.parse(
    {
        "policy": {"choice": ["fixed", "cist"]},
        "tau": {"float": [0.5, 8], "log": True, "when": {"policy": "fixed"}},
        "rho": {"float": [0.5, 2], "when": {"policy": "cist"}},
        "learning_rate": {"float": [1e-4, 1e-2], "log": True},
    }
)
PLAIN = SearchSpace.parse({"tau": {"float": [0.5, 8], "log": True}, "beta": {"float": [0, 1]}})
LISTED = SearchSpace.parse({"n": {"int": [1, 100]}})
NONE = NoEarlyStopping()

Open = Callable[..., StudyStore]


@pytest.fixture(params=["journal", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Both kinds of storage that a study is kept in."""
    if request.param == "journal":
        yield str(tmp_path / "study" / "study.log")
    else:
        yield f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "study.log")


def search(
    space: SearchSpace = CONDITIONAL,
    sampler: Sampler | None = None,
    early_stopping: EarlyStopping = NONE,
    **rest: Any,
) -> Search:
    return Search(space, sampler or Random(), early_stopping, **{"num_evaluations": 4} | rest)


def ask(store: StudyStore) -> Asked:
    asked = store.ask()
    assert asked is not None
    return asked


def goodness(values: dict[str, Any]) -> float:
    return -abs(float(values.get("tau", 4)) - 2) - abs(math.log10(values.get("learning_rate", 1)))


# -- ask and tell


def test_a_trial_goes_its_way(storage: str) -> None:
    store = StudyStore.open(storage, "s-1", search())
    asked = ask(store)
    assert (asked.number, asked.attempt, asked.label) == (0, 0, None)
    assert CONDITIONAL.contains(asked.values)
    assert store.counts()[TrialState.RUNNING] == 1
    assert store.report(0, 1, 0.25) is False
    assert store.tell(0, TrialState.COMPLETED, 0.5) == TrialState.COMPLETED
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
    (TrialState.CANCELLED, None, None, "FAIL"),
]


@pytest.mark.parametrize(("state", "told", "objective", "optuna_state"), STATES)
def test_states_are_what_the_table_says(
    storage: str, state: TrialState, told: float | None, objective: float | None, optuna_state: str
) -> None:
    store = StudyStore.open(storage, "s", search())
    ask(store)
    store.report(0, 1, 0.1)
    store.report(0, 2, 0.2)
    assert store.tell(0, state, told) == state
    [record] = StudyStore.open(storage, "s", search()).records()
    assert (record.state, record.objective) == (state, objective)
    [inside] = optuna.load_study(study_name="s", storage=open_storage(storage)).trials
    assert inside.state.name == optuna_state
    assert any(math.isnan(v) for v in inside.intermediate_values.values()) == (
        state == TrialState.DIVERGED
    )


def test_the_first_word_stands(journal: str) -> None:
    store = StudyStore.open(journal, "s", search())
    ask(store)
    store.tell(0, TrialState.COMPLETED, 1.0)
    assert store.tell(0, TrialState.FAILED) == TrialState.COMPLETED
    assert store.report(0, 3, 5.0) is False
    assert store.records()[0].objective == 1.0
    assert store.records()[0].intermediate == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_objective_that_is_not_finite_diverged(journal: str, value: float) -> None:
    store = StudyStore.open(journal, "s", search(early_stopping=Median()))
    ask(store)
    assert store.report(0, 1, 0.5) is False
    assert store.report(0, 2, value) is True
    assert store.tell(0, TrialState.COMPLETED, value) == TrialState.DIVERGED
    [record] = store.records()
    assert record.objectives == ()
    assert math.isnan(record.intermediate[2])


def test_what_cannot_be_told(journal: str) -> None:
    store = StudyStore.open(journal, "s", search())
    ask(store)
    with pytest.raises(ValueError, match="must be told a state that ends it, but got 'running'"):
        store.tell(0, TrialState.RUNNING)
    with pytest.raises(ValueError, match=r"must have 1 objective\(s\), but got None"):
        store.tell(0, TrialState.COMPLETED)
    with pytest.raises(ValueError, match="one of the 1 of s, but got 3"):
        store.tell(3, TrialState.FAILED)
    store.enqueue({"policy": "cist", "rho": 1.0, "learning_rate": 1e-3})
    with pytest.raises(ValueError, match="trial 1 must be running to be told"):
        store.tell(1, TrialState.FAILED)


def test_diverged_and_stopped_trials_teach_tpe(journal: str) -> None:
    space = SearchSpace.parse({"tau": {"float": [0, 1]}})
    store = StudyStore.open(journal, "s", search(space, Tpe(num_startup=10, seed=1)))
    late = []
    for index in range(60):
        asked = ask(store)
        tau = float(asked.values["tau"])
        if index >= 30:
            late.append(tau)
        if tau > 0.4:
            # Late in training, where a bare NaN would look better than an early stop.
            store.report(asked.number, 3, 0.0)
            store.tell(asked.number, TrialState.DIVERGED)
        else:
            store.report(asked.number, 1, -tau)
            store.tell(asked.number, TrialState.STOPPED_EARLY)
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


def run(store: StudyStore, trials: int, *, objectives: int = 1) -> list[dict[str, Any]]:
    points = []
    for _ in range(trials):
        asked = ask(store)
        points.append(asked.values)
        store.tell(asked.number, TrialState.COMPLETED, [goodness(asked.values)] * objectives)
    return points


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
    store.enqueue({"n": 2}, label="two")
    assert [ask(store).values["n"] for _ in range(3)] == [2, 1, 3]
    assert store.ask() is None
    store.enqueue({"n": 7}, label="seven")
    assert ask(store).values == {"n": 7}
    assert store.ask() is None


# -- trials in line


def test_enqueued_trials_come_first_and_as_given(storage: str) -> None:
    store = StudyStore.open(storage, "s", search())
    inside = {"policy": "fixed", "tau": 2.0, "learning_rate": 1e-3}
    outside = {"policy": "fixed", "tau": 1.0, "soft_weight": 0.0}
    store.enqueue(inside, label="forward_kl tau=2")
    store.enqueue(outside, label="hard loss only")
    assert store.counts()[TrialState.PENDING] == 2
    assert [r.values for r in store.records()] == [inside, outside]
    assert ask(store) == Asked(0, inside, "forward_kl tau=2", 0)
    assert ask(store) == Asked(1, outside, "hard loss only", 0)
    assert ask(store).label is None


@pytest.mark.parametrize("sampler", [Gp(num_startup=3), CmaEs(), Tpe()], ids=lambda s: s.kind)
def test_trials_outside_the_space_do_not_blind_the_sampler(
    tmp_path: Path, sampler: Sampler
) -> None:
    """With them or without, the sampler models the same points."""
    found = []
    for name, controls in (("with", 2), ("without", 0)):
        store = StudyStore.open(str(tmp_path / name), "s", search(PLAIN, sampler))
        for _ in range(controls):
            store.enqueue({"tau": 3.0, "soft_weight": 0.0}, label="hard loss only")
            store.tell(ask(store).number, TrialState.COMPLETED, 99.0)
        for index in range(8):
            values = {"tau": 1.0 + index / 4, "beta": 0.1 * index}
            store.enqueue(values)
            store.tell(ask(store).number, TrialState.COMPLETED, goodness(values))
        asked = ask(store)
        visible = store._study.get_trials(deepcopy=False)
        assert len(visible) == 9
        space = store._study.sampler.infer_relative_search_space(store._study, visible[-1])
        found.append((sorted(space), set(asked.values)))
    assert found[0] == found[1] == (["beta", "tau"], {"beta", "tau"})


def test_a_failed_trial_is_retried_as_a_new_one(journal: str) -> None:
    store = StudyStore.open(journal, "s", search())
    store.enqueue({"tau": 1.0, "soft_weight": 0.0}, label="control")
    first = ask(store)
    with pytest.raises(ValueError, match="trial 0 must have failed.* but got state running"):
        store.retry(0)
    store.tell(0, TrialState.FAILED)
    store.retry(0)
    again = ask(store)
    assert (again.number, again.values, again.label) == (1, first.values, "control")


# -- early stopping


@pytest.mark.parametrize("kind", [SuccessiveHalving(), Median(num_startup=1), Hyperband()])
def test_weak_trials_are_stopped_but_never_at_their_last_evaluation(
    journal: str, kind: EarlyStopping
) -> None:
    store = StudyStore.open(journal, "s", search(early_stopping=kind))
    ends = []
    for level in range(8):
        number, end = ask(store).number, 0
        for evaluation in (1, 2, 3, 4):
            if store.report(number, evaluation, -float(level)):
                end = evaluation
                break
        ends.append(end)
        state = TrialState.STOPPED_EARLY if end else TrialState.COMPLETED
        store.tell(number, state, None if end else -float(level))
    assert ends[0] == 0
    assert set(ends) - {0} <= set(kind.rungs(4))
    assert any(ends)
    assert store.counts()[TrialState.STOPPED_EARLY] == sum(end > 0 for end in ends)


def test_a_verdict_is_repeated_and_survives(journal: str) -> None:
    asked_for = search(early_stopping=SuccessiveHalving())
    store = StudyStore.open(journal, "s", asked_for)
    good, weak = ask(store).number, ask(store).number
    assert [store.report(good, e, 5.0) for e in (1, 2)] == [False, False]
    assert [store.report(weak, e, 1.0) for e in (1, 2)] == [False, True]
    again = StudyStore.open(journal, "s", asked_for)
    assert [again.report(weak, e, 9.0) for e in (1, 2)] == [False, True]
    assert again.records()[weak].intermediate == {1: 1.0, 2: 1.0}


def test_labelled_trials_are_not_stopped_but_count_for_the_others(journal: str) -> None:
    store = StudyStore.open(journal, "s", search(early_stopping=SuccessiveHalving()))
    point = {"policy": "fixed", "tau": 2.0, "learning_rate": 1e-3}
    verdicts = []
    for level in (9.0, 1.0):
        store.enqueue(point, label=f"control {level}")
        number = ask(store).number
        verdicts += [store.report(number, evaluation, level) for evaluation in (1, 2, 3, 4)]
    assert not any(verdicts)
    number = ask(store).number
    assert [store.report(number, evaluation, 5.0) for evaluation in (1, 2)] == [False, True]


def test_trials_outside_the_space_are_neither_stopped_nor_compared(journal: str) -> None:
    store = StudyStore.open(journal, "s", search(early_stopping=SuccessiveHalving()))
    store.enqueue({"soft_weight": 0.0})
    outside, first = ask(store).number, ask(store).number
    assert not any(store.report(outside, evaluation, 9.0) for evaluation in (1, 2, 3, 4))
    assert not any(store.report(first, evaluation, 5.0) for evaluation in (1, 2, 3, 4))


# -- after a death


def test_running_trials_are_taken_up_again(storage: str) -> None:
    store = StudyStore.open(storage, "s", search())
    store.enqueue({"soft_weight": 0.0}, label="control")
    control, sampled, done = ask(store), ask(store), ask(store)
    store.report(sampled.number, 1, 0.5)
    store.tell(done.number, TrialState.COMPLETED, 1.0)
    store.enqueue({"soft_weight": 0.5})

    again = StudyStore.open(storage, "s", search())
    taken_up = again.reconcile()
    assert taken_up == [
        Asked(control.number, control.values, "control", 1),
        Asked(sampled.number, sampled.values, None, 1),
    ]
    assert again.reconcile()[0].attempt == 2
    assert again.report(sampled.number, 1, 0.7) is False
    assert again.report(sampled.number, 2, 0.8) is False
    again.tell(sampled.number, TrialState.COMPLETED, 0.9)
    record = again.records()[sampled.number]
    assert (record.attempt, record.intermediate) == (2, {1: 0.5, 2: 0.8})
    assert again.counts()[TrialState.PENDING] == 1


def test_a_trial_cut_short_while_it_was_sampled_is_completed(journal: str) -> None:
    store = StudyStore.open(journal, "s", search())
    trial = store._study.ask()
    trial.suggest_categorical("policy", ["fixed", "cist"])
    [asked] = StudyStore.open(journal, "s", search()).reconcile()
    assert CONDITIONAL.contains(asked.values)
    assert asked.values["policy"] == trial.params["policy"]


def test_what_was_decided_is_not_done_again(journal: str) -> None:
    asked_for = search(early_stopping=SuccessiveHalving())
    store = StudyStore.open(journal, "s", asked_for)
    told, stopped, diverged, good = (ask(store).number for _ in range(4))
    # As a driver leaves it that dies between the two halves of `tell`.
    store._live(told).set_user_attr("outcome", {"state": "completed", "objectives": [3.0]})
    assert not any(store.report(good, evaluation, 5.0) for evaluation in (1, 2))
    assert store.report(stopped, 2, 1.0) is True
    assert store.report(diverged, 1, math.nan) is True

    again = StudyStore.open(journal, "s", asked_for)
    assert [asked.number for asked in again.reconcile()] == [good]
    states = [record.state for record in again.records()]
    assert states == [
        TrialState.COMPLETED,
        TrialState.STOPPED_EARLY,
        TrialState.DIVERGED,
        TrialState.RUNNING,
    ]
    assert [record.objective for record in again.records()] == [3.0, 1.0, None, None]


def test_every_prefix_of_the_journal_can_be_taken_up(tmp_path: Path) -> None:
    """A driver may die after any byte: the study opens, and the sweep ends with all its trials."""
    asked_for = search(LISTED, Random(), SuccessiveHalving())
    path = tmp_path / "whole.log"
    store = StudyStore.open(str(path), "s", asked_for)
    store.enqueue({"n": 7}, label="control")
    for _ in range(3):
        drive(store, ask(store))
    content = path.read_bytes()
    for cut in range(0, len(content), 97):
        part = tmp_path / "part.log"
        part.write_bytes(content[:cut])
        again = StudyStore.open(str(part), "s", asked_for)
        for asked in again.reconcile():
            drive(again, asked)
        while sum(record.state.is_terminal for record in again.records()) < 4:
            drive(again, ask(again))
        numbers = [record.number for record in again.records()]
        assert numbers == list(range(4))
        assert all(record.state.is_terminal for record in again.records())


def drive(store: StudyStore, asked: Asked) -> None:
    level = float(asked.values["n"])
    for evaluation in (1, 2, 3, 4):
        if store.report(asked.number, evaluation, level):
            store.tell(asked.number, TrialState.STOPPED_EARLY)
            return
    store.tell(asked.number, TrialState.COMPLETED, level)


# -- warm start


def test_warm_start_takes_what_fits_and_says_what_does_not(tmp_path: Path) -> None:
    old = str(tmp_path / "old.log")
    store = StudyStore.open(old, "old", search(PLAIN))
    store.enqueue({"tau": 8.0, "beta": 0.5})
    store.enqueue({"soft_weight": 0.0}, label="hard loss only")
    for state in (TrialState.COMPLETED, TrialState.COMPLETED, TrialState.FAILED):
        store.tell(ask(store).number, state, 0.5)
    stopped, diverged = ask(store).number, ask(store).number
    store.report(stopped, 1, 0.25)
    store.tell(stopped, TrialState.STOPPED_EARLY)
    store.tell(diverged, TrialState.DIVERGED)
    ask(store)

    narrower = SearchSpace.parse(
        {"tau": {"float": [0.1, 7.9], "log": True}, "beta": {"float": [0, 1]}}
    )
    new = str(tmp_path / "new.log")
    warm = StudyStore.open(new, "new", search(narrower))
    used, refused = warm.import_trials(read_trials(old, "old"))
    assert used == 2
    assert [(record.number, reason) for record, reason in refused] == [
        (0, "tau=8.0 is not float 0.1 to 7.9, log"),
        (1, "'soft_weight' is not searched"),
        (2, "it is failed"),
        (5, "it is running"),
    ]
    assert warm.records() == []
    assert sum(warm.counts().values()) == 0
    inside = warm._study.get_trials()
    assert [trial.state.name for trial in inside] == ["PRUNED", "PRUNED"]
    assert inside[0].intermediate_values == {1: 0.25}

    # A driver that starts again asks again; nothing is taken twice.
    again = StudyStore.open(new, "new", search(narrower))
    assert again.import_trials(read_trials(old, "old"))[0] == 2
    assert len(again._study.get_trials()) == 2
    assert [record.number for record in again.records()] == []
    assert ask(again).number == 2


def test_warm_start_spares_tpe_its_random_start(tmp_path: Path) -> None:
    space = SearchSpace.parse({"tau": {"float": [0, 1]}})
    records = [
        StudyTrial("old", index, 0, TrialState.COMPLETED, {"tau": index / 40}, None, (-index,))
        for index in range(40)
    ]
    store = StudyStore.open(str(tmp_path / "a"), "s", search(space, Tpe()))
    assert store.import_trials(records) == (40, [])
    drawn = [float(ask(store).values["tau"]) for _ in range(10)]
    assert sorted(drawn)[5] < 0.25


def test_warm_start_needs_as_many_objectives(tmp_path: Path) -> None:
    record = StudyTrial("o", 0, 0, TrialState.COMPLETED, {"n": 1}, None, (1.0,))
    two = search(LISTED, directions=("maximize", "minimize"))
    store = StudyStore.open(str(tmp_path / "a"), "s", two)
    assert store.import_trials([record]) == (
        0,
        [(record, "it has 1 objective(s), this sweep has 2")],
    )


# -- several objectives


def test_two_objectives(storage: str) -> None:
    asked_for = search(PLAIN, NsgaII(population_size=4), directions=("maximize", "minimize"))
    store = StudyStore.open(storage, "s", asked_for)
    number = ask(store).number
    assert store.report(number, 1, 0.5) is False
    with pytest.raises(ValueError, match=r"must have 2 objective\(s\), but got 0\.5"):
        store.tell(number, TrialState.COMPLETED, 0.5)
    store.tell(number, TrialState.COMPLETED, [0.5, 2.0])
    assert store.tell(ask(store).number, TrialState.COMPLETED, [0.5, math.nan]) == (
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


# -- the file


def test_another_space_or_direction_is_refused(journal: str) -> None:
    StudyStore.open(journal, "s", search(PLAIN))
    with pytest.raises(JobError, match="study s: the search space must stay .*learn from this one"):
        StudyStore.open(journal, "s", search(LISTED))
    with pytest.raises(JobError, match="directions must stay maximize, but got minimize"):
        StudyStore.open(journal, "s", search(PLAIN, directions=("minimize",)))


def test_a_journal_broken_in_the_middle_is_refused_and_named(journal: str) -> None:
    store = StudyStore.open(journal, "s", search())
    run(store, 2)
    lines = Path(journal).read_bytes().splitlines(keepends=True)
    lines[4] = lines[4][: len(lines[4]) // 2] + b"\n"
    broken = b"".join(lines)
    Path(journal).write_bytes(broken)
    for opened in (
        lambda: StudyStore.open(journal, "s", search()),
        lambda: read_trials(journal, "s"),
    ):
        with pytest.raises(JobError, match=r"study\.log: every line .* line 5 is not.*head -n 4"):
            opened()
    assert Path(journal).read_bytes() == broken


@pytest.mark.parametrize("tail", [b'{"op_code":4,"wor', b"\x00" * 64, b'{"op_code":4\n'])
def test_an_unfinished_last_line_is_cut_off_by_the_writer_only(journal: str, tail: bytes) -> None:
    store = StudyStore.open(journal, "s", search())
    run(store, 2)
    sound = Path(journal).read_bytes()
    Path(journal).write_bytes(sound + tail)
    assert len(read_trials(journal, "s")) == 2
    assert Path(journal).read_bytes() == sound + tail
    again = StudyStore.open(journal, "s", search())
    assert Path(journal).read_bytes() == sound
    run(again, 1)
    assert len(read_trials(journal, "s")) == 3


def test_the_lock_of_a_killed_writer_does_not_hold_up_the_next(journal: str) -> None:
    run(StudyStore.open(journal, "s", search()), 1)
    lock = Path(journal + ".lock")
    lock.symlink_to(journal)
    store = StudyStore.open(journal, "s", search())
    assert not lock.is_symlink()
    run(store, 1)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"none\.log: the study's journal must exist"):
        read_trials(str(tmp_path / "none.log"), "s")
    assert not (tmp_path / "none.log").exists()
    path = str(tmp_path / "study.log")
    StudyStore.open(path, "dolly-1234", search())
    with pytest.raises(JobError, match="must hold sweep 'dolly', but got only: dolly-1234"):
        read_trials(path, "dolly")
    with pytest.raises(PlanError, match=r"database must be reachable.*://me:\*\*\*@") as caught:
        read_trials("postgresql://me:secret@localhost:1/study", "s")
    assert "secret" not in str(caught.value).split(":", 3)[-1].split("@")[0]
