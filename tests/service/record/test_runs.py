"""Queries on a real store with two sweeps, recorded once for all tests."""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow import MlflowClient
from records_support import make_store, make_tracker, plan_of, record_sweep, trial_of

from service.errors import TrackingError
from service.home import spool_folder
from service.record import tags
from service.record.reading import StoredRun
from service.record.records import run_record, sweep_record
from service.record.run_entries import trial_entry
from service.record.runs import Runs
from service.record.store import replay_spool
from service.record.tracking import Tracker
from service.states import TrialState

ROWS: list[tuple[dict[str, Any], dict[str, float]]] = [
    ({"divergence": "forward_kl", "tau": 1.0}, {"rouge_l": 0.20, "cross_entropy": 3.0}),
    ({"divergence": "forward_kl", "tau": 2.0}, {"rouge_l": 0.30, "cross_entropy": 2.5}),
    ({"divergence": "reverse_kl", "tau": 1.0}, {"rouge_l": 0.25, "cross_entropy": 2.0}),
    ({"divergence": "reverse_kl", "tau": 4.0}, {"rouge_l": math.nan, "cross_entropy": 9.0}),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    home = tmp_path_factory.mktemp("home")
    uri = make_store(home)
    plans = [plan_of(), plan_of("other")]
    record_sweep(uri, home, plans[0], ROWS)
    record_sweep(uri, home, plans[1], [(ROWS[0][0], {"rouge_l": 0.5})])
    tracker = make_tracker(uri, home)
    sweep = tracker.start_sweep(plans[0])
    values = {"divergence": "forward_kl", "tau": 8.0}
    for number, state in ((4, TrialState.FAILED), (5, TrialState.STOPPED_EARLY)):
        trial = trial_of(plans[0], number, values)
        run = tracker.start_trial(sweep, trial, hyperparameters=values, label="a control")
        tracker.finish_trial(run, state, objective=0.1)
    tracker.close()
    return uri, [plan.sweep_id for plan in plans]


@pytest.fixture
def runs(store: tuple[str, list[str]]) -> Runs:
    return Runs(store[0])


@pytest.fixture
def sweep_id(store: tuple[str, list[str]]) -> str:
    return store[1][0]


def test_sweeps_are_listed_newest_first(runs: Runs, store: tuple[str, list[str]]) -> None:
    assert [one.sweep_id for one in runs.sweeps()] == store[1][::-1]
    newest = runs.sweeps()[0]
    MlflowClient(store[0]).set_tag(newest.run_id, "kd_sweep.fact.num_completed", "1")
    row = runs.sweeps()[0].to_json()
    assert row["objective"] == {"metric": "rouge_l", "direction": "maximize"}
    assert row["facts"] == {"num_completed": 1}
    assert json.loads(json.dumps(row)) == row


def test_every_way_to_name_a_sweep(runs: Runs, store: tuple[str, list[str]]) -> None:
    first, second = store[1]
    assert runs.resolve_sweep("latest").sweep_id == second
    assert runs.resolve_sweep(first).sweep_id == first
    assert runs.resolve_sweep(first[:-3]).sweep_id == first
    assert runs.resolve_sweep("toy").sweep_id == first


def test_a_sweep_that_is_not_there_is_answered_with_the_nearest(runs: Runs) -> None:
    with pytest.raises(TrackingError, match="'tpy-123'.*Nearest: toy"):
        runs.resolve_sweep("tpy-123")


def test_a_prefix_of_two_sweeps_is_refused(
    tmp_path: Path,
) -> None:
    uri = make_store(tmp_path)
    tracker = make_tracker(uri, tmp_path)
    for version in "12":
        tracker.start_sweep(plan_of(code_version=version))
    tracker.close()
    with pytest.raises(TrackingError, match="must be the beginning of one id, but it is that of"):
        Runs(uri).resolve_sweep("toy-")


def test_a_store_without_sweeps_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="no sweep is recorded"):
        Runs(make_store(tmp_path)).resolve_sweep("latest")


def test_trials_come_by_number_with_typed_values(runs: Runs, sweep_id: str) -> None:
    trials = runs.trials(sweep_id)
    assert [one.trial for one in trials] == [0, 1, 2, 3, 4, 5]
    assert trials[1].hyperparameters == {"divergence": "forward_kl", "tau": 2.0}
    assert trials[1].config["scaling"] == "tau_squared"
    assert trials[1].objective == 0.30
    assert trials[4].state == TrialState.FAILED
    assert trials[5].label == "a control"
    assert math.isnan(trials[3].metrics["rouge_l"])
    row = trials[3].to_json()
    assert row["metrics"] == {"cross_entropy": 9.0, "rouge_l": None}
    assert row["objective"] is None
    keys = "sweep_id trial attempt run_id state hyperparameters metrics objective"
    assert set(keys.split()) <= row.keys()
    json.dumps(row, allow_nan=False)


