"""What a loss learns or moves over the training, and that checkpoints carry it."""

import pytest
import torch

from trainers.losses import DistillationLoss, LossContext
from trainers.losses.schedules import CurriculumTemperature, MixSchedule
from trainers.trial.config import TrialConfig


def test_curriculum_reverses_the_gradient_and_ramps_up() -> None:
    schedule = CurriculumTemperature(reach=20.0, ramp=0.5)
    assert schedule.value().item() == pytest.approx(
        1 + 20 * torch.sigmoid(torch.tensor(1.0)).item()
    )
    slopes = []
    for step in (0, 25, 50, 90):
        temperature = schedule(LossContext(step=step, num_steps=100))
        assert temperature.item() == pytest.approx(schedule.value().item())
        (slope,) = torch.autograd.grad(temperature, schedule.theta)
        (plain,) = torch.autograd.grad(schedule.value(), schedule.theta)
        slopes.append((slope / plain).item())
    assert slopes == pytest.approx([0.0, -0.5, -1.0, -1.0], abs=1e-6)
    at_once = CurriculumTemperature(reach=20.0, ramp=0.0)
    assert at_once.push(LossContext(step=0, num_steps=100)) == 1.0


def test_mix_never_falls_below_the_line_and_ends_at_its_end() -> None:
    schedule = MixSchedule(0.4, 1.0, rate=0.0)
    shares = [schedule(LossContext(step=step, num_steps=10)).item() for step in (0, 5, 10)]
    assert shares == pytest.approx([0.4, 0.7, 1.0])


def test_mix_grows_faster_while_the_loss_falls() -> None:
    falling, rising = (MixSchedule(0.2, 1.0, rate=0.05) for _ in range(2))
    start = LossContext(step=0, num_steps=1000)
    for step in range(30):
        falling.finish_step(100.0 / (step + 1), start)
        rising.finish_step(1.0 + step, start)
    assert falling(start) > rising(start) > 0.2
    assert falling(start) <= 1.0


def test_mix_by_hand() -> None:
    schedule = MixSchedule(0.4, 0.9, rate=0.1)
    schedule.finish_step(2.0, LossContext(step=0, num_steps=10))
    first = 0.4 + 0.1 * 0.5 * 0.6
    assert schedule(LossContext(step=0, num_steps=10)).item() == pytest.approx(first)
    # The line has overtaken it, and growth starts from there.
    schedule.finish_step(1.0, LossContext(step=5, num_steps=10))
    trend = torch.sigmoid(torch.tensor(0.01 * 0.5, dtype=torch.float64)).item()
    second = 0.65 + 0.1 * trend * (1 - 0.65)
    assert schedule(LossContext(step=0, num_steps=10)).item() == pytest.approx(second, rel=1e-9)
    assert schedule(LossContext(step=10, num_steps=10)).item() == pytest.approx(0.9)


def test_a_rise_from_nothing_does_not_hold_the_mix_down() -> None:
    """At t = 0 the soft loss is 0: any loss after it is infinitely more."""
    schedule, num_steps = MixSchedule(0.0, 1.0, rate=0.05), 2001
    for step, loss in enumerate([0.0, *[0.005] * 200]):
        schedule.finish_step(loss, LossContext(step=step, num_steps=num_steps))
    assert schedule(LossContext(step=200, num_steps=num_steps)).item() > 0.9


def test_state_is_in_the_checkpoint() -> None:
    config = TrialConfig(divergence="interpolated", mix_rate=0.1)
    loss = DistillationLoss(config, 7)
    loss.finish_step(2.0, step=0, num_steps=9)
    loss.finish_step(1.0, step=1, num_steps=9)
    again = DistillationLoss(config, 7)
    again.load_state_dict(loss.state_dict())
    again.finish_step(0.5, step=2, num_steps=9)
    loss.finish_step(0.5, step=2, num_steps=9)
    assert loss.mix is not None and again.mix is not None
    assert torch.equal(loss.mix.share, again.mix.share) and float(loss.mix.share) > 0.4

    curriculum = DistillationLoss(TrialConfig(policy="curriculum"), 7)
    assert [name for name, _ in curriculum.named_parameters()] == ["temperature.theta"]
    assert "temperature.theta" in curriculum.state_dict()


def test_other_losses_learn_and_keep_nothing() -> None:
    loss = DistillationLoss(TrialConfig(policy="cist"), 7)
    loss.finish_step(1.0, step=1, num_steps=9)
    assert not loss.state_dict() and not list(loss.parameters())
