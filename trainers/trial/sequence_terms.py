"""The sequence terms by name: losses of text that the student wrote while it trained, from the
log-probabilities of the tokens it drew; no torch.

`trainers.losses.sequence` has the functions under the same names. Which refused ones there are, and
why, stands here too, so that whoever asks for one is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from trainers.trial.traits import Parameter


class SequenceTerm(StrEnum):
    """What is learned from a token that the student drew, beside the distributions there."""

    NONE = "none"
    KL_REWARD = "kl_reward"
    K2 = "k2"


class ImportanceWeight(StrEnum):
    """How a drawn token counts, for having been drawn from another distribution than the student's
    present one."""

    NONE = "none"
    TOKEN = "token"
    SEQUENCE = "sequence"


class LengthNorm(StrEnum):
    """What a return is divided by."""

    NONE = "none"
    LENGTH = "length"
    DISCOUNTED = "discounted"


@dataclass(frozen=True)
class SequenceTraits:
    """What a sequence term is, and its parameters."""

    summary: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


WEIGHTS = {
    "sequence_weight": Parameter(1.0, 0.0, 100.0),
    "importance_weight": Parameter(ImportanceWeight.NONE),
}

SEQUENCE_TERMS: Mapping[SequenceTerm, SequenceTraits] = {
    SequenceTerm.NONE: SequenceTraits("only the distributions at the positions count"),
    SequenceTerm.KL_REWARD: SequenceTraits(
        "policy gradient with the reward log p - log q of each token: reverse KL of whole texts",
        parameters={
            **WEIGHTS,
            "clip_ratio": Parameter(0.0, 0.0, 1.0),
            "discount": Parameter(0.0, 0.0, 1.0),
            "include_current": Parameter(True),
            "length_norm": Parameter(LengthNorm.NONE),
            "whiten": Parameter(False),
        },
    ),
    SequenceTerm.K2: SequenceTraits(
        "(log q - log p)² / 2 of each token, back-propagated: reverse KL of one token",
        parameters=WEIGHTS,
    ),
}

# Estimators of reverse KL that others offer, and what each really does to the student.
REFUSED: Mapping[str, str] = {
    "k1": "log q - log p back-propagated has the gradient 0 on average; kl_reward takes it as a "
    "reward",
    "k3": "p/q - 1 - log(p/q) back-propagated has forward KL's gradient, not reverse KL's; for "
    "forward KL use divergence: forward_kl, which needs no estimate",
    "k3_reward": "as a reward it has the gradient of reverse KL less forward KL, which is neither; "
    "use kl_reward",
}


def refuse_estimators(name: Any) -> Any:
    """Returns `name`; raises `ValueError` with the reason for an estimator that is refused."""
    if isinstance(name, str) and name in REFUSED:
        known = ", ".join(SequenceTerm)
        raise ValueError(f"must be one of {known}, but got '{name}': {REFUSED[name]}")
    return name
