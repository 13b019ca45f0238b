"""Soft losses of the image-classification literature that need labels or a whole batch: labelled
terms like those of `labelled.py`.

A batch term couples the rows of a micro-batch [N, V] and is computed on all of them at once; its
value stands in every row, so that sums and means over rows work as for all others.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trainers.losses.divergences import kl, log_probabilities
from trainers.losses.labelled import HIDDEN, LabelledInput, Parts
from trainers.trial.traits import Masks, Outliers

# MLKD's temperatures 4, 3, 5, 2 and 6 over its first one, and those at which its published code
# has the first view in the second one's part.
MULTIPLES = (1.0, 0.75, 1.25, 0.5, 1.5)
SWAPPED = (0.5, 1.5)
# The least product of two norms: rows that do not vary have no correlation.
SMALLEST_NORMS = 1e-12


def refined(rows: LabelledInput, parameters: Mapping[str, Any]) -> Parts:
    """t T² KL(b(max p_T)‖b(q_T,y)) at T = target_tau + n KL(p̂‖q̂), the only scaled part, [N].

    In nats. b(x) = (x, 1 - x); p̂, q̂: p, q among the entries that the teacher ranks below the label;
    where there are none, that part is 0. Sun et al. 2024 (RLD), whose code takes the log of a sum
    that can be 0.
    """
    tau = parameters["target_tau"]
    student, teacher = log_probabilities(rows.student_logits / tau, rows.teacher_logits / tau)
    column = rows.labels.unsqueeze(-1)
    largest = teacher.argmax(-1, keepdim=True)
    binary = kl(_with_rest(teacher, largest), _with_rest(student, column))
    is_hidden = rows.teacher_logits >= rows.teacher_logits.gather(-1, column)
    below = (side.masked_fill(is_hidden, HIDDEN) for side in _sides(rows))
    student, teacher = log_probabilities(*below)
    others = torch.where(is_hidden.all(-1), 0.0, kl(teacher, student))
    target = parameters["target_weight"] * tau**2 * binary
    return Parts(parameters["non_target_weight"] * others, target)


def improved_kl(rows: LabelledInput, parameters: Mapping[str, Any]) -> Parts:
    """c CE(p, q) + w ¼ Σ_jk a_j a_k (d_j - d_k)², d = v - z and a = softmax(v / pair_tau), [N].

    In nats; the pairs' part is of unsoftened logits and not scaled. The gradient of KL(p‖q) is that
    of both parts with a = p and one side's logits held constant; here none is. Cui et al. 2024
    (IKL); their weights by class are left out. A
    cross-entropy, so not 0 at p = q.
    """
    gap = rows.teacher_logits - rows.student_logits
    weight = torch.softmax(rows.teacher_logits / parameters["pair_tau"], dim=-1)
    # ½ (Σ a d² - (Σ a d)²), as the weights sum to 1: V numbers and not V². Centred first, since the
    # pairs ignore a constant in d and float32 does not.
    centred = gap - (weight * gap).sum(-1, keepdim=True)
    pairs = 0.5 * (weight * centred.square()).sum(-1)
    weights = parameters["cross_entropy_weight"], parameters["pair_weight"]
    return Parts(weights[0] * _cross_entropy(rows), weights[1] * pairs)


def generalized_kl(rows: LabelledInput, parameters: Mapping[str, Any]) -> Parts:
    """c CE(p, q) + w N ¼ Σ_jk a_j a_k (d_j - d_k)² / Σ_batch Σ_jk a_j a_k, d = v - z and a =
    softmax(v / pair_tau)^g, [N].

    In nats; the pairs' part is of unsoftened logits and not scaled. A batch term: rows on which the
    teacher is sure, whose weights add to more with a small g, count more. Cui et al. 2025 (GKL);
    their weights by class are left out. A cross-entropy, so not 0 at p = q.
    """
    gap = rows.teacher_logits - rows.student_logits
    logs = torch.log_softmax(rows.teacher_logits / parameters["pair_tau"], dim=-1)
    weight = (parameters["pair_power"] * logs).exp()
    total = weight.sum(-1, keepdim=True)
    # ½ (W Σ a d² - (Σ a d)²), W = Σ a, and centred first, as in `improved_kl`.
    centred = gap - (weight * gap).sum(-1, keepdim=True) / total
    pairs = 0.5 * total.squeeze(-1) * (weight * centred.square()).sum(-1)
    mean = len(pairs) * pairs / total.square().sum()
    weights = parameters["cross_entropy_weight"], parameters["pair_weight"]
    return Parts(weights[0] * _cross_entropy(rows), weights[1] * mean)


def entropy_gated(rows: LabelledInput, parameters: Mapping[str, Any]) -> Parts:
    """KL(p‖q) where H(p) / ln V is in entropy_min to entropy_max; elsewhere, by `outliers`, the
    label's -log q_y scaled like it (hard_target), or just so much cross-entropy at temperature 1
    that the hard loss has weight 1 (hard_loss), [N].

    In nats. Our reading of KD-EntOut, an ablation in the CIST paper whose formula is not public.
    """
    student, teacher = log_probabilities(rows.softened.student, rows.softened.teacher)
    share = -(teacher.exp() * teacher).sum(-1) / math.log(teacher.shape[-1])
    # What is not a number is not outside: it shows in the loss.
    outside = (share < parameters["entropy_min"]) | (share > parameters["entropy_max"])
    column = rows.labels.unsqueeze(-1)
    soft = kl(teacher, student)
    if parameters["outliers"] == Outliers.HARD_TARGET:
        return Parts(torch.where(outside, -student.gather(-1, column).squeeze(-1), soft))
    hard = -torch.log_softmax(rows.student_logits, dim=-1).gather(-1, column).squeeze(-1)
    return Parts(torch.where(outside, 0.0, soft), torch.where(outside, rows.hard_rest * hard, 0.0))


def correlation(rows: LabelledInput, parameters: Mapping[str, Any]) -> Parts:
    """b (1 - mean over rows of ρ(q, p)) + w (1 - mean over classes of ρ(q_c, p_c)), in every row.

    ρ is Pearson's correlation: over the classes of a row, and over the rows of a class, of each
    view by itself. A batch term. Huang et al. 2022 (DIST), whose code adds 1e-8 to the norms, so
    that it is not 0 at p = q.
    """
    return Parts.of_views([_correlated(view, parameters) for view in rows.views()])


def _correlated(rows: LabelledInput, parameters: Mapping[str, Any]) -> Parts:
    student, teacher = (side.exp() for side in log_probabilities(*_sides(rows)))
    between = 1 - _correlation(student, teacher).mean()
    within = 1 - _correlation(student.T, teacher.T).mean()
    value = parameters["between_weight"] * between + parameters["within_weight"] * within
    return Parts(value.expand(len(student)))


def multi_level(rows: LabelledInput, parameters: Mapping[str, Any]) -> Parts:
    """Σ_m [m² KL(p_m‖q_m) + c ‖Q'Q - P'P‖² / V + b ‖QQ' - PP'‖² / N] over five temperatures, m
    times the policy's, [N]; only the KL is scaled. Of a second view the KL alone.

    In nats. P, Q: the probabilities [N, V] at such a temperature; ‖·‖ is Frobenius' norm. A batch
    term. By `masks`, of the first view confident rows (largest p at temperature 1 above the median)
    and frequent classes (column sums of p at temperature 1 above their median) are left out, or the
    parts are multiplied by the shares of the others, as in the published code, which has the first
    view's KL in place of the second's at two of the temperatures too. Jin et al. 2023 (MLKD).
    """
    first, *others = rows.views()
    parts = [_first_view(first, parameters)]
    parts += [_second_view(view, first, str(parameters["masks"])) for view in others]
    return Parts.of_views(parts)


def _first_view(rows: LabelledInput, parameters: Mapping[str, Any]) -> Parts:
    """All parts of `multi_level`, [N] each."""
    count, width = rows.teacher_logits.shape
    rows_kept, classes_kept = _masks(rows.teacher_logits, str(parameters["masks"]))
    by_rows = parameters["batch_weight"] / max(1, count) * rows_kept
    by_classes = parameters["class_weight"] / width * classes_kept
    scaled, plain = rows_kept.new_zeros(count), rows_kept.new_zeros(())
    for multiple in MULTIPLES:
        logs = log_probabilities(*(side / multiple for side in _sides(rows)))
        scaled = scaled + multiple**2 * kl(logs[1], logs[0])
        student, teacher = (side.exp() for side in logs)
        plain = plain + _gap_of_products(student.T, teacher.T, by_classes)
        plain = plain + _gap_of_products(student, teacher, by_rows)
    return Parts(rows_kept * scaled, plain.expand(count))


def _second_view(rows: LabelledInput, first: LabelledInput, masks: str) -> Parts:
    """The KLs of a second view, in which the published code has some of the first."""
    scaled = rows.teacher_logits.new_zeros(len(rows.labels))
    for multiple in MULTIPLES:
        is_swapped = masks == Masks.AS_PUBLISHED and multiple in SWAPPED
        student, teacher = log_probabilities(
            *(side / multiple for side in _sides(first if is_swapped else rows))
        )
        scaled = scaled + multiple**2 * kl(teacher, student)
    return Parts(scaled, torch.zeros_like(scaled))


def _gap_of_products(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Σ_i weight_i ‖row i of SS' - TT'‖², a scalar."""
    gap = student @ student.T - teacher @ teacher.T
    return weight @ gap.square().sum(-1)


