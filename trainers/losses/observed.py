"""What a trial's loss does at some positions: soft labels, gradients by the logits, and how sure
student and teacher are. It explains a trial and changes nothing of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.losses.context import LossContext
from trainers.losses.distillation import DistillationLoss
from trainers.losses.divergences import in_float
from trainers.losses.gradients import (
    KLS,
    NUM_TOP,
    GradientRows,
    Rung,
    entropy,
    hard_gradient,
    joined,
    ladder,
    log_softened,
    matched_deviation,
    top_columns,
)
from trainers.losses.passes import BatchSettings
from trainers.losses.rho import TAUS
from trainers.losses.soft_term import SoftTerm
from trainers.trial.traits import Policy, Scaling

OWN, AT_ONE = "loss", "at temperature 1"
# What the trial's gradient is compared with.
WITHOUT_TEMPERATURE = {
    "policy": Policy.FIXED,
    "tau": 1.0,
    "scaling": Scaling.NONE,
    "weight_by_power_sum": None,
}
ALONE = {"forward_weight": None, "entropy_threshold": None}
# Beyond the ladder, so that flat and sharp soft labels find a mean that matches theirs.
FURTHER_TAUS = (0.25, 0.35, 11.3, 16.0, 22.6, 32.0, 64.0)
NUM_BINS = 20
SHARES = ("off_top1", "off_top5", "vanishing")


@dataclass(frozen=True)
class LogitRows:
    """Some positions: unsoftened logits of both sides [N, V], labels [N], and what the loss makes
    of the batch that they are of."""

    student: Tensor
    teacher: Tensor
    labels: Tensor
    settings: BatchSettings


@dataclass(frozen=True)
class Observed:
    """N positions. entropy: of the teacher's soft labels [N], in nats; weight: the factor on each
    position's divergence [N]; student_scale, teacher_scale: the largest centred logit [N];
    hard_square: squared norm of cross-entropy's gradient [N]; top: the probabilities [N, k] of the
    largest entries of student and teacher, as they are and softened; gradients: of the trial's own
    soft loss (`OWN`) and of both KLs in its place; rungs: none, or one for each of `TAUS`;
    further: the entropies [N] at each of `FURTHER_TAUS`, where there are rungs."""

    entropy: Tensor
    weight: Tensor
    student_scale: Tensor
    teacher_scale: Tensor
    hard_square: Tensor
    top: Mapping[str, Tensor]
    gradients: Mapping[str, GradientRows]
    rungs: Sequence[Rung]
    further: Sequence[Tensor]

    @classmethod
    def joined(cls, parts: Sequence["Observed"]) -> "Observed":
        """Returns the positions of all parts, in float64 on the CPU."""
        rungs = [Rung.joined(one) for one in zip(*(part.rungs for part in parts), strict=True)]
        return cls(
            entropy=joined([part.entropy for part in parts]),
            weight=joined([part.weight for part in parts]),
            student_scale=joined([part.student_scale for part in parts]),
            teacher_scale=joined([part.teacher_scale for part in parts]),
            hard_square=joined([part.hard_square for part in parts]),
            top={side: joined([part.top[side] for part in parts]) for side in parts[0].top},
            gradients={
                name: GradientRows.joined([part.gradients[name] for part in parts])
                for name in parts[0].gradients
            },
            rungs=rungs,
            further=[joined(one) for one in zip(*(part.further for part in parts), strict=True)],
        )


class Observer:
    """Looks at positions through the loss of a trial, at one of its steps."""

    def __init__(self, loss: DistillationLoss, context: LossContext) -> None:
        self.config = loss.term_at(context).config
        is_kl = self.config.divergence in KLS and not self.config.forward_weight
        self._own_kl = self.config.divergence if is_kl else None
        changes: dict[str, dict[str, Any]] = {OWN: {}, AT_ONE: WITHOUT_TEMPERATURE}
        changes |= {kl: {"divergence": kl, **ALONE} for kl in KLS if kl != self._own_kl}
        self._terms = {
            name: SoftTerm(self.config.model_copy(update=changed), loss.vocab_size)
            for name, changed in changes.items()
        }

    @torch.no_grad()
    def look(self, rows: LogitRows, *, with_ladder: bool) -> Observed:
        """Returns what is seen at the positions; with_ladder: at each of `TAUS` too."""
        softened = self._terms[OWN].softened(rows.student, rows.teacher, rows.settings)
        factors = (rows.settings.row_weight, rows.settings.kept)
        hard = hard_gradient(log_softened(rows.student, 1.0), rows.labels)
        return Observed(
            entropy=entropy(log_softened(softened.teacher, 1.0)),
            weight=math.prod((f for f in factors if f is not None), start=softened.weight),
            student_scale=_scale(rows.student),
            teacher_scale=_scale(rows.teacher),
            hard_square=torch.linalg.vecdot(hard, hard),
            top={
                "teacher": _top_probabilities(rows.teacher),
                "soft_teacher": _top_probabilities(softened.teacher),
                "student": _top_probabilities(rows.student),
                "soft_student": _top_probabilities(softened.student),
            },
            gradients=self._gradients(rows),
            rungs=ladder(rows.student, rows.teacher, TAUS) if with_ladder else [],
            further=[
                entropy(log_softened(rows.teacher, tau)) for tau in FURTHER_TAUS if with_ladder
            ],
        )

    def _gradients(self, rows: LogitRows) -> dict[str, GradientRows]:
        top = top_columns(rows.teacher)
        found = {name: soft_gradient(term, rows) for name, term in self._terms.items()}
        at_one = found.pop(AT_ONE)
        if self._own_kl is not None:
            found[self._own_kl] = found[OWN]
        return {
            name: GradientRows.of(gradient, top, at_one if name == OWN else None)
            for name, gradient in found.items()
        }

    def metrics(self, seen: Observed) -> dict[str, float]:
        """Returns the numbers of docs/diagnostics.md; those that are not defined are left out."""
        mean, deviation = moments(seen.entropy)
        of_weighted = moments(seen.entropy, seen.weight)
        by_tau = [moments(one) for one in (*(rung.entropy for rung in seen.rungs), *seen.further)]
        own = seen.gradients[OWN].summary()
        hard = self.config.hard_weight * float(seen.hard_square.mean()) ** 0.5
        soft = self.config.soft_weight * own["norm"]
        found = {
            "soft_entropy_mean": mean,
            "soft_entropy_std": deviation,
            "soft_entropy_mean_weighted": of_weighted[0],
            "soft_entropy_std_weighted": of_weighted[1],
            "matched_entropy_std": matched_deviation(mean, by_tau),
            "logit_scale_ratio": float(seen.student_scale.mean() / seen.teacher_scale.mean()),
            "cosine_to_tau_1": own.get("cosine"),
            "hard_to_soft": hard / soft if soft > 0 else None,
            **_named_shares(seen.gradients),
        }
        return {n: x for n, x in found.items() if x is not None and math.isfinite(x)}

    def distributions(self, seen: Observed, vocab_size: int) -> dict[str, Any]:
        """Returns what is no single number, as plain values: histograms of `NUM_BINS` equal bins
        (entropy from 0 to ln V, probabilities from 0 to 1, for each rank from the largest on), and
        the ladder."""
        log_vocab = math.log(vocab_size)
        weights = seen.weight / seen.weight.mean()
        return {
            "entropy": {
                "counts": _histogram(seen.entropy, log_vocab),
                "weighted_counts": _histogram(seen.entropy, log_vocab, weights),
            },
            "top_probabilities": {
                side: [_histogram(column, 1.0) for column in found.unbind(-1)]
                for side, found in seen.top.items()
            },
            "ladder": [_of_rung(rung) for rung in seen.rungs],
        }


def soft_gradient(term: SoftTerm, rows: LogitRows) -> Tensor:
    """Returns the gradient [N, V] of the scaled soft loss, summed over the positions, by the
    unsoftened student logits."""
    with torch.enable_grad():
        leaf = rows.student.detach().requires_grad_()
        total = term.values(leaf, rows.teacher, rows.labels, rows.settings).sum()
        (found,) = torch.autograd.grad(total, leaf)
    return found


def _top_probabilities(logits: Tensor) -> Tensor:
    """Returns the largest probabilities [N, k], the largest first."""
    largest = in_float(logits).topk(min(NUM_TOP, logits.shape[-1]), dim=-1).values
    return (largest - torch.logsumexp(in_float(logits), dim=-1, keepdim=True)).exp()


def _named_shares(gradients: Mapping[str, GradientRows]) -> dict[str, float | None]:
    """What gradients are made of, by the names of the metrics."""
    found: dict[str, float | None] = {}
    for name, rows in gradients.items():
        prefix, summary = "" if name == OWN else f"{name}_", rows.summary()
        found |= {prefix + share: summary.get(share) for share in SHARES}
    return found


def moments(values: Tensor, weights: Tensor | None = None) -> tuple[float, float]:
    """Returns the mean of `values` [N], weighted where there are weights, and the standard
    deviation around it."""
    weights = torch.ones_like(values) if weights is None else weights
    total = weights.sum()
    mean = (weights * values).sum() / total
    variance = (weights * (values - mean).square()).sum() / total
    return float(mean), float(variance.sqrt())


def _scale(logits: Tensor) -> Tensor:
    return logits.amax(-1) - logits.mean(-1)


def _histogram(values: Tensor, high: float, weights: Tensor | None = None) -> list[float]:
    counts, _ = np.histogram(
        values.clamp(0, high).numpy(),
        bins=NUM_BINS,
        range=(0, high),
        weights=None if weights is None else weights.numpy(),
    )
    return [round(float(count), 3) for count in counts]


def _of_rung(rung: Rung) -> dict[str, Any]:
    mean, deviation = moments(rung.entropy)
    gradients = {name: rows.summary() for name, rows in rung.gradients.items()}
    return {"tau": rung.tau, "entropy_mean": mean, "entropy_std": deviation, **gradients}