def test_trials_of_earlier_versions_have_the_names_of_this_one(tmp_path: Path) -> None:
    uri, plan = make_store(tmp_path), plan_of()
    record_sweep(uri, tmp_path, plan, [({"tau": 1.0 + n}, {"rouge_l": n / 10}) for n in range(4)])
    runs, client = Runs(uri), MlflowClient(uri)
    ids = [one.run_id for one in runs.trials(plan.sweep_id)]
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        for run_id in ids[1], ids[2]:  # as an earlier version recorded them
            for name in "metrics", "latest_metrics":
                change = f"update {name} set key = 'rouge_l' where key = 'eval/rouge_l'"
                database.execute(f"{change} and run_uuid = ?", [run_id])
    client.log_metric(ids[2], "eval/rouge_l", 0.05, step=8)  # went on under this version
    found = [one.metrics["rouge_l"] for one in runs.trials(plan.sweep_id)]
    assert found == [0.0, 0.1, 0.05, 0.3]
    assert runs.get(ids[2]).metrics["rouge_l"] == 0.05
    assert runs.history(ids[2], "rouge_l") == [(4, 0.2), (8, 0.05)]


def test_a_trial_is_found_by_id_prefix_or_number(runs: Runs, sweep_id: str) -> None:
    trial = runs.trials(sweep_id)[2]
    assert runs.get(trial.run_id) == trial
    assert runs.get(trial.run_id[:12]) == trial
    assert runs.get(f"{sweep_id}/2") == trial


def test_what_is_no_trial_is_refused(runs: Runs, sweep_id: str) -> None:
    with pytest.raises(TrackingError, match="must be a trial, but got 'toy-"):
        runs.get(runs.resolve_sweep(sweep_id).run_id)
    with pytest.raises(TrackingError, match="but it is not there"):
        runs.get("0123456789abcdef")
    with pytest.raises(TrackingError, match="but it is not there"):
        runs.get(f"{sweep_id}/77")


def test_trial_file_history_and_artifacts(runs: Runs, sweep_id: str, tmp_path: Path) -> None:
    run_id = runs.trials(sweep_id)[1].run_id
    assert runs.trial_file(run_id).config.tau == 2.0
    assert runs.history(run_id, "rouge_l") == [(4, 0.30)]
    assert runs.download(run_id, "trial.json", tmp_path).read_text().startswith("{")
    with pytest.raises(TrackingError, match="needs the artifact 'student'"):
        runs.download(run_id, "student", tmp_path)
    with pytest.raises(TrackingError, match="needs the artifact 'trial.json'"):
        runs.trial_file(runs.resolve_sweep(sweep_id).run_id)


def test_a_trial_of_another_format_is_named(tmp_path: Path) -> None:
    uri, plan = make_store(tmp_path), plan_of()
    tracker = make_tracker(uri, tmp_path)
    run = tracker.start_trial(
        tracker.start_sweep(plan), trial_of(plan, 0, {}), hyperparameters={}, label=None
    )
    tracker.log_text(run, '{"format_version": 0}', "trial.json")
    tracker.close()
    with pytest.raises(TrackingError, match="is not a trial.json of format 1"):
        Runs(uri).trial_file(run)


def test_a_sweep_in_an_experiment_of_its_own_is_found(tmp_path: Path) -> None:
    uri, plan, other = make_store(tmp_path), plan_of(), plan_of("other")
    record_sweep(uri, tmp_path, plan, ROWS[:2])
    tracker = Tracker(uri, "mine", spool=spool_folder(tmp_path, uri, "mine"))
    sweep = tracker.start_sweep(other)
    trial = trial_of(other, 0, {"tau": 2.0})
    run = tracker.start_trial(sweep, trial, hyperparameters={"tau": 2.0}, label=None)
    tracker.log_metrics(run, 1, {"rouge_l": 0.9})
    tracker.finish_trial(run, TrialState.COMPLETED, objective=0.9)
    tracker.close()
    runs = Runs(uri)
    assert [one.sweep_id for one in runs.sweeps()] == [other.sweep_id, plan.sweep_id]
    assert runs.resolve_sweep("latest").sweep_id == other.sweep_id
    assert [one.run_id for one in runs.trials(other.sweep_id)] == [run]
    assert runs.get("other/0").run_id == runs.get(run[:12]).run_id == run
    assert runs.experiment_of(runs.get(run)) == "mine"
    found = [one for sweep in runs.sweeps() for one in runs.trials(sweep.sweep_id)]
    assert [one.metric("rouge_l") for one in found] == [0.9, 0.2, 0.3]
    assert [one.sweep_id for one in Runs(uri, "mine").sweeps()] == [other.sweep_id]


