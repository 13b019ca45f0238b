"""Temperatures that look one step ahead: their gradient by differences of whole steps of the output
matrix, and what they may and may not look at."""

from dataclasses import replace

import pytest
import torch
from fused_loss_support import make_batch, run
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext
from trainers.losses.context import LossInputs
from trainers.losses.look_ahead import MOST_POSITIONS, LookAheadTemperature, two_sides
from trainers.losses.passes import BatchSettings
from trainers.losses.plain import cross_entropy
from trainers.sampled import Author, Sampled
from trainers.signal import TeacherSignal
from trainers.trial.config import TrialConfig

STEP, NUM, VOCAB = 0.05, 37, 53
IDS = torch.arange(NUM) // 6  # seven texts
CONTEXT = LossContext(sequence_ids=IDS, step=3, num_steps=10)
EVEN, ODD = (torch.nonzero(IDS % 2 == parity).flatten() for parity in (0, 1))


def config(divergence: str = "forward_kl", **fields: object) -> TrialConfig:
    look = {"tau": 2.0, "look_ahead_range": 4.0, "look_ahead_step": STEP}
    return TrialConfig.model_validate(
        {"divergence": divergence, "policy": "look_ahead", **look, **fields}
    )


def moved(loss: DistillationLoss) -> LookAheadTemperature:
    """The loss's temperatures, away from their start."""
    assert isinstance(loss.temperature, LookAheadTemperature)
    loss.temperature.m.data.copy_(torch.tensor([0.3, -0.2]))
    return loss.temperature


def steer(loss: DistillationLoss, batch: LossInputs, context: LossContext = CONTEXT) -> Tensor:
    """What is added to the gradient of the mean."""
    loss.zero_grad()
    sums = loss(batch.hidden, batch.head, batch.labels, batch.signal, context)
    (sums.total / len(batch.labels)).backward()
    assert isinstance(loss.temperature, LookAheadTemperature)
    assert loss.temperature.m.grad is not None
    return loss.temperature.m.grad.clone()


def after_a_step(settings: TrialConfig, batch: LossInputs, tau: list[float]) -> float:
    """The mean cross-entropy of the odd texts, after one step of gradient descent of the output
    matrix on the mean loss of the even ones, at temperatures of teacher and student."""
    assert batch.signal is not None
    loss = DistillationLoss(settings, VOCAB).double()
    weight = batch.head.weight.detach().clone().requires_grad_()
    head = replace(batch.head, weight=weight)
    signal = TeacherSignal(batch.signal.hidden[EVEN], batch.signal.head)
    temperature = torch.tensor(tau, dtype=torch.float64).expand(len(EVEN), 2)
    logits = head.logits(batch.hidden[EVEN])
    labels = batch.labels[EVEN]
    soft = loss.term.values(logits, signal.logits(), labels, BatchSettings(temperature))
    hard = cross_entropy(logits, labels)
    total = settings.hard_weight * hard.mean() + settings.soft_weight * soft.mean()
    (slope,) = torch.autograd.grad(total, weight)
    after = replace(head, weight=weight.detach() - STEP * slope)
    return cross_entropy(after.logits(batch.hidden[ODD]), batch.labels[ODD]).mean().item()


@pytest.mark.parametrize(
    ("fields", "head"),
    [
        ({}, {}),
        ({"divergence": "reverse_kl", "hard_weight": 0.5}, {}),
        ({"divergence": "generalized_jsd", "scaling": "none"}, {}),
        ({"forward_weight": 0.5, "entropy_threshold": 3.0}, {"soft_cap": 5.0, "scale": 0.7}),
    ],
)
def test_the_gradient_is_that_of_other_texts_after_a_step(
    fields: dict[str, object], head: dict[str, float]
) -> None:
    settings, batch = config(**fields), make_batch(NUM)  # type: ignore[arg-type]
    batch = replace(batch, head=replace(batch.head, **head))  # type: ignore[arg-type]
    loss = DistillationLoss(settings, VOCAB).double()
    temperature, expected = moved(loss), []
    found = steer(loss, batch)
    for place in (0, 1):
        values = []
        for change in (1e-4, -1e-4):
            m = temperature.m.detach().clone()
            m[place] += change
            tau = (2.0 * 4.0 ** torch.tanh(m)).tolist()
            values.append(after_a_step(settings, batch, tau))
        expected.append((values[0] - values[1]) / 2e-4)
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    assert all(abs(one) > 1e-9 for one in expected)


def test_the_student_learns_as_at_fixed_temperatures() -> None:
    """The look ahead changes nothing but the temperatures: at their start the student's gradient is
    that of policy fixed."""
    ahead, plain = (
        run(one, make_batch(NUM), fused=True) for one in (config(), TrialConfig(tau=2.0))
    )
    assert len(ahead[1]) == len(plain[1]) + 1
    for found, expected in zip(ahead[1], plain[1], strict=False):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(ahead[0].total, plain[0].total, rtol=1e-12, atol=0)


def test_both_sides_move_apart_within_their_range() -> None:
    temperature = LookAheadTemperature(2.0, 4.0, STEP).double()
    sides = torch.zeros(3, 5), torch.zeros(3, 5)
    assert temperature.value(*sides).tolist() == [[2.0, 2.0]] * 3
    temperature.m.data.copy_(torch.tensor([50.0, -50.0]))
    assert temperature.value(*sides)[1].tolist() == pytest.approx([8.0, 0.5])


def test_texts_of_the_student_are_never_looked_at() -> None:
    authors = torch.tensor([Author.DATA, Author.STUDENT, Author.TEACHER, *[Author.MIXTURE] * 4])
    sampled = Sampled(authors, authors > 0, torch.zeros(NUM))
    step, held = two_sides(make_batch(NUM), replace(CONTEXT, sampled=sampled))
    assert step.tolist() == list(range(6)) and held.tolist() == list(range(12, 18))


def test_without_two_texts_nothing_moves() -> None:
    loss = DistillationLoss(config(), VOCAB).double()
    moved(loss)
    one_text = LossContext(sequence_ids=torch.zeros(NUM, dtype=torch.int64))
    assert steer(loss, make_batch(NUM), one_text).tolist() == [0.0, 0.0]
    assert steer(loss, make_batch(NUM)).abs().min() > 0


def test_many_positions_are_thinned_evenly() -> None:
    batch = make_batch(200)
    step, held = two_sides(batch, LossContext(sequence_ids=torch.arange(200) // 10))
    assert len(step) == len(held) == MOST_POSITIONS
    assert step[0] == 0 and step[-1] >= 188 and len(step.unique()) == MOST_POSITIONS
    assert (step // 10 % 2 == 0).all() and (held // 10 % 2 == 1).all()


def test_models_without_an_output_matrix_are_refused() -> None:
    with pytest.raises(
        ValueError, match="'look_ahead' must have a task whose models end in an out"
    ):
        TrialConfig.model_validate({"task": "image_classification", "policy": "look_ahead"})


def test_documents_without_it_know_none_of_it() -> None:
    assert not {name for name in TrialConfig().model_dump() if name.startswith("look_ahead")}
