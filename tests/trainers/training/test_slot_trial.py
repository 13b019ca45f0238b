"""What a slot's worker does around a trial, without Ray's processes."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fakes import make_sweep_plan

from trainers.training import slot_trial
from trainers.training.slot_trial import SlotConfig, SlotReporter, Worker, run_assignment
from trainers.trial.assignments import Assignment, Ending, LeaveTrial, Report
from trainers.trial.reporting import Leave, Outcome, TrialResult
from trainers.trial.trial_file import TrialFile, TrialPaths


class MemorySink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.uploaded: list[tuple[str, str | None]] = []
        self.students: list[str] = []
        self.closed = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.logged.append((step, dict(metrics)))

    def upload(self, path: Path, artifact_path: str | None) -> None:
        self.uploaded.append((path.name, artifact_path))

    def keep_student(self, folder: Path) -> None:
        self.students.append(folder.name)

    def close(self, timeout_s: float) -> bool:
        self.closed = True
        return True


class Trials:
    """Takes the place of `run_trial`: does what the test says."""

    def __init__(self, act: Any) -> None:
        self.act = act
        self.calls = 0

    def __call__(self, trial: TrialFile, output: Path, **rest: Any) -> TrialResult:
        self.calls += 1
        result: TrialResult = self.act(trial, output, rest["reporter"])
        return result


def make_assignment(output: Path, attempt: int = 0) -> Assignment:
    trial = TrialFile(
        trial=5,
        attempt=attempt,
        config=make_sweep_plan().spec.trial_config({"tau": 2.0}),
        paths=TrialPaths(teacher="/t", student="/s", data="/d"),
    )
    return Assignment(f"5-{attempt}", 5, trial.model_dump_json(), str(output), "run")


def make_worker(act: Any, sink: MemorySink, board: Any = None, get: Any = None) -> Worker:
    trials = Trials(act)
    config = SlotConfig("slot", board, ".", lambda: trials, sinks=lambda run_id: sink)
    return Worker(config, train=trials, get=get, rank=0, local_rank=0, num_ranks=1)


def trained(trial: TrialFile, output: Path, reporter: Any) -> TrialResult:
    (output / "student").mkdir()
    reporter.log(1, {"loss": 2.0})
    return TrialResult(Outcome.COMPLETED, {"rouge_l": 3.0}, 4, 0.5, output / "student", "abc")


def close(worker: Worker) -> None:
    for thread in worker.closers:
        thread.join(10)


def test_a_trial_leaves_its_result_and_its_files(tmp_path: Path) -> None:
    sink = MemorySink()
    worker = make_worker(trained, sink)
    vote = run_assignment(worker, make_assignment(tmp_path))
    close(worker)
    assert vote.ending is Ending.DONE and vote.result is not None
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["weights_sha256"] == vote.result.weights_sha256
    assert sink.logged == [(1, {"loss": 2.0})]
    assert sink.uploaded == [("result.json", None)]
    assert sink.students == ["student"]
    assert sink.closed


def test_what_was_seen_of_its_loss_goes_to_the_record_too(tmp_path: Path) -> None:
    def looked_at(trial: TrialFile, output: Path, reporter: Any) -> TrialResult:
        (output / "diagnostics.json").write_text("{}")
        reporter.log(0, {"probe/off_top5": 0.5})
        return trained(trial, output, reporter)

    sink = MemorySink()
    worker = make_worker(looked_at, sink)
    run_assignment(worker, make_assignment(tmp_path))
    close(worker)
    assert sink.uploaded == [("diagnostics.json", None), ("result.json", None)]
    assert sink.logged[0] == (0, {"probe/off_top5": 0.5})


def test_the_board_hears_of_steps_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, int, int]] = []
    note = SimpleNamespace(remote=lambda *words: said.append(words))
    worker = make_worker(trained, MemorySink(), board=SimpleNamespace(note_step=note))
    reporter = SlotReporter(worker, make_assignment(tmp_path), None)
    for step, now in enumerate((10.0, 10.4, 10.9, 11.0, 11.5, 12.5), start=1):
        monkeypatch.setattr(slot_trial.time, "monotonic", lambda now=now: now)
        reporter.advanced(step, 6)
    assert said == [("5-0", 1, 6), ("5-0", 4, 6), ("5-0", 6, 6)]


def test_a_finished_attempt_whose_driver_died_is_not_trained_again(tmp_path: Path) -> None:
    sink = MemorySink()
    worker = make_worker(trained, sink)
    first = run_assignment(worker, make_assignment(tmp_path))
    again = run_assignment(worker, make_assignment(tmp_path, attempt=1))
    close(worker)
    assert again == first
    assert worker.train.calls == 1  # type: ignore[attr-defined]
    assert sink.logged[-1] == (4, {"rouge_l": 3.0})


@pytest.mark.parametrize("left", ["", '{"outcome": "compl', '{"outcome": "completed"}', "[]"])
def test_a_damaged_result_is_named_and_the_trial_trained_on(
    tmp_path: Path, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "result.json").write_text(left)
    worker = make_worker(trained, MemorySink())
    with caplog.at_level(logging.WARNING):
        vote = run_assignment(worker, make_assignment(tmp_path, attempt=1))
    close(worker)
    assert vote.ending is Ending.DONE and worker.train.calls == 1  # type: ignore[attr-defined]
    assert f"trial 5: {tmp_path}/result.json is damaged" in caplog.text


def test_a_stopped_attempt_is_trained_on(tmp_path: Path) -> None:
    def stopped(trial: TrialFile, output: Path, reporter: Any) -> TrialResult:
        return TrialResult(Outcome.STOPPED_EARLY, {}, 1, 0.5, None, None)

    worker = make_worker(stopped, MemorySink())
    run_assignment(worker, make_assignment(tmp_path))
    run_assignment(worker, make_assignment(tmp_path, attempt=1))
    close(worker)
    assert worker.train.calls == 2  # type: ignore[attr-defined]


def test_an_exception_is_the_trials_own_failure(tmp_path: Path) -> None:
    def cursed(trial: TrialFile, output: Path, reporter: Any) -> TrialResult:
        raise ValueError("the data are cursed")

    sink = MemorySink()
    worker = make_worker(cursed, sink)
    vote = run_assignment(worker, make_assignment(tmp_path))
    close(worker)
    assert (vote.ending, vote.result) == (Ending.ERROR, None)
    assert vote.error.endswith("ValueError: the data are cursed")
    assert sink.closed and sink.uploaded == []


@pytest.mark.parametrize("error", [MemoryError("full"), torch.OutOfMemoryError("full")])
def test_a_full_memory_names_the_batch_and_what_to_lower(tmp_path: Path, error: Exception) -> None:
    def large(trial: TrialFile, output: Path, reporter: Any) -> TrialResult:
        raise error

    worker = make_worker(large, MemorySink())
    vote = run_assignment(worker, make_assignment(tmp_path))
    close(worker)
    assert vote.ending is Ending.OUT_OF_MEMORY
    assert "trial 5 with batch_size=32, gradient_accumulation=1, max_tokens=512" in vote.error
    assert "or lower batch_size or max_tokens or max_prompt_tokens." in vote.error
    assert "lower batch_size" in vote.error


def test_the_reporter_stops_its_own_lease_only(tmp_path: Path) -> None:
    worker = make_worker(trained, MemorySink())
    reporter = SlotReporter(worker, make_assignment(tmp_path), None)
    worker.to_leave = LeaveTrial("4-0", Leave.VERDICT)
    assert reporter.reason_to_leave() is Leave.NO
    worker.to_leave = LeaveTrial("5-0", Leave.VERDICT)
    assert reporter.reason_to_leave() is Leave.VERDICT
    worker.to_leave = LeaveTrial("5-0", Leave.SWEEP_STOPPED)
    assert reporter.reason_to_leave() is Leave.SWEEP_STOPPED


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [(Outcome.PREEMPTED, Ending.PREEMPTED), (Outcome.INTERRUPTED, Ending.DONE)],
)
def test_a_trial_that_left_with_a_checkpoint_is_trained_on_and_sends_nothing(
    tmp_path: Path, outcome: Outcome, ending: Ending
) -> None:
    def leaving(trial: TrialFile, output: Path, reporter: Any) -> TrialResult:
        return TrialResult(outcome, {}, 1, 0.5, None, None)

    sink = MemorySink()
    worker = make_worker(leaving, sink)
    assert run_assignment(worker, make_assignment(tmp_path)).ending is ending
    run_assignment(worker, make_assignment(tmp_path, attempt=1))
    close(worker)
    assert worker.train.calls == 2  # type: ignore[attr-defined]
    assert sink.uploaded == [] and sink.closed


@pytest.mark.parametrize("outcome", ["stopped_early", "interrupted"])
def test_a_result_of_the_older_format_is_trained_on(
    tmp_path: Path, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    left = {"outcome": outcome, "metrics": {"rouge_l": 1.0}, "steps": 2, "train_s": 0.5}
    left |= {"student": "/home/u/sweeps/s/trials/5/student", "weights_sha256": "abc"}
    (tmp_path / "result.json").write_text(json.dumps(left))
    worker = make_worker(trained, MemorySink())
    vote = run_assignment(worker, make_assignment(tmp_path, attempt=1))
    close(worker)
    assert vote.result is not None and vote.result.outcome is Outcome.COMPLETED
    assert caplog.text == "", "it is not damaged"


def test_an_evaluation_waits_for_the_one_before(tmp_path: Path) -> None:
    order: list[str] = []

    def report(lease: str, sent: Report) -> str:
        order.append(f"sent {sent.evaluation}")
        return f"read {sent.evaluation}"

    board = SimpleNamespace(report=SimpleNamespace(remote=report))
    sink = MemorySink()
    worker = make_worker(trained, sink, board, order.append)
    reporter = SlotReporter(worker, make_assignment(tmp_path), sink)
    for evaluation in (1, 2):
        reporter.evaluated(evaluation * 2, evaluation, {"rouge_l": 1.0})
    assert order == ["sent 1", "read 1", "sent 2"]
    assert sink.logged == [(2, {"rouge_l": 1.0}), (4, {"rouge_l": 1.0})]
