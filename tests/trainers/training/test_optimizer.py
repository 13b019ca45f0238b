"""Learning rates over a training, and what decays."""

from typing import Any

import pytest
import torch

from trainers.training.optimizer import learning_rate, make_optimizer
from trainers.trial.config import TrialConfig


def config(**changed: Any) -> TrialConfig:
    return TrialConfig.model_validate({"steps": 100, "learning_rate": 1.0, **changed})


def test_warm_up_rises_to_the_peak_and_cosine_falls_to_zero() -> None:
    rates = [learning_rate(config(warmup=0.1), step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 1e-3
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_linear_and_constant_schedules() -> None:
    linear = [learning_rate(config(schedule="linear"), step, 100) for step in (0, 50, 99)]
    assert linear == pytest.approx([1.0, 0.5, 0.01])
    assert learning_rate(config(schedule="constant"), 99, 100) == 1.0


def test_the_step_schedule_falls_where_cifars_literature_has_it() -> None:
    """There epochs count from 1, and the rates hold from epochs 151, 181 and 211 of 240 on."""
    rates = [learning_rate(config(schedule="step"), step, 240) for step in range(240)]
    changes = [step + 1 for step in range(1, 240) if rates[step] != rates[step - 1]]
    assert changes == [151, 181, 211]
    assert [rates[0], rates[150], rates[180], rates[210]] == pytest.approx([1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize(("decay", "of_biases"), [("matrices", 0.0), ("all", 0.3)])
def test_what_decays(decay: str, of_biases: float) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    made = make_optimizer(config(weight_decay=0.3, decay=decay), module)
    decays = {
        tuple(p.shape): group["weight_decay"]
        for group in made.param_groups
        for p in group["params"]
    }
    assert decays == {(2, 3): 0.3, (2,): of_biases}
    assert type(make_optimizer(config(optimizer="sgd"), module)) is torch.optim.SGD
