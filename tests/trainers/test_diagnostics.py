"""Entropy, logit scale, and when to warn about it."""

import math

import pytest
import torch

from trainers import diagnostics


def test_entropy_of_known_distributions() -> None:
    rows = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -math.inf, -math.inf, -math.inf]])
    entropy = diagnostics.entropy(rows.log_softmax(-1))
    assert entropy.tolist() == pytest.approx([math.log(4), 0.0], abs=1e-6)


def test_the_logit_scale_is_blind_to_added_constants() -> None:
    logits = torch.tensor([[1.0, 2.0, 6.0]])
    assert diagnostics.largest_centred_logit(logits).item() == pytest.approx(3.0)
    assert diagnostics.largest_centred_logit(logits + 50).item() == pytest.approx(3.0)
    assert diagnostics.largest_centred_logit(2 * logits).item() == pytest.approx(6.0)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_a_usual_scale_warns_of_nothing(ratio: float) -> None:
    assert diagnostics.logit_scale_warning(ratio) is None


@pytest.mark.parametrize(("ratio", "text"), [(0.03, "0.03 times"), (39.0, "39 times")])
def test_a_drifting_scale_warns(ratio: float, text: str) -> None:
    warning = diagnostics.logit_scale_warning(ratio)
    assert warning is not None and text in warning and "hard_weight" in warning
