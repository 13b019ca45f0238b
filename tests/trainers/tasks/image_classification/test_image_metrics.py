"""Image metrics against numbers that are counted one image at a time."""

import numpy as np
import pytest
import torch

from trainers.tasks.image_classification.metrics import TABLE
from trainers.tasks.position_evaluation import PositionSums
from trainers.tasks.positions import Positions
from trainers.world import World

LOGITS = torch.randn(500, 12, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.randint(0, 12, (500,), generator=torch.Generator().manual_seed(1))
# Half of the labels are those that the logits say, so that nothing is at chance.
LABELS = torch.where(torch.arange(500) % 2 == 0, LOGITS.argmax(-1), LABELS)


def measured(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """The metrics that need no teacher, summed in two parts."""
    sums = PositionSums([m for m in TABLE if not m.needs_teacher], torch.device("cpu"))
    for part in (slice(0, 120), slice(120, None)):
        sums.add(Positions(lambda student, teacher: teacher, logits[part], None, labels[part]))
    return sums.values(World(device=torch.device("cpu")))


def test_accuracies_are_shares_of_images_in_percent() -> None:
    ranks = [
        sorted(row.tolist(), reverse=True).index(row[label].item())
        for row, label in zip(LOGITS, LABELS.tolist(), strict=True)
    ]
    found = measured(LOGITS, LABELS)
    assert found["top1"] == pytest.approx(100 * np.mean([rank == 0 for rank in ranks]))
    assert found["top5"] == pytest.approx(100 * np.mean([rank < 5 for rank in ranks]))
    assert found["top1"] < found["top5"] < 100


def test_the_calibration_error_is_guos() -> None:
    probabilities = np.exp(LOGITS.double().numpy())
    probabilities /= probabilities.sum(-1, keepdims=True)
    confidence, guess = probabilities.max(-1), probabilities.argmax(-1)
    error = 0.0
    for low in np.arange(15) / 15:
        here = (confidence > low) & (confidence <= low + 1 / 15)
        if here.any():
            right = (guess[here] == LABELS.numpy()[here]).mean()
            error += here.mean() * abs(right - confidence[here].mean())
    assert measured(LOGITS, LABELS)["calibration_error"] == pytest.approx(error, abs=1e-6)


def test_a_certain_and_right_model_is_calibrated() -> None:
    certain = torch.nn.functional.one_hot(LABELS, 12).float() * 200
    found = measured(certain, LABELS)
    assert found["calibration_error"] == pytest.approx(0, abs=1e-7)
    assert found["top1"] == 100
    assert measured(certain, (LABELS + 1) % 12)["calibration_error"] == pytest.approx(1)
