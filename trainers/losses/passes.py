"""First passes over a batch for rows that are not row-local: a number a position, then one look at
all of them. No gradient goes through either."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.losses.context import LossContext
from trainers.losses.divergences import in_float, log_probabilities
from trainers.trial.catalogue import Policy
from trainers.trial.config import TrialConfig


@dataclass(frozen=True)
class Measure:
    """A number a position: `of` takes student logits (empty unless `needs_student`), teacher logits
    [C, V] and labels [C], and returns [C]."""

    of: Callable[[Tensor, Tensor, Tensor], Tensor]
    needs_student: bool


@dataclass(frozen=True)
class Shared:
    """What the batch or the training decided for its positions; see `PolicyInput` and `Rows`."""

    temperature: Tensor | None = None
    row_weight: Tensor | None = None
    mix: Tensor | None = None

    def rows(self, start: int, stop: int) -> "Shared":
        """Returns the part for positions start to stop."""
        return Shared(
            _cut(self.temperature, start, stop), _cut(self.row_weight, start, stop), self.mix
        )


def measures(config: TrialConfig) -> list[Measure]:
    """Returns what the first pass measures; empty where every position stands for itself."""
    found: list[Measure] = []
    if config.policy == Policy.TOKEN_ADAPTIVE:
        found.append(Measure(lambda student, teacher, _: hellinger(student, teacher), True))
    if config.divergence == "token_scaled":
        found.append(
            Measure(lambda _, teacher, labels: teacher_cross_entropy(teacher, labels), False)
        )
    return found


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


def adaptive_temperature(config: TrialConfig, difficulty: Tensor) -> Tensor:
    """tau * exp(-adaptivity * tanh(log(s / median s))), [N], of difficulties s [N]."""
    assert config.tau is not None and config.adaptivity is not None  # TrialConfig fills them in
    if difficulty.numel() == 0:
        return difficulty
    floor = torch.finfo(difficulty.dtype).tiny
    logs = difficulty.clamp_min(floor).log()
    exponent = -config.adaptivity * torch.tanh(logs - logs.median())
    return (config.tau * exponent.exp()).clamp(config.tau_min, config.tau_max)


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


def shared_from(config: TrialConfig, measured: list[Tensor], context: LossContext) -> Shared:
    """Returns what the first pass's measures [N] decide. Raises `ValueError` without sequence ids
    where a sequence is looked at as a whole."""
    temperature = row_weight = None
    if config.policy == Policy.TOKEN_ADAPTIVE:
        temperature = adaptive_temperature(config, measured[0])
    if config.divergence == "token_scaled":
        if context.sequence_ids is None:
            raise ValueError(
                "context.sequence_ids must be given for divergence 'token_scaled', which weighs "
                "the positions of a sequence, but got None. Pass one id a position"
            )
        assert config.token_temperature is not None  # TrialConfig fills it in
        row_weight = sequence_weights(measured[-1], context.sequence_ids, config.token_temperature)
    return Shared(temperature, row_weight)


def _cut(values: Tensor | None, start: int, stop: int) -> Tensor | None:
    return values if values is None or values.dim() == 0 else values[start:stop]
