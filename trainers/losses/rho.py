"""Which rho is worth searching: the entropy of a teacher's soft labels against rho and against
tau."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.losses.divergences import in_float

RHO_PER_LOG_VOCAB = (0.25, 0.35, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0)
TAUS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
# A soft label whose entropy is beyond these shares of ln V says next to nothing: it is nearly
# uniform, or nearly one-hot.
FLATTEST, SHARPEST = 0.9, 0.05
SMALLEST_TEMPERATURE = 1e-3
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class EntropyRow:
    """Mean and standard deviation over positions of the soft labels' entropy, in nats, at `setting`
    (a tau, or c in rho = c ln V; `rho` is then given too)."""

    setting: float
    rho: float | None
    mean: float
    std: float


@dataclass(frozen=True)
class RhoRange:
    """The two tables over `num_positions` positions, ln V, and the proposed ends of a search (c and
    rho, the smaller first)."""

    num_positions: int
    log_vocab: float
    by_rho: tuple[EntropyRow, ...]
    by_tau: tuple[EntropyRow, ...]
    low_per_log_vocab: float
    high_per_log_vocab: float

    @property
    def low(self) -> float:
        """The proposed smallest rho."""
        return self.low_per_log_vocab * self.log_vocab

    @property
    def high(self) -> float:
        """The proposed largest rho."""
        return self.high_per_log_vocab * self.log_vocab

    def open_ends(self) -> list[EntropyRow]:
        """Returns the first and the last row of the table of rho, where its entropy is still inside
        the range: there it is the table that ends, not the range."""
        ends = (self.by_rho[0], self.by_rho[-1])
        return [row for row in ends if _is_useful(row.mean / self.log_vocab)]


def rho_range(teacher_logits: Tensor) -> RhoRange:
    """Returns the entropy tables of teacher logits [N, V], and the range of rho to search.

    CIST's paper selects rho from the practical range of entropy; the rule in detail is ours: the
    settings whose mean entropy is between 5 % and 90 % of ln V, or if there are none the two
    settings around that range. Raises `ValueError` for less than two entries or no position.
    """
    if teacher_logits.dim() != 2 or teacher_logits.shape[0] < 1 or teacher_logits.shape[1] < 2:
        raise ValueError(
            "teacher_logits must be [N, V] with N >= 1 and V >= 2, "
            f"but got {list(teacher_logits.shape)}"
        )
    log_vocab = math.log(teacher_logits.shape[1])
    by_rho = _by_rho(teacher_logits, log_vocab)
    inside = [row.setting for row in by_rho if _is_useful(row.mean / log_vocab)]
    low, high = (min(inside), max(inside)) if inside else _nearest(by_rho, log_vocab)
    num_positions = teacher_logits.shape[0]
    return RhoRange(num_positions, log_vocab, by_rho, _by_tau(teacher_logits), low, high)


def _is_useful(share: float) -> bool:
    return SHARPEST <= share <= FLATTEST


def _nearest(rows: Sequence[EntropyRow], log_vocab: float) -> tuple[float, float]:
    """The two neighbouring settings between which the entropy falls through the range."""
    flat = [row.setting for row in rows if row.mean / log_vocab > FLATTEST]
    sharp = [row.setting for row in rows if row.mean / log_vocab < SHARPEST]
    low = max(flat) if flat else rows[0].setting
    high = min(sharp) if sharp else rows[-1].setting
    return low, high


def _by_rho(logits: Tensor, log_vocab: float) -> tuple[EntropyRow, ...]:
    centred = in_float(logits)
    centred = centred - centred.mean(-1, keepdim=True)
    largest = centred.amax(-1, keepdim=True).clamp_min(SMALLEST_TEMPERATURE)
    rows = []
    for setting in RHO_PER_LOG_VOCAB:
        rho = setting * log_vocab
        mean, std = _mean_and_std(centred, largest / rho)
        rows.append(EntropyRow(setting, rho, mean, std))
    return tuple(rows)


def _by_tau(logits: Tensor) -> tuple[EntropyRow, ...]:
    wide = in_float(logits)
    rows = []
    for tau in TAUS:
        mean, std = _mean_and_std(wide, wide.new_full((wide.shape[0], 1), tau))
        rows.append(EntropyRow(tau, None, mean, std))
    return tuple(rows)


def _mean_and_std(logits: Tensor, temperature: Tensor) -> tuple[float, float]:
    """Returns both of the entropy of softmax(logits / temperature), over positions (std of all)."""
    entropies = []
    for start in range(0, logits.shape[0], ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        log_probability = torch.log_softmax(logits[part] / temperature[part], dim=-1)
        entropies.append(-(log_probability.exp() * log_probability).sum(-1))
    entropy = torch.cat(entropies).double()
    return float(entropy.mean()), float(entropy.std(correction=0))
