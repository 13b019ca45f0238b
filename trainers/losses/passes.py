"""What a batch or the training decides for its positions, and the first passes over a batch that
some rows need for it: a number for each position, then one look at all of them.

No gradient goes through either. A row that looks at the whole batch has an entry in one of the two
tables below; to all others a position stands for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainers.losses.context import LossContext
from trainers.losses.divergences import in_float, label_log_probabilities, log_probabilities
from trainers.trial.config import TrialConfig
from trainers.trial.traits import Policy

# DistiLLM-2's.
SMALLEST_SKEW, SMALLEST_GAP = 0.01, 1e-5


@dataclass(frozen=True)
class BatchSettings:
    """What the batch or the training decides for the batch's positions. temperature: a scalar, [N]
    or [N, 2], see `PolicyInput`; row_weight [N], mix, a scalar, and num_views: see `LabelledInput`;
    by_student [N] and skew [N]: see `by_writer`; kept [N]: the factor on a position's whole soft
    loss, see `kept_positions`, or None; label_weight: [N] further weights of the label's
    cross-entropy, which add to the gradient of the sums and not to their values (`sequence`)."""

    temperature: Tensor | None = None
    row_weight: Tensor | None = None
    mix: Tensor | None = None
    num_views: int = 1
    kept: Tensor | None = None
    by_student: Tensor | None = None
    skew: Tensor | None = None
    label_weight: Tensor | None = None

    def rows(self, where: slice | Tensor) -> "BatchSettings":
        """Returns the settings of some positions."""
        names = ("temperature", "row_weight", "kept", "by_student", "skew", "label_weight")
        values = {name: getattr(self, name) for name in names}
        return replace(
            self,
            **{
                name: value[where]
                for name, value in values.items()
                if value is not None and value.dim() > 0
            },
        )


@dataclass(frozen=True)
class Measure:
    """A number for each position, or several: `of` is called with student logits (empty unless
    `needs_student`), teacher logits [C, V] and labels [C], and returns [C], or [C, k]."""

    of: Callable[[Tensor, Tensor, Tensor], Tensor]
    needs_student: bool


Difficulty = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class BatchTemperature:
    """A policy's temperatures where they depend on the whole batch. difficulty: of student and
    teacher logits [C, V], a number [C]; temperature: the temperatures [N] that all of these mean,
    or those of the positions that are kept."""

    difficulty: Difficulty
    temperature: Callable[[TrialConfig, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class BatchWeight:
    """A divergence's weights of positions where they depend on the whole batch. of_teacher: of
    teacher logits [C, V] and labels [C], a number [C]; weight: the weights [N] that all of these
    mean."""

    of_teacher: Callable[[Tensor, Tensor], Tensor]
    weight: Callable[[TrialConfig, Tensor, LossContext], Tensor]

    def measure(self) -> Measure:
        """Returns the first pass."""
        return Measure(lambda _, teacher, labels: self.of_teacher(teacher, labels), False)


def hellinger(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """‖√p - √q‖ / √2 at temperature 1, [N], in [0, 1]: AdaKD's difficulty of a position."""
    student, teacher = log_probabilities(student_logits, teacher_logits)
    gap = (0.5 * teacher).exp() - (0.5 * student).exp()
    return (0.5 * gap.square().sum(-1)).sqrt()


