"""What is observed of a loss is what that loss does: for every divergence and policy."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext
from trainers.losses.context import LossInputs
from trainers.losses.gradients import GradientRows, top_columns
from trainers.losses.observed import OWN, LogitRows, Observed, Observer, moments, soft_gradient
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.config import TrialConfig

ROWS, VOCAB = 8, 11
CASES = [
    *((name, sorted(row.policies)[0]) for name, row in DIVERGENCES.items()),
    *(("forward_kl", policy) for policy in POLICIES if policy != "none"),
    ("reverse_kl", "cist"),
    ("generalized_jsd", "curriculum"),
    ("trainers.losses.divergences:total_variation", "logit_standardization"),  # as a user's own
]


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    student, teacher = 2 * torch.randn(2, ROWS, VOCAB, generator=generator)
    return student, teacher


def made(logits: tuple[Tensor, Tensor], **fields: Any) -> tuple[DistillationLoss, LossInputs]:
    """A loss, and positions whose hidden states are the logits."""
    loss = DistillationLoss(TrialConfig(**fields), VOCAB)
    head = OutputHead.identity(VOCAB, torch.device("cpu"))
    labels = torch.arange(ROWS) % VOCAB
    return loss, LossInputs(logits[0], head, labels, TeacherSignal(logits[1], head))


def look(
    logits: tuple[Tensor, Tensor], *, with_ladder: bool = False, **fields: Any
) -> tuple[Observer, Observed]:
    """All positions, in two parts where rows stand for themselves."""
    loss, inputs = made(logits, **fields)
    context = LossContext(sequence_ids=torch.arange(ROWS) // 4, step=3, num_steps=10)
    observer, settings = Observer(loss, context), loss.settings_of(inputs, context)
    row = DIVERGENCES.get(loss.config.divergence)
    size = ROWS if row is not None and row.couples_rows else 5
    parts = [
        observer.look(
            LogitRows(
                logits[0][start : start + size],
                logits[1][start : start + size],
                inputs.labels[start : start + size],
                settings.rows(slice(start, start + size)),
            ),
            with_ladder=with_ladder,
        )
        for start in range(0, ROWS, size)
    ]
    return observer, Observed.joined(parts)


@pytest.mark.parametrize(("divergence", "policy"), CASES)
def test_the_trials_gradient_is_that_of_its_training(
    logits: tuple[Tensor, Tensor], divergence: str, policy: str
) -> None:
    fields = {"divergence": divergence, "policy": policy, "hard_weight": 0.2, "soft_weight": 0.7}
    _, seen = look(logits, **fields)
    loss, inputs = made(logits, **fields)
    context = LossContext(sequence_ids=torch.arange(ROWS) // 4, step=3, num_steps=10)
    leaf = logits[0].clone().requires_grad_()
    total = loss(leaf, inputs.head, inputs.labels, inputs.signal, context).total
    (whole,) = torch.autograd.grad(total, leaf)
    hard = logits[0].softmax(-1) - torch.nn.functional.one_hot(inputs.labels, VOCAB)
    soft = (whole - 0.2 * hard) / 0.7
    expected = GradientRows.joined([GradientRows.of(soft, top_columns(logits[1]))])
    for name in ("mass", "off_top1", "off_top5", "square"):
        found = getattr(seen.gradients[OWN], name)
        torch.testing.assert_close(found, getattr(expected, name), rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(seen.hard_square.float(), hard.square().sum(-1))


@pytest.mark.parametrize(("divergence", "policy"), CASES)
def test_every_number_is_there_and_finite(
    logits: tuple[Tensor, Tensor], divergence: str, policy: str
) -> None:
    observer, seen = look(logits, divergence=divergence, policy=policy, with_ladder=True)
    found = observer.metrics(seen)
    shares = {f"{kl}off_top{n}" for kl in ("", "forward_kl_", "reverse_kl_") for n in (1, 5)}
    assert found.keys() >= shares | {"soft_entropy_std", "hard_to_soft", "cosine_to_tau_1"}
    assert all(math.isfinite(value) for value in found.values())
    for name in shares - {"off_top1", "off_top5"}:
        assert 0 <= found[name] <= 1


def test_a_kl_of_the_trials_own_stands_under_its_name_too(logits: tuple[Tensor, Tensor]) -> None:
    observer, seen = look(logits, divergence="reverse_kl", tau=3.0)
    found = observer.metrics(seen)
    assert found["reverse_kl_off_top5"] == found["off_top5"] != found["forward_kl_off_top5"]


def test_both_kls_are_softened_by_the_trials_policy(logits: tuple[Tensor, Tensor]) -> None:
    _, of_jeffreys = look(logits, divergence="jeffreys", policy="cist", rho=4.0)
    for name in ("forward_kl", "reverse_kl"):
        _, own = look(logits, divergence=name, policy="cist", rho=4.0)
        torch.testing.assert_close(of_jeffreys.gradients[name].mass, own.gradients[OWN].mass)


def test_the_cosine_to_temperature_1(logits: tuple[Tensor, Tensor]) -> None:
    observer, seen = look(logits, divergence="forward_kl", tau=1.0)
    assert observer.metrics(seen)["cosine_to_tau_1"] == pytest.approx(1)
    observer, seen = look(logits, divergence="forward_kl", tau=6.0)
    gaps = [(logits[0] / tau).softmax(-1) - (logits[1] / tau).softmax(-1) for tau in (1.0, 6.0)]
    expected = torch.cosine_similarity(gaps[0].flatten(), gaps[1].flatten(), dim=0)
    assert observer.metrics(seen)["cosine_to_tau_1"] == pytest.approx(float(expected), abs=1e-5)


def test_hard_to_soft_takes_the_weights_and_the_scaling_in(logits: tuple[Tensor, Tensor]) -> None:
    ratios = {}
    for name, fields in {
        "plain": {},
        "heavier": {"hard_weight": 0.2, "soft_weight": 0.45},
        "unscaled": {"scaling": "none"},
        "alone": {"soft_weight": 0.0, "hard_weight": 1.0},
    }.items():
        observer, seen = look(logits, tau=4.0, **fields)
        ratios[name] = observer.metrics(seen).get("hard_to_soft")
    assert ratios["heavier"] == pytest.approx(4 * ratios["plain"])
    assert ratios["unscaled"] == pytest.approx(16 * ratios["plain"])
    assert ratios["alone"] is None


def test_entropies_of_cist_with_its_weights_and_without(logits: tuple[Tensor, Tensor]) -> None:
    observer, seen = look(logits, policy="cist", rho=3.0)
    centred = [side - side.mean(-1, keepdim=True) for side in logits]
    tau_s, tau_t = (side.amax(-1) / 3 for side in centred)
    soft = (logits[1] / tau_t.unsqueeze(-1)).softmax(-1)
    entropies = -(soft * soft.log()).sum(-1)
    weights = tau_t * tau_s
    found = observer.metrics(seen)
    assert found["soft_entropy_mean"] == pytest.approx(float(entropies.mean()), rel=1e-5)
    assert found["soft_entropy_std"] == pytest.approx(float(entropies.std(correction=0)), rel=1e-4)
    mean = (weights * entropies).sum() / weights.sum()
    assert found["soft_entropy_mean_weighted"] == pytest.approx(float(mean), rel=1e-5)
    assert found["soft_entropy_mean_weighted"] != pytest.approx(found["soft_entropy_mean"])


def test_of_one_temperature_the_matched_deviation_is_its_own(logits: tuple[Tensor, Tensor]) -> None:
    observer, seen = look(logits, tau=2.0, with_ladder=True)
    found = observer.metrics(seen)
    assert found["matched_entropy_std"] == pytest.approx(found["soft_entropy_std"])
    assert found["soft_entropy_std_weighted"] == pytest.approx(found["soft_entropy_std"])


@pytest.mark.parametrize("tau", [0.3, 1.2, 5.0, 45.0])
def test_between_temperatures_the_matched_deviation_is_nearly_its_own(
    logits: tuple[Tensor, Tensor], tau: float
) -> None:
    observer, seen = look(logits, tau=tau, with_ladder=True)
    found = observer.metrics(seen)
    assert found["matched_entropy_std"] == pytest.approx(found["soft_entropy_std"], rel=0.05)


def test_the_page_names_every_number(logits: tuple[Tensor, Tensor]) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "diagnostics.md").read_text()
    observer, seen = look(logits, divergence="jeffreys", with_ladder=True)
    missing = [
        name
        for name in observer.metrics(seen)
        if f"`{name.removeprefix('forward_kl_').removeprefix('reverse_kl_')}`" not in page
    ]
    assert not missing
    keys = observer.distributions(seen, VOCAB)
    assert [
        key for key in (*keys, *keys["ladder"][0], *keys["entropy"]) if f'"{key}"' not in page
    ] == []


def test_moments_by_hand() -> None:
    values, weights = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 1.0, 2.0])
    assert moments(values) == pytest.approx((8 / 3, math.sqrt(26 / 9)))
    assert moments(values, weights) == pytest.approx((13 / 4, math.sqrt(51 / 16)))


def test_histograms_count_every_position(logits: tuple[Tensor, Tensor]) -> None:
    observer, seen = look(logits, policy="cist", with_ladder=True)
    found = observer.distributions(seen, VOCAB)
    assert sum(found["entropy"]["counts"]) == ROWS
    assert sum(found["entropy"]["weighted_counts"]) == pytest.approx(ROWS, abs=0.02)
    for side in ("teacher", "soft_teacher", "student", "soft_student"):
        ranks = found["top_probabilities"][side]
        assert [sum(counts) for counts in ranks] == [ROWS] * 5
    largest = logits[1].softmax(-1).amax(-1)
    expected = torch.histc(largest, bins=20, min=0, max=1).tolist()
    assert found["top_probabilities"]["teacher"][0] == expected
    assert [rung["tau"] for rung in found["ladder"]][::4] == [0.5, 2.0, 8.0]


def test_looking_leaves_no_graph_and_no_gradient(logits: tuple[Tensor, Tensor]) -> None:
    loss, inputs = made(logits, policy="curriculum", divergence="forward_kl")
    context = LossContext(step=3, num_steps=10)
    settings = loss.settings_of(inputs, context)
    observer = Observer(loss, context)
    rows = LogitRows(logits[0], logits[1], inputs.labels, settings)
    assert not soft_gradient(loss.term, rows).requires_grad
    seen = observer.look(rows, with_ladder=True)
    assert not seen.weight.requires_grad and not seen.entropy.requires_grad
    assert all(parameter.grad is None for parameter in loss.parameters())
