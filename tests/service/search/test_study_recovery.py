"""The sweep's study after its driver's death, from an earlier sweep, and with a broken file."""

import math
from pathlib import Path

import optuna
import pytest
from study_support import CONDITIONAL, LISTED, PLAIN, drive, run, search, take

from search_spaces.samplers import Random, Tpe
from search_spaces.space import SearchSpace
from service.errors import JobError, PlanError
from service.search.ask import enqueue, retry
from service.search.early_stopping import (
    SuccessiveHalving,
)
from service.search.recover import reconcile
from service.search.study import StudyStore
from service.search.study_trials import Asked, StudyTrial, read_trials
from service.search.tell import report_value, tell
from service.search.warm_start import import_trials
from service.states import TrialState

# -- after a death


def test_running_trials_are_taken_up_again(storage: str) -> None:
    store = StudyStore.open(storage, "s", search())
    enqueue(store, {"soft_weight": 0.0}, label="control")
    control, sampled, done = take(store), take(store), take(store)
    report_value(store, sampled.number, evaluation=1, value=0.5)
    tell(store, done.number, TrialState.COMPLETED, 1.0)
    enqueue(store, {"soft_weight": 0.5})

    again = StudyStore.open(storage, "s", search())
    taken_up = reconcile(again)
    assert taken_up == [
        Asked(control.number, control.values, "control", 1),
        Asked(sampled.number, sampled.values, None, 1),
    ]
    assert reconcile(again)[0].attempt == 2
    assert report_value(again, sampled.number, evaluation=1, value=0.7) is False
    assert report_value(again, sampled.number, evaluation=2, value=0.8) is False
    tell(again, sampled.number, TrialState.COMPLETED, 0.9)
    record = again.records()[sampled.number]
    assert (record.attempt, record.intermediate) == (2, {1: 0.5, 2: 0.8})
    assert again.counts()[TrialState.PENDING] == 1


def test_a_trial_cut_short_while_it_was_sampled_is_completed(storage: str) -> None:
    store = StudyStore.open(storage, "s", search())
    trial = store.study.ask()
    trial.suggest_categorical("policy", ["fixed", "cist"])
    [asked] = reconcile(StudyStore.open(storage, "s", search()))
    assert CONDITIONAL.contains(asked.values)
    assert asked.values["policy"] == trial.params["policy"]


def test_what_was_decided_is_not_done_again(storage: str) -> None:
    asked_for = search(early_stopping=SuccessiveHalving())
    store = StudyStore.open(storage, "s", asked_for)
    told, stopped, diverged, good = (take(store).number for _ in range(4))
    # As a driver leaves it that dies between the two halves of `tell`.
    store.running(told).set_user_attr("outcome", {"state": "completed", "objectives": [3.0]})
    assert not any(
        report_value(store, good, evaluation=evaluation, value=5.0) for evaluation in (1, 2)
    )
    assert report_value(store, stopped, evaluation=2, value=1.0) is True
    assert report_value(store, diverged, evaluation=1, value=math.nan) is True

    again = StudyStore.open(storage, "s", asked_for)
    assert [asked.number for asked in reconcile(again)] == [good]
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
    enqueue(store, {"n": 7}, label="control")
    for _ in range(3):
        drive(store, take(store))
    content = path.read_bytes()
    for cut in range(0, len(content), 97):
        part = tmp_path / "part.log"
        part.write_bytes(content[:cut])
        again = StudyStore.open(str(part), "s", asked_for)
        for asked in reconcile(again):
            drive(again, asked)
        while sum(record.state.is_terminal for record in again.records()) < 4:
            drive(again, take(again))
        numbers = [record.number for record in again.records()]
        assert numbers == list(range(4))
        assert all(record.state.is_terminal for record in again.records())


# -- after a stop


def cancelled_with_its_sweep(storage: str) -> StudyStore:
    store = StudyStore.open(storage, "s", search())
    for resumes in (True, False):
        asked = take(store)
        report_value(store, asked.number, evaluation=1, value=0.5)
        tell(store, asked.number, TrialState.CANCELLED, resumes=resumes)
    return store


