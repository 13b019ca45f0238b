"""When a trial's logit scale is worth a warning."""

import pytest

from trainers.trial.diagnosis import logit_scale_warning


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_a_usual_scale_warns_of_nothing(ratio: float) -> None:
    assert logit_scale_warning({"logit_scale_ratio": ratio}) is None


def test_a_trial_without_a_teacher_has_no_ratio() -> None:
    assert logit_scale_warning({"cross_entropy": 1.0}) is None


@pytest.mark.parametrize(("ratio", "text"), [(0.03, "0.03 times"), (39.0, "39 times")])
def test_a_drifting_scale_warns(ratio: float, text: str) -> None:
    warning = logit_scale_warning({"logit_scale_ratio": ratio})
    assert warning is not None and text in warning and "hard_weight" in warning
