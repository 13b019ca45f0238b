"""A task of lm-evaluation-harness that is a file here, on a small model."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from training_support import records, trial, write_lines

from trainers.evaluating import harness
from trainers.evaluating.evaluate import FinishedStudent
from trainers.evaluating.harness import check_tasks, task_scores
from trainers.training.run import run_trial
from trainers.trial.reporting import SilentReporter
from trainers.trial.sources import Prepared

CHOICES = ["sleeps", "runs"]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with one multiple-choice task over local questions."""
    rows = [{"question": one["instruction"], "choices": CHOICES, "answer": 0} for one in records(4)]
    questions = write_lines(tmp_path / "questions.jsonl", rows)
    folder = tmp_path / "tasks"
    folder.mkdir()
    task = {
        "task": "pets_here",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(questions)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": "acc"}],
    }
    (folder / "pets.yaml").write_text(yaml.safe_dump(task))
    return folder


@pytest.mark.filterwarnings("ignore")  # what lm-eval and datasets say of themselves
def test_a_local_task_is_run_by_name(prepared: Prepared, tasks: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="lm-eval's loader of transformers models needs it")
    check_tasks(["pets_here"], tasks)
    run_trial(trial(prepared, generation_prompts=0), tmp_path, reporter=SilentReporter())
    finished = FinishedStudent(trial(prepared), tmp_path / "student", {})
    found = finished.harness("pets_here", tasks, tmp_path / "out")
    assert found.facts.num_examples == 4
    assert set(found.metrics) <= {"acc", "acc_stderr"}
    assert found.metrics["acc"] in (0, 0.25, 0.5, 0.75, 1)
    samples = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert samples[0]["doc"]["question"] == records(1)[0]["instruction"]


@pytest.mark.filterwarnings("ignore")
def test_an_unknown_task_is_named_with_the_nearest(tasks: Path) -> None:
    with pytest.raises(ValueError, match="but got 'pets_her'. Did you mean 'pets_here'"):
        check_tasks(["pets_her"], tasks)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    harness._manager.cache_clear()
    with pytest.raises(ValueError, match=r"needs lm-evaluation-harness.*kd-sweep\[harness\]"):
        check_tasks(["arc_easy"], None)


def test_filters_stand_behind_a_dot() -> None:
    results = {"x": {"alias": "x", "acc,none": 0.5, "exact_match,strict-match": 1, "n": "N/A"}}
    found = task_scores("x", {"results": results, "n-samples": {"x": {"effective": 3}}})
    assert found.metrics == {"acc": 0.5, "exact_match.strict-match": 1.0}
    assert found.num_examples == 3
