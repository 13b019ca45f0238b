"""Sequence terms: what is learned from the tokens that the student drew while it trained, by their
log-probabilities alone.

A term gets `Drawn` and returns, for each token, its value and its slope by log q; nothing else has
a gradient. Since that of -log q is the gradient of the cross-entropy to the token, a term is a
weight of each position on that cross-entropy: a first pass without gradients finds it
(`sampled_text`), and no walk over the vocabulary has to know of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trainers.trial.config import TrialConfig
from trainers.trial.sequence_terms import ImportanceWeight, LengthNorm, SequenceTerm
from trainers.world import World

# MiniLLM's: as many digits as float32 has of a variance of 1.
SMALLEST_VARIANCE = 1e-8


@dataclass(frozen=True)
class Drawn:
    """N tokens that the student drew, whole texts one after another, without gradients.

    student, teacher: log q and log p of each token now, at temperature 1; behaviour: its
    log-probability under what it was drawn from, warped by temperature and top-p as it was then;
    sequence_ids: equal for the tokens of one text. All [N].
    """

    student: Tensor
    teacher: Tensor
    behaviour: Tensor
    sequence_ids: Tensor

    @property
    def reward(self) -> Tensor:
        """log p - log q [N]: less the k1 estimate of reverse KL."""
        return self.teacher - self.student

    @cached_property
    def texts(self) -> "Texts":
        """The tokens text by text."""
        return Texts.of(self.sequence_ids)

    def ratio(self, kind: ImportanceWeight) -> Tensor:
        """Returns q(y) / b(y) [N], of each token or of the text up to it, b the behaviour; or 1."""
        if kind == ImportanceWeight.NONE:
            return torch.ones_like(self.student)
        gap = self.student - self.behaviour
        if kind == ImportanceWeight.SEQUENCE:
            gap = self.texts.flat(self.texts.grid(gap).cumsum(1))
        return gap.exp()


@dataclass(frozen=True)
class Texts:
    """Where N tokens stand in a grid of B texts and their longest length L: row and column [N]."""

    row: Tensor
    column: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, sequence_ids: Tensor) -> "Texts":
        """Returns the places of tokens with these ids [N], a text's one after another."""
        _, row, counts = torch.unique_consecutive(
            sequence_ids, return_inverse=True, return_counts=True
        )
        starts = counts.cumsum(0) - counts
        column = torch.arange(len(row), device=row.device) - starts[row]
        longest = int(counts.max()) if len(counts) else 0
        return cls(row, column, (len(counts), longest))

    def grid(self, values: Tensor) -> Tensor:
        """Returns the values [N] as [B, L], with 0 behind the ends."""
        return values.new_zeros(self.shape).index_put((self.row, self.column), values)

    def flat(self, grid: Tensor) -> Tensor:
        """Returns the values of the tokens [N] of a grid [B, L]."""
        return grid[self.row, self.column]

    def sums_to_the_end(self, values: Tensor, factor: Tensor) -> Tensor:
        """Returns S [N], S_t = value_t + factor_(t+1) S_(t+1) within each text."""
        values, factor = self.grid(values), self.grid(factor)
        sums = torch.zeros_like(values)
        later = values.new_zeros(self.shape[0])
        for column in range(self.shape[1] - 1, -1, -1):
            sums[:, column] = later = values[:, column] + later
            later = factor[:, column] * later
        return self.flat(sums)


@dataclass(frozen=True)
class TokenLoss:
    """Of N tokens: value [N], and slope [N], its derivative by log q."""

    value: Tensor
    slope: Tensor


def kl_reward(config: TrialConfig, drawn: Drawn, world: World) -> TokenLoss:
    """The policy gradient of reverse KL, clipped as PPO does it: -min(r A, clip(r) A).

    A is the (discounted) return of the reward log p - log q from the token on, r the importance
    weight, whose derivative by log q is itself. With discount 1, weights of whole texts and no
    clipping, normalising or whitening its mean over texts is the gradient of KL(q‖p) of texts.
    Schulman et al. 2017 (PPO); Gu et al. 2024 (MiniLLM); with discount 0 on-policy distillation.
    """
    kind = ImportanceWeight(config.importance_weight or ImportanceWeight.NONE)
    ratio, gain = drawn.ratio(kind), advantages(config, drawn, world)
    clip = config.clip_ratio or 0.0
    clipped = ratio.clamp(1 - clip, 1 + clip) if clip else ratio
    # Where the clipped one is smaller, a step further that way would gain nothing: no gradient.
    slope = torch.where(clipped * gain < ratio * gain, 0.0, -ratio * gain)
    return TokenLoss(-torch.minimum(ratio * gain, clipped * gain), slope)


def k2(config: TrialConfig, drawn: Drawn, world: World) -> TokenLoss:
    """r (log q - log p)² / 2, r the importance weight, held constant: its gradient is on average
    that of reverse KL at the positions, token for token that of `kl_reward` with discount 0.
    Schulman 2020, whose k1 and k3 have other gradients than the one of what they estimate."""
    kind = ImportanceWeight(config.importance_weight or ImportanceWeight.NONE)
    ratio = drawn.ratio(kind)
    return TokenLoss(0.5 * ratio * drawn.reward.square(), -ratio * drawn.reward)


def advantages(config: TrialConfig, drawn: Drawn, world: World) -> Tensor:
    """Returns what each token is rewarded with, [N]: its return, normalised and whitened as the
    config says."""
    gain = returns(config, drawn)
    return whitened(gain, world) if config.whiten else gain


def returns(config: TrialConfig, drawn: Drawn) -> Tensor:
    """Returns Σ_(i ≥ t) discount^(i-t) (log p_i - log q_i) [N], from i > t on without
    `include_current`, over what `length_norm` says. Later rewards carry the importance weights of
    the tokens between where weights are those of texts."""
    discount = drawn.reward.new_full((), config.discount or 0.0)
    factor = discount.expand_as(drawn.reward)
    weighted = factor
    if config.importance_weight == ImportanceWeight.SEQUENCE:
        weighted = factor * drawn.ratio(ImportanceWeight.TOKEN)
    sums = drawn.texts.sums_to_the_end(drawn.reward, weighted)
    if config.length_norm == LengthNorm.LENGTH:
        factor = torch.ones_like(factor)
    length = drawn.texts.sums_to_the_end(torch.ones_like(sums), factor)
    if not config.include_current:
        sums, length = sums - drawn.reward, length - 1
    if config.length_norm in (None, LengthNorm.NONE):
        return sums
    return torch.where(length > 0, sums / length.clamp_min(torch.finfo(length.dtype).tiny), 0.0)


def whitened(values: Tensor, world: World) -> Tensor:
    """Returns the values [N] less their mean, over their standard deviation, both over all workers'
    values; every worker has to call it, one without values too."""
    wide = values.double()
    moments = torch.stack([torch.ones_like(wide).sum(), wide.sum(), wide.square().sum()])
    count, total, squares = world.summed(moments)
    mean = total / count.clamp_min(1)
    variance = (squares / count.clamp_min(1) - mean.square()).clamp_min(0)
    scaled: Tensor = (wide - mean) * (variance + SMALLEST_VARIANCE).rsqrt()
    return scaled.to(values.dtype)


SEQUENCE_FUNCTIONS: dict[SequenceTerm, Callable[[TrialConfig, Drawn, World], TokenLoss]] = {
    SequenceTerm.KL_REWARD: kl_reward,
    SequenceTerm.K2: k2,
}
