"""What a recorded metric says about a trial's health; no torch."""

from collections.abc import Mapping, Sequence

LOGIT_SCALE_RATIO = "logit_scale_ratio"
LOGIT_SCALE_RANGE = (0.5, 2.0)


def logit_scale_warning(metrics: Mapping[str, float]) -> str | None:
    """Returns a warning when the student's logit scale divided by the teacher's, as an evaluation
    measured it, is outside [0.5, 2]; None inside it and where it was not measured."""
    ratio = metrics.get(LOGIT_SCALE_RATIO)
    return None if ratio is None or logit_scale_side(ratio) == 0 else logit_scales_warning([ratio])


def logit_scale_side(ratio: float) -> int:
    """Returns 0 for a ratio of logit scales inside `LOGIT_SCALE_RANGE`, -1 below it, 1 above."""
    low, high = LOGIT_SCALE_RANGE
    return 0 if low <= ratio <= high else 1 if ratio > high else -1


def logit_scales_warning(ratios: Sequence[float]) -> str:
    """Returns the warning about one or several trials with ratios outside the range."""
    low, high = LOGIT_SCALE_RANGE
    shown = " to ".join(dict.fromkeys(f"{ratio:.2g}" for ratio in (min(ratios), max(ratios))))
    return (
        f"the student's logits are {shown} times as large as the teacher's "
        f"(expected {low} to {high}): train longer; where the policy takes a temperature from the "
        "student, raise hard_weight, or leave detach_student_temperature false"
    )