def test_what_waits_for_an_experiment_of_its_own_goes_there(tmp_path: Path) -> None:
    uri, plan = make_store(tmp_path), plan_of()
    folder = spool_folder(tmp_path, uri, "mine/ä")
    tracker = Tracker(uri, "mine/ä", spool=folder)
    sweep = tracker.start_sweep(plan)
    tracker.close()
    folder.mkdir(parents=True, exist_ok=True)
    entry = trial_entry(plan, trial_of(plan, 7, {}), {}, label=None, at_ms=5)
    (folder / "1.jsonl").write_text(entry.model_dump_json() + "\n")
    assert replay_spool(uri, tmp_path) == 0
    record = Runs(uri, "mine/ä").get(f"{plan.sweep_id}/7")
    assert record.experiment_id == Runs(uri).resolve_sweep(sweep).experiment_id


def test_a_deleted_experiment_is_named(tmp_path: Path) -> None:
    uri = make_store(tmp_path)
    record_sweep(uri, tmp_path, plan_of(), ROWS[:1])
    client = MlflowClient(uri)
    number = client.get_experiment_by_name("kd-sweep").experiment_id
    client.delete_experiment(number)
    with pytest.raises(
        TrackingError, match=rf"'kd-sweep' \(id {number}\); mlflow experiments rest"
    ):
        Runs(uri).resolve_sweep("latest")


EDITED = {
    tags.TRIAL: "first",
    tags.ATTEMPT: "9" * 5000,
    tags.STATE: "great",
    tags.SEARCHED: "[[1]]",
}


@pytest.mark.parametrize("name", EDITED)
def test_a_tag_that_was_edited_hides_no_other_run(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    uri, plan = make_store(tmp_path), plan_of()
    record_sweep(uri, tmp_path, plan, ROWS[:3])
    runs = Runs(uri)
    bad = runs.trials(plan.sweep_id)[1].run_id
    MlflowClient(uri).set_tag(bad, name, EDITED[name])
    assert [one.trial for one in runs.trials(plan.sweep_id)] == [0, 2]
    assert f"left out: run '{bad}'" in caplog.text
    with pytest.raises(TrackingError, match="must be as they were recorded"):
        runs.get(bad)


def test_a_sweep_whose_tags_were_edited_hides_no_other(tmp_path: Path) -> None:
    uri, plans = make_store(tmp_path), [plan_of(), plan_of("other")]
    for plan in plans:
        record_sweep(uri, tmp_path, plan, ROWS[:1])
    bad = Runs(uri).resolve_sweep("other").run_id
    MlflowClient(uri).set_tag(bad, tags.NUM_TRIALS, "many")
    assert [one.sweep_id for one in Runs(uri).sweeps()] == [plans[0].sweep_id]
    MlflowClient(uri).set_tag(bad, tags.NUM_TRIALS, "2")
    MlflowClient(uri).set_tag(bad, tags.FACT + "x", "[" * 4000)
    assert len(Runs(uri).sweeps()) == 2
    MlflowClient(uri).delete_tag(bad, tags.SWEEP_ID)
    assert [one.sweep_id for one in Runs(uri).sweeps()] == [plans[0].sweep_id]


def test_a_server_that_is_away_is_named() -> None:
    runs = Runs("http://127.0.0.1:9")
    for question in (runs.sweeps, lambda: runs.trials("x"), lambda: runs.get("x/0")):
        with pytest.raises(TrackingError, match=r"tracking: .* must answer, but got"):
            question()


@given(
    texts=st.dictionaries(
        st.sampled_from([name for name in vars(tags).values() if isinstance(name, str)]),
        st.text(max_size=20) | st.sampled_from(["{}", "[1]", "NaN", "1e999", "-1", "null"]),
    ),
    params=st.dictionaries(st.sampled_from(["seed", "tau", "x"]), st.text(max_size=9)),
)
@example(texts={}, params={"seed": "Infinity"})
def test_any_tags_are_a_record_or_our_error(texts: dict[str, str], params: dict[str, str]) -> None:
    run = StoredRun("r", "", "1", "RUNNING", 1, None, params=params, tags=texts)
    for make in (run_record, sweep_record):
        try:
            json.dumps(make(run).to_json())
        except ValueError as error:
            assert str(error).startswith("run 'r': its tags and params must be")
