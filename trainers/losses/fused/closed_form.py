"""Value and gradient of each divergence in closed form, computed in place where that is safe.

Autograd walks the vocabulary about twice as often for the same numbers, and is left to divergences
that have no function here. A function takes a `DivergenceInput` and a coefficient [C, 1], and
returns the values [C] and coefficient times the gradient by the student's softened logits.

Derivation. Where D is a function of log q, with g = dD/d(log q) and other parts constant, the
softmax gives dD/dz_k = g_k - q_k Σ_j g_j (`through_softmax`). Notation: z, v are the softened
logits of student and teacher, q, p their softmax, m a mixture of both.

Each [C, V] tensor is read from memory and written back, so the functions work in few of them: names
like `terms` stand for a tensor that reuses the memory of another one, which is gone from there on.
Comments say which. Within a walk the order of operations decides the last bits of a trial.
"""

import torch
from torch import Tensor

from trainers.losses import weighted
from trainers.losses.adaptive_head import head_share
from trainers.losses.fused import (
    closed_by_writer,
    closed_classifiers,
    closed_labelled,
    closed_mixture,
)
from trainers.losses.fused.closed_parts import (
    ClosedForm,
    DivergenceInput,
    Sides,
    both_kls,
    positive,
    pull_of,
    row_dot,
    row_sum,
    through_softmax,
)
from trainers.trial.traits import Weighting


def forward_kl(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p‖q); gradient q - p, by the teacher p (log(p/q) - KL)."""
    sides = Sides.of(given)
    terms = sides.log_p.sub_(sides.log_q).mul_(sides.p)  # p log(p/q), in log_p's memory
    value = row_sum(terms)
    if given.pull is not None:
        # p (log(p/q) - KL): the teacher's own softmax, applied to its part of the gradient.
        given.pull.add_(pull_of(terms.addcmul_(sides.p, -value), given.teacher))
    return value.squeeze(-1), sides.q.sub_(sides.p).mul_(coefficient)


def reverse_kl(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q‖p); gradient q (log(q/p) - KL), by the teacher p - q."""
    log_q, log_p = given.log_probabilities()
    q = log_q.exp()
    terms = log_q.sub_(log_p).mul_(q)  # q log(q/p), in log_q's memory
    if given.pull is not None:
        # log_p has served: its memory takes p, then p - q.
        given.pull.add_(pull_of(log_p.exp_().sub_(q), given.teacher))
    value = row_sum(terms)
    return value.squeeze(-1), terms.addcmul_(q, -value).mul_(coefficient)


