"""Divergences that weigh vocabulary entries, or the two KLs, by the two distributions themselves.

Signature, units and ranges as in `divergences.py`: softened logits [N, V] in, [N] out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.losses.adaptive_head import head_share
from trainers.losses.divergences import both_kls, in_float, kl, log_probabilities
from trainers.trial.traits import Weighting

# How close to 0 alpha, beta or their sum may come before `alpha_beta` is computed by differences of
# powers: its formula as written subtracts numbers that differ by about that part of their size.
NEAR_A_LIMIT = 0.1


def adaptive_kl(
    *, student_logits: Tensor, teacher_logits: Tensor, head_mass: float = 0.5
) -> Tensor:
    """g_h/(g_h+g_t) KL(p‖q) + g_t/(g_h+g_t) KL(q‖p), [N], g = Σ |p - q| over head and tail.

    The head is the smallest set of the teacher's top entries whose mass reaches `head_mass` (the
    first always in it); head_mass 0 leaves that first one, 1 makes everything head (forward KL).
    The weights are held constant in the gradient, and are ½ each where p = q.
    Wu et al. 2024 (AKL), whose code leaves out the entry that crosses the mass unless it is the
    first; DSKD and KDFlow sort the other way round, TAID's mixes sorted and unsorted entries.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    if head_mass >= 1.0:  # by sums it would depend on rounding whether the last ones are reached
        return kl(teacher, student)
    with torch.no_grad():
        share = head_share(student.exp(), teacher.exp(), head_mass)
    return both_kls(student, teacher, share, 1 - share)