def teacher_cross_entropy(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """-log p_y at temperature 1, [N]."""
    teacher = in_float(teacher_logits)
    label = teacher.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return torch.logsumexp(teacher, dim=-1) - label


def adaptive_temperature(
    config: TrialConfig, difficulty: Tensor, kept: Tensor | None = None
) -> Tensor:
    """tau * exp(-adaptivity * tanh(log(s / median s))), [N], of difficulties s [N]; the median of
    those whose `kept` [N] is positive."""
    assert config.tau is not None and config.adaptivity is not None  # TrialConfig fills them in
    if difficulty.numel() == 0:
        return difficulty
    floor = torch.finfo(difficulty.dtype).tiny
    logs = difficulty.clamp_min(floor).log()
    middle = (logs if kept is None else logs[kept > 0]).median()
    exponent = -config.adaptivity * torch.tanh(logs - middle)
    return (config.tau * exponent.exp()).clamp(config.tau_min, config.tau_max)


def weight_in_sequence(config: TrialConfig, cross_entropy: Tensor, context: LossContext) -> Tensor:
    """Returns the `sequence_weights` [N] at the config's token_temperature. Raises `ValueError`
    when the context has no sequence ids."""
    if context.sequence_ids is None:
        raise ValueError(
            f"context.sequence_ids must be given for divergence '{config.divergence}', which "
            "weighs the positions of a sequence, but got None. Pass one id a position"
        )
    assert config.token_temperature is not None  # TrialConfig fills it in
    return sequence_weights(cross_entropy, context.sequence_ids, config.token_temperature)


def sequence_weights(cross_entropy: Tensor, sequence_ids: Tensor, temperature: float) -> Tensor:
    """Returns [N]: softmax of cross_entropy / temperature within each sequence, times the number of
    its positions here."""
    _, index = torch.unique(sequence_ids, return_inverse=True)
    num_sequences = int(index.max()) + 1 if index.numel() else 0
    scores = cross_entropy / temperature
    largest = scores.new_full((num_sequences,), -torch.inf)
    largest = largest.scatter_reduce(0, index, scores, "amax")
    powers = (scores - largest[index]).exp()
    zeros = scores.new_zeros(num_sequences)
    sums = zeros.index_add(0, index, powers)
    counts = zeros.index_add(0, index, torch.ones_like(powers))
    return powers * (counts / sums)[index]


def adaptive_skew(config: TrialConfig, log_probs: Tensor, context: LossContext) -> Tensor:
    """Returns the skew [N] of each position's text: 1 - (1 - alpha) anchor / (p̃ - q̃), within
    [SMALLEST_SKEW, alpha], p̃ and q̃ the geometric means of the labels' probabilities over the text.
    log_probs: log q and log p of the labels [N, 2]. Without sequence ids the texts are one.

    Ko et al. 2025 (DistiLLM-2), in whose code it is never active.
    """
    assert config.alpha is not None and config.skew_anchor is not None  # of its divergence
    ids = context.sequence_ids
    if ids is None:
        ids = torch.zeros(len(log_probs), dtype=torch.int64, device=log_probs.device)
    _, text, counts = torch.unique(ids, return_inverse=True, return_counts=True)
    sums = log_probs.new_zeros(len(counts), 2).index_add(0, text, log_probs.reshape(-1, 2))
    student, teacher = (sums / counts.unsqueeze(-1)).exp().unbind(-1)
    skew: Tensor = 1 - (1 - config.alpha) * config.skew_anchor / (teacher - student + SMALLEST_GAP)
    return skew.clamp(min(SMALLEST_SKEW, config.alpha), config.alpha)[text]


BATCH_TEMPERATURES: dict[Policy, BatchTemperature] = {
    Policy.TOKEN_ADAPTIVE: BatchTemperature(hellinger, adaptive_temperature),
}
BATCH_WEIGHTS: dict[str, BatchWeight] = {
    "token_scaled": BatchWeight(teacher_cross_entropy, weight_in_sequence),
}


def kept_positions(difficulty: Tensor, share: float) -> Tensor | None:
    """Returns N / n for the n = max(1, ⌊N share⌋) positions of largest difficulty [N], and 0 for
    all others: their mean over N is one over those that are kept. None where all are."""
    num = difficulty.numel()
    if share >= 1.0 or num == 0:
        return None
    num_kept = max(1, int(num * share))
    # Stable, so that of positions that tie the same ones are kept everywhere.
    hardest = difficulty.argsort(descending=True, stable=True)[:num_kept]
    return torch.zeros_like(difficulty).index_fill_(0, hardest, num / num_kept)


def measures(config: TrialConfig) -> list[Measure]:
    """Returns what the first pass measures; empty where every position stands for itself."""
    difficulty, weight = _difficulty(config), BATCH_WEIGHTS.get(config.divergence)
    found = [] if weight is None else [weight.measure()]
    if difficulty is not None:
        of_sides = difficulty
        found.insert(0, Measure(lambda student, teacher, _: of_sides(student, teacher), True))
    if config.skew_anchor:
        found.append(Measure(label_log_probabilities, True))
    return found


def settings_from(
    config: TrialConfig, measured: list[Tensor], context: LossContext, share: float = 1.0
) -> BatchSettings:
    """Returns what the numbers [N] of `measures`, in their order, decide; share: of the positions
    that are kept. Raises `ValueError` without sequence ids where a sequence is looked at as a
    whole."""
    numbers = iter(measured)
    difficulty = None if _difficulty(config) is None else next(numbers)
    kept = None if difficulty is None else kept_positions(difficulty, share)
    row, weight = BATCH_TEMPERATURES.get(config.policy), BATCH_WEIGHTS.get(config.divergence)
    return BatchSettings(
        row.temperature(config, difficulty, kept) if row and difficulty is not None else None,
        weight.weight(config, next(numbers), context) if weight else None,
        num_views=context.num_views,
        kept=kept,
        by_student=context.by_student(),
        skew=adaptive_skew(config, next(numbers), context) if config.skew_anchor else None,
    )


def _difficulty(config: TrialConfig) -> Difficulty | None:
    """What says how hard a position is, where the policy or the focus asks."""
    row = BATCH_TEMPERATURES.get(config.policy)
    if row is not None:
        return row.difficulty
    return None if config.focus_rate is None else hellinger
