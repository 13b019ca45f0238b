"""CTKD's temperature for each position: the numbers of a NumPy program, and the network that climbs
the soft loss."""

import pytest
import torch
from fused_loss_support import CONTEXT, make_batch, run
from torch import Tensor

from trainers.losses import DistillationLoss
from trainers.losses.passes import BatchSettings
from trainers.losses.schedules import InstanceTemperature
from trainers.losses.soft_term import SoftTerm
from trainers.trial.config import TrialConfig

STUDENT = torch.tensor([[0.5, -1, 2], [0.2, 1, -0.5]], dtype=torch.float64)
TEACHER = torch.tensor([[1.2, 0.1, 1.5], [-0.3, 2, 0.4]], dtype=torch.float64)
CONFIG = TrialConfig(policy="curriculum_instance", curriculum_ramp=0.0)


def test_the_example_of_two_positions() -> None:
    """Theirs adds 1e-7 to probabilities, which shows from the fifth digit on; this is without."""
    m = torch.tensor([-1.0, 0.5], dtype=torch.float64, requires_grad=True)
    temperature = InstanceTemperature(20.0, 0.0, 3).of(m)
    assert temperature.tolist() == pytest.approx([6.3788284274, 13.449186624], abs=1e-9)
    leaf = STUDENT.clone().requires_grad_()
    settings = BatchSettings(temperature=temperature)
    value = SoftTerm(CONFIG, 3).values(leaf, TEACHER, torch.zeros(2).long(), settings).mean()
    value.backward()
    assert value.item() == pytest.approx(0.2328751296, abs=1e-9)
    assert leaf.grad is not None and m.grad is not None
    expected = [
        [-0.0598864137, -0.1037959021, 0.1636823157],
        [0.1581257499, -0.0920805412, -0.0660452087],
    ]
    for found, row in zip(leaf.grad.tolist(), expected, strict=True):
        assert found == pytest.approx(row, abs=1e-9)
    assert m.grad.tolist() == pytest.approx([-0.0009262902, 0.0010021942], abs=1e-9)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "generalized_jsd"])
def test_the_network_climbs_the_soft_loss(divergence: str) -> None:
    """Its gradient, reversed, is the derivative of the value: by differences; with all options."""
    fields = {"forward_weight": 0.5, "entropy_threshold": 3.9, "focus_rate": 0.1}
    policy = {"policy": "curriculum_instance", "curriculum_ramp": 0.0}
    config = TrialConfig.model_validate({"divergence": divergence, **policy, **fields})
    batch, loss = make_batch(), DistillationLoss(config, 53).double()
    given = (batch.hidden, batch.head, batch.labels, batch.signal, CONTEXT)
    loss(*given).total.backward()
    assert isinstance(loss.temperature, InstanceTemperature)
    parameters = list(loss.parameters())
    assert len(parameters) == 4
    for parameter in parameters:
        assert parameter.grad is not None
        place = int(parameter.grad.abs().argmax())
        found, values = parameter.grad.flatten()[place].item(), []
        for step in (1e-5, -2e-5):
            parameter.data.view(-1)[place] += step
            values.append(loss(*given).soft.item())
        parameter.data.view(-1)[place] += 1e-5
        slope = config.soft_weight * (values[0] - values[1]) / 2e-5
        assert found == pytest.approx(-slope, rel=1e-5)


def test_the_student_gets_no_gradient_through_the_network() -> None:
    def slope(temperature: Tensor | None) -> Tensor:
        leaf = batch.hidden.clone().requires_grad_()
        settings = loss.settings_of(batch, CONTEXT)
        found = settings.temperature if temperature is None else temperature
        logits = batch.head.logits(leaf), batch.signal.logits()  # type: ignore[union-attr]
        values = loss.term.values(*logits, batch.labels, BatchSettings(temperature=found))
        return torch.autograd.grad(values.sum(), leaf)[0]

    batch, loss = make_batch(), DistillationLoss(CONFIG, 53).double()
    temperature = loss.settings_of(batch, CONTEXT).temperature
    assert temperature is not None and temperature.shape == (37,)
    assert len(temperature.unique()) == 37
    torch.testing.assert_close(slope(None), slope(temperature.detach()), rtol=0, atol=0)


def test_it_starts_alike_in_every_trial_and_draws_nothing_from_them() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = DistillationLoss(CONFIG, 7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = DistillationLoss(CONFIG, 7).state_dict()
    assert len(first) == 4 and all(torch.equal(first[name], second[name]) for name in first)


def test_no_positions_give_zero_and_reach_every_parameter() -> None:
    sums, grads = run(CONFIG, make_batch(0), fused=True)
    assert sums.total == 0 and len(grads) == 7
    assert all((grad == 0).all() for grad in grads)


def test_regions_of_an_image_are_refused() -> None:
    fields = {"task": "image_classification", "regions": 2, "policy": "curriculum_instance"}
    with pytest.raises(ValueError, match="regions = 1 must hold with policy 'curriculum_instance'"):
        TrialConfig.model_validate(fields)