def test_a_cancelled_trial_keeps_its_number_when_it_is_taken_up(storage: str) -> None:
    before = [(r.state, r.values) for r in cancelled_with_its_sweep(storage).records()]
    again = StudyStore.open(storage, "s", search())
    assert reconcile(again) == [Asked(0, before[0][1], None, 1)]
    assert [record.state for record in again.records()] == [
        TrialState.RUNNING,
        TrialState.CANCELLED,
    ]
    assert take(again).number == 2, "what is held back is passed by"
    tell(again, 0, TrialState.COMPLETED, 0.9)
    [first, alone, _] = again.records()
    assert (first.state, first.attempt, first.values) == (TrialState.COMPLETED, 1, before[0][1])
    assert (alone.state, alone.values) == before[1]
    assert [asked.number for asked in reconcile(again)] == [2]


def test_one_that_was_cancelled_alone_is_taken_up_when_it_is_asked_for(storage: str) -> None:
    store = cancelled_with_its_sweep(storage)
    assert [record.is_held for record in store.records()] == [True, True]
    retry(store, 1)
    assert [record.state for record in store.records()] == [TrialState.CANCELLED] * 2
    assert [asked.number for asked in reconcile(store)] == [0, 1]


def test_a_cancelled_trial_is_taken_up_wherever_a_driver_died(journal: str) -> None:
    """The end is stored in two steps, and so is its undoing: after any of them the next driver has
    the trial once, and draws another point than it has."""
    reconcile(cancelled_with_its_sweep(journal))
    lines = Path(journal).read_bytes().splitlines(keepends=True)
    begin = next(n for n, line in enumerate(lines) if b"cancelled" in line)
    for cut in range(begin, len(lines) + 1):
        part = Path(f"{journal}-{cut}")
        part.write_bytes(b"".join(lines[:cut]))
        store = StudyStore.open(str(part), "s", search())
        assert 0 in [asked.number for asked in reconcile(store)]
        assert store.records()[0].state is TrialState.RUNNING
        points = [asked.values for asked in (take(store), take(store))]
        assert all(record.values not in points for record in store.records()[:-2])


def test_a_trial_that_an_older_version_cancelled_is_ended_for_good(storage: str) -> None:
    store = StudyStore.open(storage, "s", search())
    take(store)
    store.running(0).set_user_attr("outcome", {"state": "cancelled", "objectives": []})
    store.study.tell(0, state=optuna.trial.TrialState.FAIL)
    again = StudyStore.open(storage, "s", search())
    assert reconcile(again) == []
    [record] = again.records()
    assert (record.state, record.is_held) == (TrialState.CANCELLED, False)
    retry(again, 0)
    assert (take(again).number, again.records()[1].retry_of) == (1, 0)


# -- warm start


def test_warm_start_takes_what_fits_and_says_what_does_not(tmp_path: Path) -> None:
    old = str(tmp_path / "old.log")
    store = StudyStore.open(old, "old", search(PLAIN))
    enqueue(store, {"tau": 8.0, "beta": 0.5})
    enqueue(store, {"soft_weight": 0.0}, label="hard loss only")
    for state in (TrialState.COMPLETED, TrialState.COMPLETED, TrialState.FAILED):
        tell(store, take(store).number, state, 0.5)
    stopped, diverged = take(store).number, take(store).number
    report_value(store, stopped, evaluation=1, value=0.25)
    tell(store, stopped, TrialState.STOPPED_EARLY)
    tell(store, diverged, TrialState.DIVERGED)
    take(store)

    narrower = SearchSpace.parse(
        {"tau": {"float": [0.1, 7.9], "log": True}, "beta": {"float": [0, 1]}}
    )
    new = str(tmp_path / "new.log")
    warm = StudyStore.open(new, "new", search(narrower))
    used, refused = import_trials(warm, read_trials(old, "old"))
    assert used == 2
    assert [(record.number, reason) for record, reason in refused] == [
        (0, "tau=8.0 is not float 0.1 to 7.9, log"),
        (1, "'soft_weight' is not searched"),
        (2, "it is failed"),
        (5, "it is running"),
    ]
    assert warm.records() == []
    assert sum(warm.counts().values()) == 0
    inside = warm.study.get_trials()
    assert [trial.state.name for trial in inside] == ["PRUNED", "PRUNED"]
    assert inside[0].intermediate_values == {1: 0.25}

    # A driver that starts again asks again; nothing is taken twice.
    again = StudyStore.open(new, "new", search(narrower))
    assert import_trials(again, read_trials(old, "old"))[0] == 2
    assert len(again.study.get_trials()) == 2
    assert [record.number for record in again.records()] == []
    assert take(again).number == 2


