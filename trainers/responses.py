"""Text that is written to be trained on, and whoever writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# Number of a prompt, and of one of the samples that answer it.
SampleKey = tuple[int, int]


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn. Each model's distribution is softened by `temperature` (0 leaves the
    likeliest token alone), then cut to the smallest set of tokens whose probabilities reach
    `top_p`, and scaled to 1; with a teacher, tokens come from (1 - `teacher_mix`) student +
    `teacher_mix` teacher of these (MiniLLM, Gu et al. 2024, section 2.2; what top-p does to a
    mixture is our reading). Any of `end_token_ids` ends a response."""

    temperature: float
    max_new_tokens: int
    end_token_ids: frozenset[int]
    pad_token_id: int
    top_p: float = 1.0
    teacher_mix: float = 0.0

    def __post_init__(self) -> None:
        rules = {
            "temperature": (self.temperature >= 0, "must not be negative"),
            "max_new_tokens": (self.max_new_tokens > 0, "must be positive"),
            "top_p": (0 < self.top_p <= 1, "must be in (0, 1]"),
            "teacher_mix": (0 <= self.teacher_mix <= 1, "must be in [0, 1]"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ValueError(f"{name} {rule}, but got {getattr(self, name)}.")


@dataclass(frozen=True)
class Response:
    """What answers a prompt. ids: tokens, the one that ended it included; log_probs: of each, the
    logarithm of the probability with which it was drawn, all of `Sampling` applied; ended: whether
    an end token was drawn, rather than there being no room for more."""

    ids: list[int]
    log_probs: list[float]
    ended: bool


class Sampler(Protocol):
    """Whoever answers prompts with the student's present weights: a model in this process, or a
    server that holds a copy of them."""

    def sample(
        self, prompts: Mapping[SampleKey, Sequence[int]], *, seed: tuple[int, ...]
    ) -> dict[SampleKey, Response]:
        """Returns a response to each prompt (token ids) under its key. It depends on the weights,
        the prompt, `seed` (such as trial's seed and step) and the key, not on its company: but for
        the float noise of products of other shapes."""
