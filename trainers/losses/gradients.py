"""What gradients by the student's logits [N, V] are made of, for diagnostics; pure functions.

The entries of a row sum to 0 where a constant added to the logits does not matter. Its largest
entry then outweighs no more than all others together: the share off one entry is at least ½.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from trainers.losses.divergences import in_float

NUM_TOP = 5
# A row's gradient vanishes below this L1 norm. Forward KL's at temperature 1 is twice the total
# variation of student and teacher, so 2 at most.
VANISHING = 1e-3


@dataclass(frozen=True)
class GradientRows:
    """A gradient by logits [N, V], row by row, each [N]. mass: Σ |g|; off_top1, off_top5: the part
    of it outside of the teacher's largest logit, or its five; square: Σ g²; along, other_square:
    Σ g r and Σ r² of another gradient r of the same positions."""

    mass: Tensor
    off_top1: Tensor
    off_top5: Tensor
    square: Tensor
    along: Tensor
    other_square: Tensor

    @classmethod
    def of(cls, gradient: Tensor, top: Tensor, other: Tensor | None = None) -> "GradientRows":
        """Returns the rows of `gradient`; top: the columns [N, k] of the teacher's largest logits,
        the largest first."""
        size = gradient.abs()
        mass, at_top = size.sum(-1), size.gather(-1, top)
        square = torch.linalg.vecdot(gradient, gradient)
        return cls(
            mass=mass,
            off_top1=(mass - at_top[:, 0]).clamp_min(0),  # rounding may leave less than 0
            off_top5=(mass - at_top.sum(-1)).clamp_min(0),
            square=square,
            along=torch.linalg.vecdot(gradient, other) if other is not None else 0 * square,
            other_square=torch.linalg.vecdot(other, other) if other is not None else 0 * square,
        )

    @classmethod
    def joined(cls, parts: Sequence["GradientRows"]) -> "GradientRows":
        """Returns the rows of all parts, in float64 on the CPU."""
        names = [field.name for field in fields(cls)]
        return cls(*(joined([getattr(part, name) for part in parts]) for name in names))

    def summary(self) -> dict[str, float]:
        """Returns, over all rows: off_top1 and off_top5, as shares of the whole mass; vanishing,
        the share of rows; norm, the root mean square of the rows' L2 norms; cosine, with the other
        gradient. What a gradient of 0 leaves undefined is left out."""
        mass, square = float(self.mass.sum()), float(self.square.sum())
        found = {
            "vanishing": float((self.mass < VANISHING).double().mean()),
            "norm": (square / len(self.mass)) ** 0.5,
        }
        if mass > 0:
            found["off_top1"] = float(self.off_top1.sum()) / mass
            found["off_top5"] = float(self.off_top5.sum()) / mass
        both = square * float(self.other_square.sum())
        if both > 0:
            found["cosine"] = float(self.along.sum()) / both**0.5
        return found


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Returns the parts one after another, in float64 on the CPU."""
    return torch.cat(list(parts)).double().cpu()


def top_columns(teacher_logits: Tensor) -> Tensor:
    """Returns the columns [N, k] of the k = min(5, V) largest logits, the largest first."""
    return teacher_logits.topk(min(NUM_TOP, teacher_logits.shape[-1]), dim=-1).indices


def hard_gradient(log_q: Tensor, labels: Tensor) -> Tensor:
    """Returns q - 1[label] [N, V], the gradient of the cross-entropy to labels [N]."""
    minus_one = log_q.new_full((len(labels), 1), -1.0)
    return log_q.exp().scatter_add_(-1, labels.unsqueeze(-1), minus_one)


def forward_kl_gradient(log_q: Tensor, log_p: Tensor, tau: float) -> Tensor:
    """Returns tau (q - p) [N, V], the gradient of tau² KL(p‖q), where both are softened by tau."""
    return tau * (log_q.exp() - log_p.exp())


def reverse_kl_gradient(log_q: Tensor, log_p: Tensor, tau: float) -> Tensor:
    """Returns tau q (d - Σ q d) [N, V] with d = log q - log p, the gradient of tau² KL(q‖p), where
    both are softened by tau."""
    gap, q = log_q - log_p, log_q.exp()
    mean_gap: Tensor = torch.linalg.vecdot(q, gap).unsqueeze(-1)
    return tau * q * (gap - mean_gap)


KLS = {"forward_kl": forward_kl_gradient, "reverse_kl": reverse_kl_gradient}


def kl_gradients(student_logits: Tensor, teacher_logits: Tensor, tau: float) -> dict[str, Tensor]:
    """Returns the gradients [N, V] of tau² KL(p‖q) and tau² KL(q‖p) by the student's logits."""
    log_q, log_p = (log_softened(logits, tau) for logits in (student_logits, teacher_logits))
    return {name: of(log_q, log_p, tau) for name, of in KLS.items()}


def log_softened(logits: Tensor, tau: float) -> Tensor:
    """Returns log softmax(logits / tau) [N, V], in float32 or wider."""
    return torch.log_softmax(in_float(logits) / tau, dim=-1)


def entropy(log_probabilities: Tensor) -> Tensor:
    """Returns the entropy [N] in nats of rows of log-probabilities [N, V]."""
    found: Tensor = torch.special.entr(log_probabilities.exp()).sum(-1)
    return found


@dataclass(frozen=True)
class Rung:
    """One temperature of the ladder: both KLs' gradients, beside their own at 1, and the entropies
    [N] of the teacher's soft labels."""

    tau: float
    gradients: dict[str, GradientRows]
    entropy: Tensor

    @classmethod
    def joined(cls, parts: Sequence["Rung"]) -> "Rung":
        """Returns the rung over the positions of all parts."""
        names = parts[0].gradients
        gradients = {n: GradientRows.joined([part.gradients[n] for part in parts]) for n in names}
        return cls(parts[0].tau, gradients, joined([part.entropy for part in parts]))


def ladder(student_logits: Tensor, teacher_logits: Tensor, taus: Sequence[float]) -> list[Rung]:
    """Returns what forward and reverse KL do at each of `taus`, of unsoftened logits [N, V] that
    the same temperature divides on both sides; scaled by tau²."""
    top = top_columns(teacher_logits)
    at_one = kl_gradients(student_logits, teacher_logits, 1.0)
    rungs = []
    for tau in taus:
        log_q, log_p = (log_softened(logits, tau) for logits in (student_logits, teacher_logits))
        gradients = {
            name: GradientRows.of(of(log_q, log_p, tau), top, at_one[name])
            for name, of in KLS.items()
        }
        rungs.append(Rung(tau, gradients, entropy(log_p)))
    return rungs


def matched_deviation(mean: float, rungs: Sequence[tuple[float, float]]) -> float | None:
    """Returns the standard deviation of the entropies that one temperature for all positions has
    where their mean is `mean`; interpolated between `rungs` (mean, deviation), None beyond
    them."""
    ordered = sorted(rungs)
    for (low, first), (high, last) in zip(ordered, ordered[1:], strict=False):
        if low <= mean <= high:
            share = (mean - low) / max(high - low, 1e-12)
            return first + share * (last - first)
    return None