def test_warm_start_spares_tpe_its_random_start(tmp_path: Path) -> None:
    space = SearchSpace.parse({"tau": {"float": [0, 1]}})
    records = [
        StudyTrial("old", index, 0, TrialState.COMPLETED, {"tau": index / 40}, None, (-index,))
        for index in range(40)
    ]
    store = StudyStore.open(str(tmp_path / "a"), "s", search(space, Tpe()))
    assert import_trials(store, records) == (40, [])
    drawn = [float(take(store).values["tau"]) for _ in range(10)]
    assert sorted(drawn)[5] < 0.25


def test_warm_start_needs_as_many_objectives(tmp_path: Path) -> None:
    record = StudyTrial("o", 0, 0, TrialState.COMPLETED, {"n": 1}, None, (1.0,))
    two = search(LISTED, directions=("maximize", "minimize"))
    store = StudyStore.open(str(tmp_path / "a"), "s", two)
    assert import_trials(store, [record]) == (
        0,
        [(record, "it has 1 objective(s), this sweep has 2")],
    )


# -- the file


def test_another_space_or_direction_is_refused(storage: str) -> None:
    StudyStore.open(storage, "s", search(PLAIN))
    with pytest.raises(JobError, match="study s: the search space must stay .*learn from this one"):
        StudyStore.open(storage, "s", search(LISTED))
    with pytest.raises(JobError, match="directions must stay maximize, but got minimize"):
        StudyStore.open(storage, "s", search(PLAIN, directions=("minimize",)))


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


@pytest.mark.parametrize("character", "\u2028\u2029\u0085")
def test_a_line_of_the_journal_may_hold_any_character(journal: str, character: str) -> None:
    run(StudyStore.open(journal, "s", search()), 2)
    content = Path(journal).read_bytes()
    changed = content.replace(b'"worker_id":"', b'"worker_id":"' + character.encode())
    assert changed != content
    Path(journal).write_bytes(changed)
    run(StudyStore.open(journal, "s", search()), 1)
    assert len(read_trials(journal, "s")) == 3


def test_the_lock_of_a_killed_writer_does_not_hold_up_the_next(journal: str) -> None:
    run(StudyStore.open(journal, "s", search()), 1)
    lock = Path(journal + ".lock")
    lock.symlink_to(journal)
    store = StudyStore.open(journal, "s", search())
    assert not lock.is_symlink()
    run(store, 1)


def test_a_file_system_without_symbolic_links_keeps_a_study(
    journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.symlink", refuse)
    run(StudyStore.open(journal, "s", search()), 2)
    assert len(read_trials(journal, "s")) == 2
    assert not Path(journal + ".lock").exists()


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
    with pytest.raises(PlanError, match=r"No module named 'oracledb'. Install it, or pip install"):
        read_trials("oracle://me@localhost:1/study", "s")
    with pytest.raises(PlanError, match=r"database must be reachable, but got .* from ://x"):
        read_trials("://x", "s")
    assert "secret" not in str(caught.value).split(":", 3)[-1].split("@")[0]
