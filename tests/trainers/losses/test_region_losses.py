"""Soft losses of an image's regions, against the sum written out region by region."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext, LossSums
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.config import TrialConfig

IMAGES, CLASSES = 5, 4
LABELS = torch.tensor([2, 1, 0, 3, 1])
IMAGE = {"task": "image_classification"}


def maps(regions: int) -> Tensor:
    """Logits [sides, images, 1 + regions², classes]."""
    generator = torch.Generator().manual_seed(regions)
    shape = (2, IMAGES, 1 + regions**2, CLASSES)
    return 2 * torch.randn(shape, generator=generator, dtype=torch.float64)


def sums_of(logits: Tensor, **config: Any) -> LossSums:
    student, teacher = logits.flatten(2)
    head = OutputHead.identity(CLASSES, torch.device("cpu"), torch.float64)
    loss = DistillationLoss(TrialConfig.model_validate(IMAGE | config), CLASSES)
    signal = TeacherSignal(teacher, head)
    sums: LossSums = loss(student, head, LABELS, signal, LossContext())
    return sums


def all_regions(cells: np.ndarray, regions: int) -> list[np.ndarray]:
    """Logits of the image, of its quarters where there are sixteen cells, and of the cells."""
    grid = cells[1:].reshape(regions, regions, CLASSES)
    quarters = [
        grid[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(4, -1).mean(0)
        for row in range(2)
        for column in range(2)
    ]
    return [cells[0], *(quarters if regions == 4 else []), *grid.reshape(-1, CLASSES)]


def by_hand(logits: Tensor, regions: int, tau: float) -> float:
    """SDD: the sum over images and regions of w tau² KL, over the number of regions."""
    total = 0.0
    for student, teacher, label in zip(*logits.numpy(), LABELS.tolist(), strict=True):
        zs, vs = all_regions(student, regions), all_regions(teacher, regions)
        image_is_right = vs[0].argmax() == label
        for z, v in zip(zs, vs, strict=True):
            q, p = (np.exp(x / tau) / np.exp(x / tau).sum() for x in (z, v))
            weight = 1 if (v.argmax() == label) == image_is_right else 2
            total += weight * tau**2 * (p * np.log(p / q)).sum() / len(zs)
    return total


@pytest.mark.parametrize(("regions", "num_rows"), [(2, 5), (4, 21)])
def test_regions_count_once_or_twice_and_an_image_as_one(regions: int, num_rows: int) -> None:
    logits = maps(regions)
    assert len(all_regions(logits[0, 0].numpy(), regions)) == num_rows
    sums = sums_of(logits, regions=regions, tau=4.0)
    assert sums.soft.item() == pytest.approx(by_hand(logits, regions, 4.0), rel=1e-9)
    hard = torch.nn.functional.cross_entropy(logits[0, :, 0], LABELS, reduction="sum")
    assert sums.hard.item() == pytest.approx(hard.item(), rel=1e-12)  # of the images alone
    total = 0.1 * hard + 0.9 * sums.soft
    assert sums.total.item() == pytest.approx(total.item(), rel=1e-12)


def test_the_gradient_is_the_values() -> None:
    teacher = maps(4)[1]

    def soft(student: Tensor) -> Tensor:
        # The total has a graph; with this hard weight it is the soft loss.
        sums = sums_of(torch.stack([student, teacher]), regions=4, hard_weight=0, soft_weight=1)
        return sums.total

    assert torch.autograd.gradcheck(soft, maps(4)[0].requires_grad_())


@pytest.mark.parametrize("divergence", ["decoupled", "normalised", "refined", "reverse_kl"])
def test_where_all_regions_are_alike_a_region_has_its_images_loss(divergence: str) -> None:
    logits = maps(4)[:, :, :1].expand(-1, -1, 17, -1)
    alike = sums_of(logits, regions=4, divergence=divergence)
    plain = sums_of(logits[:, :, :1], divergence=divergence)
    torch.testing.assert_close(alike.soft, plain.soft)


def test_no_image_has_no_loss() -> None:
    head = OutputHead.identity(CLASSES, torch.device("cpu"))
    none = torch.zeros(0, 17 * CLASSES, requires_grad=True)
    loss = DistillationLoss(TrialConfig.model_validate(IMAGE | {"regions": 4}), CLASSES)
    sums = loss(none, head, LABELS[:0], TeacherSignal(none.detach(), head), LossContext())
    sums.total.backward()
    assert sums.total.item() == 0


def test_logits_without_regions_are_refused() -> None:
    with pytest.raises(ValueError, match="regions=4 an image must have 68 logits.* but got 20"):
        sums_of(maps(2), regions=4)


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ({"divergence": "multi_level"}, "regions = 1 must hold with divergence 'multi_level'"),
        ({"divergence": "correlation"}, "regions = 1 must hold with divergence 'correlation'"),
        ({"policy": "token_adaptive"}, "regions = 1 must hold with policy 'token_adaptive'"),
    ],
)
def test_a_loss_of_the_whole_batch_has_no_regions(config: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=f"{rule}, which looks at a whole batch, but got"):
        TrialConfig.model_validate(IMAGE | config | {"regions": 2})


@pytest.mark.parametrize("field", ["regions", "second_view"])
def test_texts_have_neither(field: str) -> None:
    value = 4 if field == "regions" else "rand_augment"
    with pytest.raises(ValueError, match=f"{field} belongs to task 'image_classification'"):
        TrialConfig.model_validate({field: value})
