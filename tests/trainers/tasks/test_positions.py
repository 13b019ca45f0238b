"""Entropy, logit scale, and sums of per-position quantities."""

import math

import pytest
import torch

from trainers.tasks.position_evaluation import PositionSums
from trainers.tasks.position_metrics import PositionMetric, largest_centred_logit
from trainers.tasks.positions import Positions, entropy
from trainers.world import World


def test_entropy_of_known_distributions() -> None:
    rows = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -math.inf, -math.inf, -math.inf]])
    assert entropy(rows.log_softmax(-1)).tolist() == pytest.approx([math.log(4), 0.0], abs=1e-6)


def test_the_logit_scale_is_blind_to_added_constants() -> None:
    logits = torch.tensor([[1.0, 2.0, 6.0]])
    assert largest_centred_logit(logits).item() == pytest.approx(3.0)
    assert largest_centred_logit(logits + 50).item() == pytest.approx(3.0)
    assert largest_centred_logit(2 * logits).item() == pytest.approx(6.0)


def test_a_metric_is_a_function_of_means_over_all_positions() -> None:
    calls = []

    def first_logit(at: Positions) -> torch.Tensor:
        calls.append(len(at.labels))
        return at.logits[:, 0]

    mean = PositionMetric(name="mean", of=(first_logit,))
    tenfold = PositionMetric(name="tenfold", of=(first_logit,), value=lambda mean: 10 * mean)
    sums = PositionSums([mean, tenfold], torch.device("cpu"))
    for rows in ([[1.0, 0.0], [2.0, 0.0]], [[6.0, 0.0]]):
        logits = torch.tensor(rows)
        sums.add(Positions(torch.add, logits, None, torch.zeros(len(rows), dtype=torch.int64)))
    assert sums.values(World()) == {"mean": 3.0, "tenfold": 30.0}
    assert calls == [2, 1], "a quantity that two metrics share is computed once a chunk"
