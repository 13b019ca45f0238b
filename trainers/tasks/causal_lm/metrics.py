"""The table of metrics of a language model. An entry here is all that a new metric takes; no torch.

The functions get objects that hold tensors or texts, and only use their methods, so that the names
and directions are known where nothing heavy may be loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainers.tasks.position_metrics import (
    CALIBRATION_ERROR,
    OF_THE_TEACHER,
    RANKING,
    STUDENT_ENTROPY,
    PositionMetric,
    label_loss,
)
from trainers.trial.metrics import Metric

if TYPE_CHECKING:
    from trainers.tasks.causal_lm.answers import Answers

LARGEST_EXPONENT = 700.0


@dataclass(frozen=True, kw_only=True)
class TextMetric(Metric):
    """A metric of sampled answers: `of` returns it, over all prompts and seeds. by_prompt: returns
    it for each prompt, where it is a mean over them. is_slow: it takes longer than a trial has for
    it, so only a finished student is measured by it."""

    of: "Callable[[Answers], float]"
    by_prompt: "Callable[[Answers], list[float]] | None" = None
    needs_text: bool = True
    is_slow: bool = False


def perplexity(cross_entropy: float) -> float:
    """exp(cross_entropy), bounded where it would overflow."""
    import numpy as np  # not math: the two differ in the last bit on some machines

    return float(np.exp(min(cross_entropy, LARGEST_EXPONENT)))


# Those that can be an objective come first, in the order in which they are offered.
TABLE: tuple[PositionMetric | TextMetric, ...] = (
    TextMetric(
        name="rouge_l",
        direction="maximize",
        beside_rankings=True,
        floor="rouge_l_shuffled",
        error="rouge_l_error",
        of=lambda answers: answers.rouge_l(answers.references),
        by_prompt=lambda answers: answers.rouge_l_by_prompt,
    ),
    *RANKING,
    TextMetric(
        name="exact_match",
        direction="maximize",
        of=lambda answers: answers.exact_match,
        by_prompt=lambda answers: answers.exact_match_by_prompt,
    ),
    CALIBRATION_ERROR,
    STUDENT_ENTROPY,
    PositionMetric(name="perplexity", of=(label_loss,), value=perplexity),
    *OF_THE_TEACHER,
    TextMetric(
        name="rouge_l_shuffled", of=lambda answers: answers.rouge_l(answers.references_of_others)
    ),
    TextMetric(name="rouge_l_error", of=lambda answers: answers.rouge_l_error),
    TextMetric(name="distinct_1", of=lambda answers: answers.distinct(1)),
    TextMetric(name="distinct_2", of=lambda answers: answers.distinct(2)),
    TextMetric(name="response_length", of=lambda answers: answers.num_words),
    TextMetric(name="self_bleu", is_slow=True, of=lambda answers: answers.self_bleu),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in TABLE}
POSITION_METRICS = tuple(metric for metric in TABLE if isinstance(metric, PositionMetric))
TEXT_METRICS = tuple(metric for metric in TABLE if isinstance(metric, TextMetric))
