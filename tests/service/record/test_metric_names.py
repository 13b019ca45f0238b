import pytest

from service.record.metric_names import logged_name, names_in_store, plain_metrics, plain_name
from trainers.tasks import table
from trainers.trial.metrics import TRAINING_METRICS


@pytest.mark.parametrize(
    ("plain", "logged"),
    [
        ("loss", "train/loss"),
        ("learning_rate", "train/learning_rate"),
        ("tokens_per_s", "train/tokens_per_s"),
        ("rouge_l", "eval/rouge_l"),
        ("a_metric_of_a_later_task", "eval/a_metric_of_a_later_task"),
        ("objective", "objective"),
    ],
)
def test_a_metric_has_a_group_in_mlflow_and_none_here(plain: str, logged: str) -> None:
    assert logged_name(plain) == logged
    assert logged_name(logged) == logged
    assert plain_name(logged) == plain_name(plain) == plain
    assert names_in_store(plain) == names_in_store(logged) == tuple({logged: 0, plain: 0})


def test_no_metric_of_an_evaluation_has_the_name_of_one_of_training() -> None:
    assert not set(TRAINING_METRICS) & {
        name for task in table.TASKS.values() for name in task.metrics
    }


def test_the_newer_of_two_names_has_the_value() -> None:
    older = {"loss": 3.0, "rouge_l": 0.1, "objective": 0.1}
    newer = {"train/loss": 2.0, "eval/rouge_l": 0.2}
    assert plain_metrics(older) == older
    assert plain_metrics(older | newer) == plain_metrics(newer | older)
    assert plain_metrics(older | newer) == {"loss": 2.0, "rouge_l": 0.2, "objective": 0.1}
