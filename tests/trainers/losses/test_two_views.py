"""Losses of two views of each image, a first and a second one, beside each other: MLKD's parts by
hand, and what the other divergences make of them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext
from trainers.losses.passes import BatchSettings
from trainers.losses.soft_term import SoftTerm
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.config import TrialConfig

IMAGES, CLASSES = 4, 3
TAUS = (4.0, 3.0, 5.0, 2.0, 6.0)
RANDOM = np.random.default_rng(3)
# [student, teacher][first, second]
LOGITS = RANDOM.normal(0, 2, (2, 2, IMAGES, CLASSES))
LABELS = np.array([2, 1, 0, 1])
TWO = {"task": "image_classification", "second_view": "rand_augment"}


def beside(views: np.ndarray) -> Tensor:
    """Rows of [views, images, classes] as a batch has them."""
    return torch.from_numpy(views.transpose(1, 0, 2).reshape(-1, CLASSES))


def soft(student: Tensor, **config: Any) -> Tensor:
    """The soft loss [rows] of the two views."""
    term = SoftTerm(TrialConfig.model_validate(TWO | config), CLASSES)
    labels = torch.from_numpy(LABELS).repeat_interleave(2)
    return term.values(student, beside(LOGITS[1]), labels, BatchSettings(num_views=2))


def softmax(logits: np.ndarray, tau: float) -> np.ndarray:
    powers = np.exp(logits / tau)
    return powers / powers.sum(-1, keepdims=True)


def kl(view: int, tau: float) -> np.ndarray:
    q, p = (softmax(side[view], tau) for side in LOGITS)
    return tau**2 * (p * np.log(p / q)).sum(-1)


def products(view: int, tau: float, rows: np.ndarray, classes: np.ndarray) -> float:
    """Class and batch level of one view, entry by entry, each row of them times its weight."""
    q, p = (softmax(side[view], tau) for side in LOGITS)
    by_class = sum(
        classes[a] * sum(q[n, a] * q[n, b] - p[n, a] * p[n, b] for n in range(IMAGES)) ** 2
        for a in range(CLASSES)
        for b in range(CLASSES)
    )
    by_row = sum(
        rows[a] * sum(q[a, c] * q[b, c] - p[a, c] * p[b, c] for c in range(CLASSES)) ** 2
        for a in range(IMAGES)
        for b in range(IMAGES)
    )
    return float(by_class / CLASSES + by_row / IMAGES)


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Rows and classes of the first view that are kept."""
    p = softmax(LOGITS[1, 0], 1.0)
    confidence, mass = p.max(-1), p.sum(0)
    return (
        (confidence <= np.percentile(confidence, 50)).astype(float),
        (mass <= np.percentile(mass, 50)).astype(float),
    )


def test_multi_level_masks_and_compares_the_first_view_and_has_the_kl_of_both() -> None:
    rows, classes = masks()
    assert (rows.sum(), classes.sum()) == (2, 2)
    first = sum((rows * kl(0, tau)).mean() + products(0, tau, rows, classes) for tau in TAUS)
    second = sum(kl(1, tau).mean() for tau in TAUS)
    found = soft(beside(LOGITS[0]), divergence="multi_level", tau=4.0)
    # The mean over both views is half the published sum of their means.
    assert found.mean().item() == pytest.approx((first + second) / 2, rel=1e-9)


def test_multi_level_as_published() -> None:
    """The published program: shares in place of masks, and the first view in two of the second's
    terms."""
    share_rows, share_classes = (float(mask.mean()) for mask in masks())
    ones = np.ones(IMAGES), np.ones(CLASSES)
    total = 0.0
    for tau in TAUS:
        by_class = products(0, tau, 0 * ones[0], ones[1])
        by_row = products(0, tau, ones[0], 0 * ones[1])
        total += share_rows * kl(0, tau).mean() + share_classes * by_class + share_rows * by_row
    total += sum(kl(1, tau).mean() for tau in (4.0, 3.0, 5.0))
    total += sum(kl(0, tau).mean() for tau in (2.0, 6.0))
    found = soft(beside(LOGITS[0]), divergence="multi_level", tau=4.0, masks="as_published")
    assert 2 * found.mean().item() == pytest.approx(total, rel=1e-9)
    # The complete loss with the weights of the sum of both views, as theirs has them.
    config = TrialConfig.model_validate(
        TWO
        | {"divergence": "multi_level", "tau": 4.0, "masks": "as_published"}
        | {"hard_weight": 0.2, "soft_weight": 1.8}
    )
    head = OutputHead.identity(CLASSES, torch.device("cpu"), torch.float64)
    sums = DistillationLoss(config, CLASSES)(
        beside(LOGITS[0]),
        head,
        torch.from_numpy(LABELS).repeat_interleave(2),
        TeacherSignal(beside(LOGITS[1]), head),
        LossContext(num_views=2),
    )
    hard = sum(-np.log(softmax(LOGITS[0, v], 1.0)[range(4), LABELS]).mean() for v in range(2))
    assert sums.total.item() / (2 * IMAGES) == pytest.approx(0.1 * hard + 0.9 * total, rel=1e-9)


@pytest.mark.parametrize("masked", ["per_sample", "as_published", "none"])
def test_multi_levels_gradient_is_the_values(masked: str) -> None:
    student = beside(LOGITS[0]).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: soft(z, divergence="multi_level", tau=4.0, masks=masked).mean(), student
    )


def test_a_correlation_is_taken_within_a_view() -> None:
    def inside(view: int) -> float:
        q, p = (softmax(side[view], 1.0) for side in LOGITS)
        between = np.mean([np.corrcoef(q[n], p[n])[0, 1] for n in range(IMAGES)])
        within = np.mean([np.corrcoef(q[:, c], p[:, c])[0, 1] for c in range(CLASSES)])
        return float(2 - between - within)

    found = soft(beside(LOGITS[0]), divergence="correlation").mean().item()
    assert found == pytest.approx((inside(0) + inside(1)) / 2, rel=1e-9)


@pytest.mark.parametrize(
    "name",
    sorted(name for name, row in DIVERGENCES.items() if row.row_local and not row.detached),
)
def test_all_others_take_a_view_for_an_image(name: str) -> None:
    config = {"divergence": name}
    found = soft(beside(LOGITS[0]), **config)
    one = SoftTerm(TrialConfig.model_validate(config), CLASSES)
    for view in range(2):
        alone = one.values(
            *(torch.from_numpy(side[view]) for side in LOGITS),
            torch.from_numpy(LABELS),
            BatchSettings(),
        )
        torch.testing.assert_close(found[view::2], alone)
