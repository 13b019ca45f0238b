"""What the table of tasks says without torch."""

import subprocess
import sys

import pytest

from trainers.tasks import table
from trainers.trial.config import TrialConfig
from trainers.trial.metrics import directions


@pytest.mark.parametrize("name", table.TASKS)
def test_a_task_names_its_metrics(name: str) -> None:
    task = table.task_named(name)
    assert task.name == name
    assert all(metric.name == key for key, metric in task.metrics.items())
    assert task.default_metric in directions(task.metrics)
    assert "cross_entropy" in task.metrics
    assert not task.metrics["cross_entropy"].needs_teacher


def test_the_directions_of_a_language_model() -> None:
    assert list(directions(table.task_named("causal_lm").metrics).items()) == [
        ("rouge_l", "maximize"),
        ("top1_agreement", "maximize"),
        ("cross_entropy", "minimize"),
        ("kl_teacher_student", "minimize"),
        ("kl_student_teacher", "minimize"),
        ("exact_match", "maximize"),
        ("calibration_error", "minimize"),
    ]


def test_the_directions_of_all_tasks_are_known() -> None:
    known = table.known_directions()
    assert known["rouge_l"] == known["top1"] == "maximize"
    assert known["cross_entropy"] == known["calibration_error"] == "minimize"


def test_the_costs_of_a_language_model() -> None:
    task = table.task_named("causal_lm")
    assert task.guess_parameters({"n_embd": 10, "n_layer": 2}, 300) == 12 * 2 * 100 + 3000
    assert task.guess_parameters({"n_embd": 10}, 300) is None
    assert task.guess_parameters({"n_embd": 10, "n_layer": 2}, None) is None
    config = TrialConfig(evaluations=4000, max_new_tokens=7, generation_seeds=(1, 2))
    assert task.num_sampled_tokens(config, 3) == 42
    assert task.num_sampled_tokens(TrialConfig(generation_prompts=0), 3) == 0


def test_the_table_loads_nothing_heavy() -> None:
    code = "import sys, trainers.tasks.table; print({'torch', 'numpy'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