def token_wise(*, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Σ [w p log(p/q) + (1 - w) q log(q/p)], w = p/(p+q) held constant in the gradient, [N].

    Its value is KL(p‖q) + KL(q‖p), twice Jeffreys' at weight ½; its gradient is not. Jung et al.
    2025 (ToDi).
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    gap = teacher - student
    # p / (p + q) from the logs, so that it is exact where both probabilities underflow.
    share = torch.sigmoid(gap.detach())
    return ((share * teacher.exp() - (1 - share) * student.exp()) * gap).sum(-1)


def entropy_switched(
    *, student_logits: Tensor, teacher_logits: Tensor, entropy_weight: float = 3.0
) -> Tensor:
    """a KL(p‖q) + b KL(q‖p), [N]: a = entropy_weight where H(p) > H(q), else 1; b where H(q) >
    H(p).

    entropy_weight 1 is the sum of both KLs, whatever the entropies. No gradient through the
    comparison. Amara et al. 2022 (BD-KD); ABKD's code has the weight 3.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    with torch.no_grad():
        # H(p) - H(q): vecdot of q with log q is -H(q).
        surplus = torch.linalg.vecdot(student.exp(), student)
        surplus -= torch.linalg.vecdot(teacher.exp(), teacher)
        surplus = surplus.unsqueeze(-1)
    forward = torch.where(surplus > 0, entropy_weight, 1.0)
    reverse = torch.where(surplus < 0, entropy_weight, 1.0)
    return both_kls(student, teacher, forward, reverse)


def entropy_aware(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    reverse_weight: float = 1.0,
    forward_weight: float = 1.0,
    entropy_threshold: float = 0.8,
) -> Tensor:
    """reverse_weight KL(q‖p), plus forward_weight KL(p‖q) where H(p) >= entropy_threshold (in
    nats), [N].

    Over the whole vocabulary. EOPD (2603.07079), whose code estimates reverse KL from the student's
    own tokens, so that its soft loss has a reverse_weight of 0, and takes forward KL over the
    teacher's largest entries, renormalised on its side alone, so that it is not 0 at p = q.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    gate = EntropyGate(forward_weight, entropy_threshold)
    return both_kls(student, teacher, gate.factor(teacher.exp(), teacher), reverse_weight)


@dataclass(frozen=True)
class EntropyGate:
    """The weight of forward KL where the teacher's entropy is at least `threshold` nats."""

    weight: float
    threshold: float

    def factor(self, p: Tensor, log_p: Tensor) -> Tensor:
        """Returns the weight or 0 [N, 1] of a teacher's probabilities and their logs [N, V]."""
        entropy = -torch.linalg.vecdot(p, log_p).unsqueeze(-1)
        return torch.where(entropy >= self.threshold, self.weight, 0.0)


def alpha_beta(
    *, student_logits: Tensor, teacher_logits: Tensor, alpha: float = 0.2, beta: float = 0.7
) -> Tensor:
    """-1/(alpha beta) Σ [p^alpha q^beta - alpha/s p^s - beta/s q^s], s = alpha + beta, [N].

    Where alpha, beta or s is 0 it is the limit: (1, 0) is KL(p‖q), (0, 1) is KL(q‖p), (0, 0) is
    ½ Σ (log p - log q)². Cichocki et al. 2011; Wang et al. 2025 (ABKD), whose code has 1/alpha and
    1/beta in the limits where 1/alpha² and 1/beta² belong, and another s = 0.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    if is_near_a_limit(alpha, beta):
        return near_a_limit(student, teacher, alpha, beta)[0]
    return alpha_beta_of(teacher, student, alpha, beta)


def alpha_beta_of(first: Tensor, second: Tensor, alpha: float, beta: float) -> Tensor:
    """Returns `alpha_beta` [N] of log-probabilities [N, V], by its formula: away from its limits;
    alpha is the power of the first."""
    total = alpha + beta
    ends = (alpha * (total * first).exp() + beta * (total * second).exp()) / total
    return (ends - (alpha * first + beta * second).exp()).sum(-1) / (alpha * beta)


def is_near_a_limit(alpha: float, beta: float) -> bool:
    """Returns whether `alpha_beta` is one of its limits, or so near one that its formula as written
    loses digits of float32."""
    return min(abs(alpha), abs(beta), abs(alpha + beta)) < NEAR_A_LIMIT


def near_a_limit(
    student: Tensor, teacher: Tensor, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    """Returns `alpha_beta` [N] of log-probabilities [N, V] and its gradient by the student's, by
    differences of powers, which tend to those of the limits: exact to the last digits near them,
    but twice the work.

    With s = alpha + beta and P(a; x, y) = (x - y) / a for x / y = (p/q)^a, the divergence is
    1/beta Σ [P(s; p^s, q^s) - P(alpha; p^alpha q^beta, q^s)], or with alpha and beta exchanged
    1/alpha Σ [P(beta; p^s, p^alpha q^beta) - P(s; p^s, q^s)]; its gradient by log q is
    -P(alpha; p^alpha q^beta, q^s). Each P has a finite limit at power 0.
    """
    gap, total = teacher - student, alpha + beta
    own, theirs, mixed = total * student, total * teacher, alpha * teacher + beta * student
    of_alpha = _power_gap(alpha, gap, mixed, own)
    if alpha == 0.0 and beta == 0.0:
        return 0.5 * gap.square().sum(-1), -of_alpha
    of_total = _power_gap(total, gap, theirs, own)
    # Of the two forms the one that divides by the larger power: the other may be 0.
    if abs(beta) >= abs(alpha):
        return (of_total - of_alpha).sum(-1) / beta, -of_alpha
    of_beta = _power_gap(beta, gap, theirs, mixed)
    return (of_beta - of_total).sum(-1) / alpha, -of_alpha


def _power_gap(power: float, gap: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Returns (exp(first) - exp(second)) / power, where first - second = power * gap, to the last
    digits however small the power is; of power 0 the limit exp(first) * gap."""
    if power == 0.0:
        return first.exp() * gap
    # The larger of the two times 1 - exp(-difference): expm1 gets numbers up to 0 alone, so that it
    # neither overflows nor loses the digits of a small difference. The clamps are for the branch
    # that `where` drops: an infinite one would make its gradient NaN.
    fall = power * gap
    above = -first.exp() * torch.expm1((-fall).clamp_max(0))
    below = second.exp() * torch.expm1(fall.clamp_max(0))
    return torch.where(fall >= 0, above, below) / power


def concrete_score(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    weighting: Weighting | str = Weighting.STUDENT,
) -> Tensor:
    """¼ Σ_ij a_i b_j (d_i - d_j)² with d = student_logits - teacher_logits, [N].

    a, b are weights over the vocabulary, held constant: `student` (q, q), `uniform_student`
    (1/V, q), `teacher_student` (p, q), `teacher_teacher` (p, p). With `student` the gradient is
    q [d - E_q d], exactly reverse KL's: with the same scaling the two are one point of a search. On
    logits that are not softened, with q at temperature tau, that is tau² times reverse KL's
    gradient at tau.
    Kim et al. 2025 (CSD), whose code back-propagates a surrogate with another value.
    """
    gap = in_float(student_logits) - in_float(teacher_logits.detach())
    with torch.no_grad():
        student, teacher = log_probabilities(student_logits, teacher_logits)
        inner = student.exp()
        outer = _outer_weights(Weighting(weighting), inner, teacher)
        if weighting == Weighting.TEACHER_TEACHER:
            inner = outer
        gap_centre = (inner * gap).sum(-1, keepdim=True)
    # Centred first: the sum over pairs ignores a constant in d, float32 does not.
    centred = gap - gap_centre
    square = centred.square()
    # ¼ Σ_ij a_i b_j (d_i² - 2 d_i d_j + d_j²) = ¼ (Σ a d² + Σ b d²) - ½ (Σ a d) (Σ b d).
    if outer is inner:
        mean = (inner * centred).sum(-1)
        return 0.5 * ((inner * square).sum(-1) - mean.square())
    means = (inner * centred).sum(-1) * (outer * centred).sum(-1)
    return 0.25 * (((inner + outer) * square).sum(-1) - 2 * means)


def centred_mse(*, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """‖c(z) - c(v)‖² / (2V), [N]; c takes a row's mean away.

    What tau² KL(p‖q) and tau² KL(q‖p) both tend to for large tau. Kim et al. 2021 compare it; most
    code takes the mean over all entries without centring, or without the ½.
    """
    gap = in_float(student_logits) - in_float(teacher_logits.detach())
    return 0.5 * (gap - gap.mean(-1, keepdim=True)).square().mean(-1)


def _outer_weights(weighting: Weighting, student: Tensor, log_teacher: Tensor) -> Tensor:
    if weighting == Weighting.STUDENT:
        return student
    if weighting in (Weighting.TEACHER_STUDENT, Weighting.TEACHER_TEACHER):
        return log_teacher.exp()
    return torch.full_like(student, 1 / student.shape[-1])
