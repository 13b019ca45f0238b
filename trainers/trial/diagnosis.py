"""What a recorded metric says about a trial's health; no torch."""

from collections.abc import Mapping

LOGIT_SCALE_RATIO = "logit_scale_ratio"
LOGIT_SCALE_RANGE = (0.5, 2.0)


def logit_scale_warning(metrics: Mapping[str, float]) -> str | None:
    """Returns a warning when the student's logit scale divided by the teacher's, as an evaluation
    measured it, is outside [0.5, 2]; None inside it and where it was not measured."""
    ratio = metrics.get(LOGIT_SCALE_RATIO)
    low, high = LOGIT_SCALE_RANGE
    if ratio is None or low <= ratio <= high:
        return None
    return (
        f"the student's logits are {ratio:.2g} times as large as the teacher's "
        f"(expected {low} to {high}): train longer; where the policy takes a temperature from the "
        "student, raise hard_weight, or leave detach_student_temperature false"
    )
