"""A home folder and MLflow store of an earlier version go on: see data/home_1e61dfc/README.md."""

import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from cli_support import call, rows_of
from command_support import answer_of
from mlflow import MlflowClient

from service.errors import RerunMismatch
from service.record.runs import Runs
from service.search.study_trials import read_trials

MADE = Path(__file__).parent / "data" / "home_1e61dfc"
PREFIX = "/srv/kd-sweep"  # where the home was when it was packed
ANSWERS: dict[str, Any] = json.loads((MADE / "answers.json").read_text())
QUESTIONS = [one for one in ANSWERS if one.split()[0] not in ("export", "resume", "extend")]
FINISHED, INTERRUPTED = "finished-422ed677", "interrupted-74f15fbe"
# Without them another machine's arithmetic may differ in the last digits.
ARITHMETIC = ("provenance.cpu_features", "numerics.cpu_capability", "versions.torch")


@pytest.fixture
def home(kd_sweep_home: Path) -> Path:
    """The older home, unpacked as this test's own: moved, so that what it names is nowhere."""
    with tarfile.open(MADE / "home.tar.gz") as archive:
        archive.extractall(kd_sweep_home, filter="data")
    return kd_sweep_home


def store_of(home: Path) -> str:
    """The address of the home's own store."""
    return f"sqlite:///{home}/mlflow.db"


def known(answer: Any, shape: Any) -> Any:
    """The part of `answer` that `shape` has too: rows may have gained keys since."""
    if isinstance(shape, dict) and isinstance(answer, dict):
        return {key: known(answer[key], shape[key]) for key in shape if key in answer}
    if isinstance(shape, list) and isinstance(answer, list) and len(shape) == len(answer):
        return [known(one, other) for one, other in zip(answer, shape, strict=True)]
    return answer


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_gets_the_answer_that_it_got(home: Path, question: str) -> None:
    expected = json.loads(json.dumps(ANSWERS[question]).replace(PREFIX, str(home)))
    result = call(*question.split(), "--json")
    assert result.exit_code == 0, result.output
    assert known(json.loads(result.stdout), expected) == expected


def test_the_best_of_an_older_sweep_are_marked_by_what_was_measured(home: Path) -> None:
    (row,) = rows_of("best", "--sweep", "finished", "--top", "1")
    assert row["metrics"]["logit_scale_ratio"] < 0.5
    assert "times as large as the teacher's" in row["warning"]


def test_an_older_sweep_has_a_report_of_what_it_recorded(home: Path) -> None:
    result = call("report", "finished", "--json")
    assert result.exit_code == 0, result.output
    page = json.loads(result.stdout)
    assert page["answer"]["found"].startswith("forward_kl tau=0.9132 (trial 0) won: ")
    titles = [section["title"] for section in page["sections"]]
    assert "Objective against temperature" in titles and "Learning curves" in titles


def test_a_trial_is_exported(home: Path, tmp_path: Path) -> None:
    result = call("export", "finished/0", str(tmp_path / "winner"), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["names"] == ANSWERS["export finished/0"]
    student = home / "artifacts/kd-sweep" / Runs(store_of(home)).get("finished/0").run_id
    exported = (tmp_path / "winner/student/model.safetensors").read_bytes()
    assert exported == (student / "artifacts/student/model.safetensors").read_bytes()


def assert_gone_on(rows: list[dict[str, Any]], before: list[dict[str, Any]]) -> None:
    """The trials are those that the earlier version made of the same home; another machine's
    arithmetic may move the objective a little."""
    assert len(rows) == len(before)
    for row, other in zip(rows, before, strict=True):
        objective = other.get("objective")
        near = None if objective is None else pytest.approx(objective, rel=1e-3)
        assert {name: row[name] for name in other} == other | {"objective": near}


@pytest.mark.ray
@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_where_it_was(home: Path) -> None:
    before, started_ms = rows_of("trials", "interrupted"), 1000 * time.time()
    result = answer_of(home, "resume", "interrupted")
    assert (result["sweep_id"], result["state"]) == (INTERRUPTED, "completed")
    rows = answer_of(home, "trials", INTERRUPTED)
    assert rows[0] == before[0]
    assert rows[1] == before[1]
    assert_gone_on(rows, ANSWERS["resume interrupted"])
    # The killed trial keeps its number, run and hyperparameters, and starts from its checkpoint.
    assert (rows[2]["attempt"], rows[2]["run_id"]) == (1, before[2]["run_id"])
    assert rows[2]["hyperparameters"] == before[2]["hyperparameters"]
    losses = MlflowClient(store_of(home)).get_metric_history(rows[2]["run_id"], "train/loss")
    again = [one.step for one in losses if one.timestamp > started_ms]
    assert again == [9, 10, 11, 12]
    # The earlier version recorded the steps before under another name.
    history = Runs(store_of(home)).history(rows[2]["run_id"], "loss")
    assert [step for step, _ in history] == list(range(1, 13))


@pytest.mark.ray
@pytest.mark.slow
def test_a_finished_sweep_gets_more_trials_of_the_same_study(home: Path) -> None:
    journal = home / "sweeps" / FINISHED / "study.journal"
    lines = journal.read_bytes()
    before = read_trials(str(journal), FINISHED)
    result = answer_of(home, "extend", "finished", "--trials", "1")
    assert (result["sweep_id"], result["state"]) == (FINISHED, "completed")
    assert journal.read_bytes().startswith(lines)
    after = read_trials(str(journal), FINISHED)
    assert after[:4] == before
    rows = answer_of(home, "trials", FINISHED)
    expected = json.loads(json.dumps(ANSWERS["trials finished"]).replace(PREFIX, str(home)))
    assert known(rows[:4], expected) == expected
    assert_gone_on(rows, ANSWERS["extend finished --trials 1"])


@pytest.mark.slow
def test_a_completed_trial_trains_again_to_its_numbers(home: Path) -> None:
    # another CPU adds up in another order, and the command then says that the numbers differ
    result = answer_of(home, "rerun", "finished/0", "--local", exits=(0, RerunMismatch.exit_code))
    assert result["steps_compared"] > 0
    if any(name in result["differences"] for name in ARITHMETIC):
        for row in result["metrics"]:
            assert row["rerun"] == pytest.approx(row["recorded"], rel=1e-3, abs=1e-3), row
    else:
        assert result["verdict"] == "reproduced"
