"""A real trial, recorded as a slot records it, trained again through the real command."""

import gc
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from mlflow import MlflowClient
from records_support import make_sinks, make_store, make_tracker, plan_of
from training_support import request as training_request
from training_support import trial as tiny_trial

from service.errors import PlanError, TrackingError, TrialError
from service.home import spool_folder
from service.record.runs import Runs
from service.rerun.engines import LocalEngine
from service.rerun.export import export
from service.rerun.rerun import RerunRequest, rerun
from service.rerun.verdict import Verdict
from service.states import TrialState
from trainers.numerics import resolve
from trainers.preparing.prepare import prepare
from trainers.training.run import run_trial
from trainers.trial.reporting import Leave
from trainers.trial.trial_file import TrialFile

STOPPED_AFTER = 4


class SinkReporter:
    """Reports to a sink, as a slot's reporter does, and stops after a step."""

    def __init__(self, log: Callable[..., None], stop_after: int | None) -> None:
        self.log, self.stop_after, self.step = log, stop_after, 0

    def advanced(self, step: int, num_steps: int) -> None:
        """Drops it."""

    def evaluated(self, step: int, evaluation: int, metrics: dict[str, float]) -> None:
        self.log(step, metrics)

    def notice(self, text: str) -> None:
        assert "times as large as the teacher's" in text  # a few steps from a fresh student

    def reason_to_leave(self) -> Leave:
        self.step += 1
        is_due = self.stop_after is not None and self.step > self.stop_after
        return Leave.VERDICT if is_due else Leave.NO


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with trials 0 (completed), 1 (stopped early) and 2 (failed) of one sweep."""
    home = tmp_path_factory.mktemp("home")
    prepared = prepare(training_request(home), home)
    uri, plan = make_store(home), plan_of()
    tracker, sinks = make_tracker(uri, home), make_sinks(uri, home)
    sweep = tracker.start_sweep(plan)
    for number, stop_after in enumerate((None, STOPPED_AFTER)):
        trial = tiny_trial(prepared, tau=2.0)
        update = {"trial": number, "sweep_id": plan.sweep_id, "versions": {"torch": "2.13.0+cpu"}}
        update["numerics"] = resolve("cpu", trial.config.precision, 1)
        trial = trial.model_copy(update=update)
        run = tracker.start_trial(sweep, trial, hyperparameters={"tau": 2.0}, label=None)
        sink, output = sinks(run), home / str(number)
        result = run_trial(trial, output, reporter=SinkReporter(sink.log, stop_after))
        (output / "result.json").write_text(json.dumps(asdict(result), default=str))
        sink.upload(output / "result.json")
        sink.upload(output / "student", "student")
        assert sink.close(60)
        tracker.finish_trial(run, TrialState(result.outcome.value), objective=0.0)
    failed = tiny_trial(prepared).model_copy(update={"trial": 2})
    run = tracker.start_trial(sweep, failed, hyperparameters={}, label=None)
    tracker.finish_trial(run, TrialState.FAILED)
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert tracker.close()
    return home


@pytest.fixture
def runs(home: Path) -> Runs:
    return Runs(f"sqlite:///{home}/mlflow.db")


def statuses(runs: Runs, run_id: str) -> list[tuple[str, str]]:
    """Status and state of each rerun of a trial."""
    client = MlflowClient(runs.uri)
    experiment = client.get_experiment_by_name("kd-sweep")
    found = client.search_runs([experiment.experiment_id], f"tags.`kd_sweep.rerun_of` = '{run_id}'")
    return [(one.info.status, one.data.tags["kd_sweep.state"]) for one in found]


def silent(line: str) -> None:
    return None


def test_a_trial_is_reproduced_to_the_bit(runs: Runs, home: Path) -> None:
    lines: list[str] = []
    result = rerun(RerunRequest("toy/0", local=True), runs, home=home, on_line=lines.append)
    judged = result.judgement
    assert judged.verdict is Verdict.REPRODUCED, judged.sentence()
    assert (judged.weights_equal, judged.steps_compared, judged.first_step) == (True, 6, None)
    assert {row.difference for row in judged.rows} == {0.0}
    assert result.exit_code == 0
    assert any("evaluation 2" in line for line in lines)
    record = runs.get(result.run_id)
    assert record.tags["rerun_of"] == result.record.run_id
    assert record.state is TrialState.COMPLETED
    assert len(runs.trials(result.record.sweep_id)) == 3
    assert not list((home / "reruns").iterdir())
    json.dumps(result.to_json(), allow_nan=False)


def test_a_trial_that_was_stopped_is_stopped_at_the_same_step(runs: Runs, home: Path) -> None:
    request = RerunRequest("toy/1", local=True, keep=True)
    result = rerun(request, runs, home=home, on_line=silent)
    assert result.judgement.verdict is Verdict.REPRODUCED, result.judgement.sentence()
    assert result.judgement.steps_compared == STOPPED_AFTER
    assert result.kept is not None
    assert json.loads((result.kept / "out" / "result.json").read_text())["steps"] == STOPPED_AFTER
    shutil.rmtree(result.kept)


def test_a_changed_input_is_refused_and_leaves_nothing_running(
    runs: Runs, home: Path, tmp_path: Path
) -> None:
    trial = runs.trial_file(runs.get("toy/0").run_id)
    other = tmp_path / "data"
    shutil.copytree(trial.paths.data, other)
    shutil.rmtree(other / "train")
    shutil.copytree(other / "validation", other / "train")
    request = RerunRequest("toy/0", local=True, mounts={"data": other})
    with pytest.raises(PlanError, match="paths.data: it must hold what the trial was made with"):
        rerun(request, runs, home=home, on_line=silent)
    found = statuses(runs, runs.get("toy/0").run_id)
    assert ("FAILED", "failed") in found
    assert "RUNNING" not in {status for status, _ in found}


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (RerunRequest("toy/2", local=True), TrackingError, "must be a finished trial.* is failed"),
        (RerunRequest("toy/0"), PlanError, "the trial ran outside a container.*--local"),
        (
            RerunRequest("toy/0", local=True, mounts={"data": Path("/no/such")}),
            PlanError,
            "the trial's data must be a folder.*--mount data=FOLDER",
        ),
        (
            RerunRequest("toy/0", local=True, mounts={"dta": Path("/")}),
            PlanError,
            "--mount: must name one of teacher, student, data, own_modules, but got 'dta'",
        ),
    ],
)
def test_what_cannot_be_run_again_is_said_before_any_compute(
    runs: Runs, home: Path, request_: RerunRequest, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        rerun(request_, runs, home=home, on_line=silent)


def test_without_docker_the_local_way_is_named(
    runs: Runs, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(PlanError, match="a Docker engine must answer.*--local"):
        rerun(RerunRequest("toy/0", image="kd-sweep"), runs, home=home, on_line=silent)
    with warnings.catch_warnings():
        # Docker's client leaves the socket open that found nobody.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_a_trial_that_fails_is_recorded_as_failed(
    runs: Runs, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "trainers.py").write_text("raise SystemExit(9)")
    monkeypatch.setattr(
        "service.rerun.engines.launcher", lambda workers: [str(tmp_path / "trainers.py")]
    )
    before = len(statuses(runs, runs.get("toy/0").run_id))
    with pytest.raises(TrialError, match="the trial ended with 9"):
        rerun(RerunRequest("toy/0", local=True), runs, home=home, on_line=silent)
    found = statuses(runs, runs.get("toy/0").run_id)
    assert len(found) == before + 1
    assert "RUNNING" not in {status for status, _ in found}


def test_an_interrupt_ends_the_trial_and_its_run(runs: Runs, home: Path) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt("Ctrl-C")

    with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
        rerun(RerunRequest("toy/0", local=True), runs, home=home, on_line=interrupt)
    assert ("KILLED", "cancelled") in statuses(runs, runs.get("toy/0").run_id)
    assert not list(spool_folder(home, runs.uri).glob("*.jsonl"))


def test_two_workers_are_launched_and_give_the_same_bits_each_time(
    runs: Runs, tmp_path: Path
) -> None:
    pair = runs.trial_file(runs.get("toy/0").run_id).model_copy(update={"world_size": 2})
    results = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        pair.write(tmp_path / name / "trial.json")
        arguments = ["trial.json", "--output", "out"]
        ended = LocalEngine().train(tmp_path / name, arguments, workers=2, on_line=silent)
        assert ended.code == 0, ended.last_lines
        result = json.loads((tmp_path / name / "out" / "result.json").read_text())
        steps = (tmp_path / name / "out" / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["metrics"].get("loss") for line in steps]
        results.append((result["weights_sha256"], result["metrics"], losses))
    assert results[0] == results[1]


def test_the_reason_of_a_failed_worker_is_told_not_its_launchers_report(tmp_path: Path) -> None:
    arguments = ["absent.json", "--output", "out"]
    ended = LocalEngine().train(tmp_path, arguments, workers=2, on_line=silent)
    assert ended.code != 0
    assert "absent.json" in ended.last_lines
    assert "failed (exitcode: 2)" in ended.last_lines
    assert "Traceback" not in ended.last_lines


def test_an_exported_folder_trains_to_the_same_weights(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers.__main__ import main

    made = export("toy/0", runs, tmp_path / "winner")
    assert made.names == (
        "README.md",
        "inputs",
        "recorded.json",
        "student",
        "trial.json",
    )
    monkeypatch.chdir(made.folder)
    assert main(["trial.json", "--output", "again"]) == 0
    recorded, again = (
        json.loads(Path(name).read_text()) for name in ("recorded.json", "again/result.json")
    )
    assert again["weights_sha256"] == recorded["weights_sha256"]
    assert again["metrics"] == recorded["metrics"]
    assert TrialFile.read(made.folder / "trial.json").paths.data == "inputs/data"
    assert "python -m trainers trial.json" in (made.folder / "README.md").read_text()


def test_an_export_needs_an_empty_folder_and_a_student(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="must be empty or new"):
        export("toy/0", runs, tmp_path)
    with pytest.raises(TrackingError, match="must have a student in the record.* failed"):
        export("toy/2", runs, tmp_path / "new")
