"""Numbers that explain a trial without steering it: how soft the labels are, whether logit scales
drift."""

from torch import Tensor

LOGIT_SCALE_RANGE = (0.5, 2.0)


def entropy(log_probabilities: Tensor) -> Tensor:
    """Returns the entropy [N] in nats of rows of log-probabilities [N, V]; -inf entries count
    nothing."""
    weighted = log_probabilities.exp() * log_probabilities
    return -weighted.nan_to_num_(nan=0.0).sum(-1)


def largest_centred_logit(logits: Tensor) -> Tensor:
    """Returns max - mean of each row of logits [N, V]: the scale that CIST fixes, blind to added
    constants."""
    return logits.max(-1).values - logits.mean(-1)


def logit_scale_warning(ratio: float) -> str | None:
    """Returns a warning when student ÷ teacher logit scale lies outside [0.5, 2], else None."""
    low, high = LOGIT_SCALE_RANGE
    if low <= ratio <= high:
        return None
    return (
        f"the student's logits are {ratio:.2g} times as large as the teacher's "
        f"(expected {low} to {high}): raise hard_weight, or leave detach_student_temperature false"
    )