def generalized_jsd(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """beta KL(p‖m) + (1 - beta) KL(q‖m); gradient (1 - beta) q (log(q/m) - KL(q‖m)), by the teacher
    beta p (log(p/m) - KL(p‖m))."""
    beta = given.parameters["beta"]
    if beta in (0.0, 1.0):
        return (forward_kl if beta == 0.0 else reverse_kl)(given, coefficient)
    share = 1 / (beta * (1 - beta)) if given.parameters["unit_curvature"] else 1.0
    sides = Sides.of(given)
    mixture = positive(torch.lerp(sides.q, sides.p, beta)).log_()  # log m from here on
    by_teacher = sides.log_p.sub_(mixture).mul_(sides.p)  # p log(p/m), in log_p's memory
    of_teacher = row_sum(by_teacher)
    if given.pull is not None:
        by_teacher.addcmul_(sides.p, -of_teacher)
        given.pull.add_(pull_of(by_teacher, given.teacher), alpha=share * beta)
    terms = sides.log_q.sub_(mixture).mul_(sides.q)  # q log(q/m), in log_q's memory
    of_student = row_sum(terms)
    # No part through log m: Σ (beta p + (1 - beta) q) dm/m = Σ dm = 0.
    slope = terms.addcmul_(sides.q, -of_student).mul_(coefficient * (share * (1 - beta)))
    return (share * (beta * of_teacher + (1 - beta) * of_student)).squeeze(-1), slope


def reverse_cross_entropy(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """-Σ q log p; gradient -q (log p - Σ q log p)."""
    q, log_p = torch.softmax(given.student, dim=-1), torch.log_softmax(given.teacher, dim=-1)
    terms = log_p.mul_(q)  # q log p, in log_p's memory
    value = -terms.sum(-1)
    return value, through_softmax(terms, q, -coefficient)


def jeffreys(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """(1 - weight) KL(p‖q) + weight KL(q‖p)."""
    weight = torch.full_like(coefficient, given.parameters["weight"])
    return both_kls(Sides.of(given), 1 - weight, weight, coefficient)


def entropy_switched(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p‖q) and KL(q‖p), the one of the side with more entropy times entropy_weight."""
    sides = Sides.of(given)
    # H(p) - H(q). The switch is constant between its jumps, so it has no gradient.
    surplus = row_dot(sides.q, sides.log_q) - row_dot(sides.p, sides.log_p)
    weight = given.parameters["entropy_weight"]
    forward, reverse = (torch.where(side > 0, weight, 1.0) for side in (surplus, -surplus))
    return both_kls(sides, forward, reverse, coefficient)


def entropy_aware(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """reverse_weight KL(q‖p), and forward_weight KL(p‖q) where the teacher's entropy reaches its
    threshold."""
    sides = Sides.of(given)
    forward = weighted.EntropyGate(
        given.parameters["forward_weight"], given.parameters["entropy_threshold"]
    ).factor(sides.p, sides.log_p)
    reverse = torch.full_like(coefficient, given.parameters["reverse_weight"])
    return both_kls(sides, forward, reverse, coefficient)


def adaptive_kl(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p‖q) and KL(q‖p), weighted by the gaps on the teacher's head and tail."""
    if given.parameters["head_mass"] >= 1.0:  # everything is head, as in the plain form
        return forward_kl(given, coefficient)
    sides = Sides.of(given)
    share = head_share(sides.q, sides.p, given.parameters["head_mass"])
    return both_kls(sides, share, 1 - share, coefficient)


def token_wise(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """Σ [w p log(p/q) + (1 - w) q log(q/p)], w = p/(p+q) constant; by log q it is
    (1 - w) q (d + 1) - w p with d = log(q/p)."""
    sides = Sides.of(given)
    gap = sides.log_q.sub_(sides.log_p)  # d, in log_q's memory
    share = torch.sigmoid(gap)  # 1 - w, of the reverse direction
    forward = sides.p.addcmul_(share, sides.p, value=-1)  # w p, in p's memory
    reverse = share.mul_(sides.q)  # (1 - w) q, in the share's memory
    by_log_q = torch.sub(reverse, forward, out=forward)
    further = reverse.mul_(gap)  # (1 - w) q d: what by_log_q still lacks
    # Both terms of the value have the factor d: Σ d ((1 - w) q - w p).
    value = gap.mul_(by_log_q).sum(-1)
    return value, through_softmax(by_log_q.add_(further), sides.q, coefficient)


def skew_forward_kl(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p‖m), m = alpha p + (1 - alpha) q; gradient (1 - alpha) q (Σ q p/m - p/m)."""
    alpha = given.parameters["alpha"]
    if alpha == 0.0:
        return forward_kl(given, coefficient)
    sides = Sides.of(given)
    mixture = positive(torch.lerp(sides.q, sides.p, alpha))
    terms = (sides.p / mixture).mul_(sides.q)  # -dD/d(log q) / (1 - alpha) = q p/m
    # m becomes log m here, which is safe: its quotient was taken above.
    value = sides.log_p.sub_(mixture.log_()).mul_(sides.p).sum(-1)
    return value, through_softmax(terms, sides.q, coefficient * (alpha - 1))


def skew_reverse_kl(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q‖m), m = alpha q + (1 - alpha) p; gradient q (r - Σ q r), r = log(q/m) - alpha q/m, its
    last part left out where the mixture is constant."""
    alpha = given.parameters["alpha"]
    if alpha == 0.0:
        return reverse_kl(given, coefficient)
    sides = Sides.of(given)
    mixture = positive(torch.lerp(sides.p, sides.q, alpha))
    quotient = torch.div(sides.q, mixture, out=sides.p)  # q/m in p's memory, before m becomes log m
    terms = sides.log_q.sub_(mixture.log_()).mul_(sides.q)  # q log(q/m), in log_q's memory
    value = terms.sum(-1)
    # By log q: q log(q/m), and q as every KL's first side has, which the softmax takes away again.
    if not given.parameters["detach_mixture"]:
        # The mixture's own part: q times d(log m)/d(log q) = alpha q/m.
        terms.addcmul_(quotient, sides.q, value=-alpha)
    return value, through_softmax(terms, sides.q, coefficient)


def total_variation(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """½ Σ |q - p|; gradient ½ q (s - Σ q s), s the sign of q - p."""
    q, p = (torch.softmax(side, dim=-1) for side in (given.student, given.teacher))
    gap = torch.sub(q, p, out=p)
    value = 0.5 * torch.linalg.vector_norm(gap, ord=1, dim=-1)
    # The sign of 0 is 0, as autograd has it for |x|.
    terms = gap.sign_().mul_(q)
    return value, through_softmax(terms, q, 0.5 * coefficient)


def alpha_beta(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """The alpha-beta family; by log q: (q^s - p^alpha q^beta) / alpha with s = alpha + beta, and in
    the limit of alpha 0 q^beta log(q/p)."""
    alpha, beta = given.parameters["alpha"], given.parameters["beta"]
    sides = Sides.of(given)
    if weighted.is_near_a_limit(alpha, beta):
        # As the plain form: both switch at the same place, so that a searched alpha sees one value.
        value, by_log_q = weighted.near_a_limit(sides.log_q, sides.log_p, alpha, beta)
        return value, through_softmax(by_log_q, sides.q, coefficient)
    total = alpha + beta
    both = torch.mul(sides.log_q, beta).add_(sides.log_p, alpha=alpha).exp_()  # p^alpha q^beta
    own = torch.mul(sides.log_q, total).exp_()  # q^s
    theirs = sides.log_p.mul_(total).exp_().sum(-1)  # Σ p^s, in log_p's memory
    ends = (alpha * theirs + beta * own.sum(-1)) / total
    value = (ends - both.sum(-1)) / (alpha * beta)
    return value, through_softmax(own.sub_(both), sides.q, coefficient / alpha)


def concrete_score(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """¼ Σ_ij a_i b_j (d_i - d_j)², weights constant; gradient ½ a (d - E_b d) + ½ b (d - E_a d)."""
    weighting = Weighting(given.parameters["weighting"])
    of_teacher = weighting == Weighting.TEACHER_TEACHER
    inner = torch.softmax(given.teacher if of_teacher else given.student, dim=-1)
    outer = inner
    if weighting == Weighting.TEACHER_STUDENT:
        outer = torch.softmax(given.teacher, dim=-1)
    elif weighting == Weighting.UNIFORM_STUDENT:
        outer = torch.full_like(inner, 1 / inner.shape[-1])
    gap = torch.sub(given.student, given.teacher, out=given.teacher)  # d, in the teacher's memory
    # Pairs ignore a constant added to d; float32 does not, so d is centred first. Its mean over q
    # is then 0 but for rounding, and is still taken: its last digits count against small values.
    gap.sub_(row_dot(inner, gap))
    inner_mean, outer_mean = row_dot(inner, gap), row_dot(outer, gap)
    both = inner + outer
    slope = both.mul_(gap)  # (a + b) d; the value needs only its sum with d
    # ¼ Σ_ij a_i b_j (d_i² - 2 d_i d_j + d_j²), as a and b each sum to 1.
    value = 0.25 * row_dot(slope, gap) - 0.5 * inner_mean * outer_mean
    slope.addcmul_(inner, -outer_mean).addcmul_(outer, -inner_mean)
    return value.squeeze(-1), slope.mul_(0.5 * coefficient)


def centred_mse(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """‖c(z) - c(v)‖² / (2V); gradient c(z - v) / V."""
    gap = torch.sub(given.student, given.teacher, out=given.teacher)  # in the teacher's memory
    gap.sub_(gap.mean(-1, keepdim=True))
    num_entries = gap.shape[-1]
    value = torch.linalg.vecdot(gap, gap) / (2 * num_entries)
    return value, gap.mul_(coefficient / num_entries)


def gated_forward_kl(
    gate: weighted.EntropyGate, given: DivergenceInput, coefficient: Tensor
) -> tuple[Tensor, Tensor]:
    """KL(p‖q) times the gate's factor, which has no gradient; what is given, which a divergence
    takes after it, stays as it is."""
    log_q, log_p = given.log_probabilities()
    p = log_p.exp()
    factor, gap = gate.factor(p, log_p), log_p - log_q
    value = row_dot(p, gap)
    if given.pull is not None:
        by_teacher = gap.sub_(value).mul_(p).mul_(factor)
        given.pull.add_(pull_of(by_teacher, given.teacher))
    slope = torch.exp(log_q, out=gap).sub_(p).mul_(coefficient * factor)
    return (factor * value).squeeze(-1), slope


CLOSED_FORMS: dict[str, ClosedForm] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jeffreys": jeffreys,
    "generalized_jsd": generalized_jsd,
    "skew_forward_kl": skew_forward_kl,
    "skew_reverse_kl": skew_reverse_kl,
    "total_variation": total_variation,
    "adaptive_kl": adaptive_kl,
    "alpha_beta": alpha_beta,
    "alpha_mixture": closed_mixture.alpha_mixture,
    "token_wise": token_wise,
    "concrete_score": concrete_score,
    "centred_mse": centred_mse,
    "reverse_cross_entropy": reverse_cross_entropy,
    "entropy_switched": entropy_switched,
    "entropy_aware": entropy_aware,
    "decoupled": closed_labelled.decoupled,
    "diverse_reverse_kl": closed_labelled.diverse_reverse_kl,
    "normalised": closed_labelled.normalised,
    "refined": closed_classifiers.refined,
    "improved_kl": closed_classifiers.improved_kl,
    "entropy_gated": closed_classifiers.entropy_gated,
    "contrastive_skew_kl": closed_by_writer.contrastive_skew_kl,
    "stepwise_jsd": closed_by_writer.stepwise_jsd,
    # Both are forward KL: one with a weight a position, the other to a mixed teacher.
    "token_scaled": forward_kl,
    "interpolated": forward_kl,
}
