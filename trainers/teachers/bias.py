"""How far the soft loss is off where a cache stores less than the teacher says, by the temperatures
that sweeps try."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from trainers.trial.traits import Policy

SETTINGS: tuple[tuple[Policy, float], ...] = (
    *((Policy.FIXED, tau) for tau in (0.5, 1.0, 2.0, 4.0, 8.0)),
    *((Policy.CIST, c) for c in (0.8, 1.0, 1.2, 1.4, 1.6)),
)


@dataclass(frozen=True)
class BiasRow:
    """At one temperature, over a sample of positions. at: tau of `fixed`, rho over ln V of `cist`;
    kl, jsd: means, in nats, between the teacher and what is stored of it; forward, reverse: error
    of the gradient of forward and of reverse KL relative to its norm, for a student halfway between
    how frequent each token is and the teacher."""

    policy: str
    at: float
    kl: float
    jsd: float
    forward: float
    reverse: float


@torch.no_grad()
def measure(answers: Iterable[tuple[Tensor, Tensor]], shape: Tensor) -> list[dict[str, object]]:
    """Returns a `BiasRow` for each setting as plain data. answers: some positions' logits [N, V] as
    the teacher says them, and as they are stored; shape: [V], the mean of centred logits."""
    sums = torch.zeros(len(SETTINGS), 6, dtype=torch.float64)
    count = 0
    for exact, stored in answers:
        student = (exact.float() - exact.float().mean(-1, keepdim=True) + shape) / 2
        for number, (policy, at) in enumerate(SETTINGS):
            softened = (_log_softened(each, policy, at) for each in (exact, stored, student))
            sums[number] += torch.tensor(_sums(*softened), dtype=torch.float64)
        count += len(exact)
    return [
        asdict(
            BiasRow(
                policy=str(policy),
                at=at,
                kl=kl / max(count, 1),
                jsd=jsd / max(count, 1),
                forward=math.sqrt(error_f / max(norm_f, 1e-30)),
                reverse=math.sqrt(error_r / max(norm_r, 1e-30)),
            )
        )
        for (policy, at), (kl, jsd, error_f, norm_f, error_r, norm_r) in zip(
            SETTINGS, sums.tolist(), strict=True
        )
    ]


def _log_softened(logits: Tensor, policy: Policy, at: float) -> Tensor:
    centred = logits.float() - logits.float().mean(-1, keepdim=True)
    if policy == Policy.FIXED:
        return (centred / at).log_softmax(-1)
    rho = at * math.log(logits.shape[1])
    return (centred * (rho / centred.amax(-1, keepdim=True).clamp_min(1e-12))).log_softmax(-1)


def _sums(exact: Tensor, stored: Tensor, student: Tensor) -> list[float]:
    """Sums over positions of KL and JSD between the teacher's and the stored probabilities, and of
    the squares of the gradients' errors and of the gradients, from log-probabilities."""
    middle = torch.logaddexp(exact, stored) - math.log(2)
    jsd = _kl(exact, middle) / 2 + _kl(stored, middle) / 2
    forward = student.exp() - exact.exp()
    right, wrong = _reverse_gradient(student, exact), _reverse_gradient(student, stored)
    found = (
        _kl(exact, stored),
        jsd,
        (exact.exp() - stored.exp()).square(),
        forward.square(),
        (right - wrong).square(),
        right.square(),
    )
    return [float(each.sum()) for each in found]


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def _reverse_gradient(student: Tensor, teacher: Tensor) -> Tensor:
    gap = student - teacher
    q = student.exp()
    return q * (gap - (q * gap).sum(-1, keepdim=True))