def _masks(teacher_logits: Tensor, masks: str) -> tuple[Tensor, Tensor]:
    """Factors of rows [N] and classes [V], without gradient."""
    probabilities = torch.softmax(teacher_logits, dim=-1)
    numbers = probabilities.amax(-1), probabilities.sum(0)
    if masks == Masks.NONE or not len(probabilities):
        rows, classes = (torch.ones_like(each) for each in numbers)
        return rows, classes
    rows, classes = ((each <= torch.quantile(each, 0.5)).to(each.dtype) for each in numbers)
    if masks == Masks.AS_PUBLISHED:
        rows, classes = (mask.mean().expand_as(mask) for mask in (rows, classes))
    return rows, classes


def _cross_entropy(rows: LabelledInput) -> Tensor:
    """Returns -Σ p log q [N]."""
    student, teacher = log_probabilities(*_sides(rows))
    return -(teacher.exp() * student).sum(-1)


def _sides(rows: LabelledInput) -> tuple[Tensor, Tensor]:
    return rows.softened.student, rows.softened.teacher


def _with_rest(log_probability: Tensor, column: Tensor) -> Tensor:
    """Returns the log-probabilities of one entry and of all others together [N, 2]."""
    entry = log_probability.gather(-1, column)
    rest = torch.logsumexp(log_probability.scatter(-1, column, HIDDEN), dim=-1, keepdim=True)
    return torch.cat((entry, rest), dim=-1)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Returns Pearson's correlation of each row of two matrices."""
    one, other = (side - side.mean(-1, keepdim=True) for side in (first, second))
    norms = torch.linalg.vector_norm(one, dim=-1) * torch.linalg.vector_norm(other, dim=-1)
    found: Tensor = (one * other).sum(-1) / norms.clamp_min(SMALLEST_NORMS)
    return found
