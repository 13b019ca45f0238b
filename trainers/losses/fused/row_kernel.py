"""The elementwise work of the most used rows as one kernel a chunk, for NVIDIA GPUs.

What torch does in some forty calls, each of which reads and writes all logits of a block, is done
here a row at a time while the row stays in the cache. The formulas are those of `closed_form.py`.
Imported only where there is a GPU: Triton comes with torch's CUDA builds and with no other.

One program computes one row, in four passes over its V logits, BLOCK columns at a time: the largest
logits, the normalisers, the sums over the vocabulary, and the gradient. Only the last one writes,
after every sum is complete, and each column is read by the same program just before it is written:
so the gradient can take the place of the products without a second matrix, and no program waits
for another. All sums are float32 in registers, added up in the same order in each run.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

FORWARD_KL, REVERSE_KL, GENERALIZED_JSD = 0, 1, 2
MAX_BLOCK = 4096


@dataclass(frozen=True)
class RowWork:
    """What the kernel needs beside logits and labels; all [C] but the last three. tau_s, tau_t:
    temperatures; coefficient: factor on the divergence's gradient by the student's softened logits;
    peak, place: how tau_s follows the largest logit (see `rescale.Slope`), or None; kind: one of
    the three above; beta: of the JSD; hard_weight."""

    tau_s: Tensor
    tau_t: Tensor
    coefficient: Tensor
    peak: Tensor | None
    place: Tensor | None
    kind: int
    beta: float
    hard_weight: float


def kind_of(beta: float) -> int:
    """Returns the kind of the generalized JSD with this beta: at its ends it is one of the KLs."""
    return {0.0: FORWARD_KL, 1.0: REVERSE_KL}.get(beta, GENERALIZED_JSD)


def values_and_gradient(
    products: Tensor, teacher: Tensor, labels: Tensor, work: RowWork
) -> tuple[Tensor, Tensor]:
    """Returns the cross-entropies [C] (NaN where a label lies outside [0, V)) and the divergences
    [C] (of the JSD without its share), in float32, and overwrites products [C, V] with the gradient
    of hard and soft loss."""
    num_rows, width = products.shape
    hard, soft = torch.empty(2, num_rows, dtype=torch.float32, device=products.device)
    follows = work.peak is not None and work.place is not None
    _rows[(num_rows,)](
        products,
        teacher,
        labels,
        work.tau_s,
        work.tau_t,
        work.coefficient,
        # A kernel takes no None: without FOLLOWS these two pointers are never read.
        work.peak if follows else work.tau_s,
        work.place if follows else labels,
        hard,
        soft,
        width,
        products.stride(0),
        teacher.stride(0),
        float(work.beta),
        float(work.hard_weight),
        KIND=work.kind,
        FOLLOWS=follows,
        BLOCK=min(MAX_BLOCK, triton.next_power_of_2(width)),
        num_warps=8,
    )
    return hard, soft


@triton.jit
def _rows(
    products_at,
    teacher_at,
    labels_at,
    tau_s_at,
    tau_t_at,
    coefficient_at,
    peak_at,
    place_at,
    hard_at,
    soft_at,
    width,
    products_stride,
    teacher_stride,
    beta,
    hard_weight,
    KIND: tl.constexpr,
    FOLLOWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # In 64 bits: rows times columns of a chunk may exceed 2^31.
    row = tl.program_id(0).to(tl.int64)
    z_at, v_at = products_at + row * products_stride, teacher_at + row * teacher_stride
    label = tl.load(labels_at + row)
    by_s, by_t = 1.0 / tl.load(tau_s_at + row), 1.0 / tl.load(tau_t_at + row)
    coefficient = tl.load(coefficient_at + row)
    z_max, v_max = _largest(z_at, v_at, width, BLOCK)
    log_plain, log_s, log_t = _normalisers(z_at, v_at, width, z_max, v_max, by_s, by_t, BLOCK)
    value, b_mean, pull = _means(
        z_at, v_at, width, z_max, v_max, by_s, by_t, log_s, log_t, beta, KIND, FOLLOWS, BLOCK
    )
    # A label outside the vocabulary makes the loss NaN, which a training reports; nothing is read.
    is_label = (label >= 0) & (label < width)
    z_label = tl.load(z_at + label, mask=is_label, other=float("nan")).to(tl.float32)
    tl.store(hard_at + row, log_plain - (z_label - z_max))
    tl.store(soft_at + row, value)
    # The fourth pass: logits are read for the last time, and their gradient written in their place.
    columns = tl.arange(0, BLOCK)
    for start in range(0, width, BLOCK):
        k = start + columns
        z, v = _loaded(z_at, v_at, k, width, z_max, v_max)
        log_q, log_p = (z - z_max) * by_s - log_s, (v - v_max) * by_t - log_t
        slope = _slope(log_q, log_p, b_mean, beta, KIND) * coefficient
        slope += hard_weight * (tl.exp(z - z_max - log_plain) - tl.where(k == label, 1.0, 0.0))
        if FOLLOWS:
            # As `rescale.pull_back`: less the sum over slope times s, times dtau_s / dz_k / tau_s,
            # where dtau_s / dz_k = peak (1[k = place] - 1 / V); the coefficient has 1 / tau_s.
            peak = coefficient * pull * tl.load(peak_at + row)
            place = tl.load(place_at + row)
            slope += peak / width - tl.where(k == place, peak, 0.0)
        tl.store(z_at + k, slope.to(z_at.dtype.element_ty), mask=k < width)


@triton.jit
def _loaded(z_at, v_at, k, width, z_other, v_other):
    """Logits of both sides at columns k; columns beyond the width get z_other and v_other."""
    inside = k < width
    z = tl.load(z_at + k, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(v_at + k, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside, z, z_other), tl.where(inside, v, v_other)


@triton.jit
def _largest(z_at, v_at, width, BLOCK: tl.constexpr):
    """The largest logit of each side."""
    columns = tl.arange(0, BLOCK)
    z_top = tl.full((BLOCK,), float("-inf"), tl.float32)
    v_top = tl.full((BLOCK,), float("-inf"), tl.float32)
    for start in range(0, width, BLOCK):
        z, v = _loaded(z_at, v_at, start + columns, width, float("-inf"), float("-inf"))
        z_top, v_top = tl.maximum(z_top, z), tl.maximum(v_top, v)
    return tl.max(z_top, 0), tl.max(v_top, 0)


@triton.jit
def _normalisers(z_at, v_at, width, z_max, v_max, by_s, by_t, BLOCK: tl.constexpr):
    """Logs of the sums of exponentials, of logits less their largest: the student's at temperature
    1, the student's softened, the teacher's. Columns beyond the width add exp(-inf) = 0."""
    columns = tl.arange(0, BLOCK)
    plain = tl.zeros((BLOCK,), tl.float32)
    of_s = tl.zeros((BLOCK,), tl.float32)
    of_t = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width, BLOCK):
        z, v = _loaded(z_at, v_at, start + columns, width, float("-inf"), float("-inf"))
        plain += tl.exp(z - z_max)
        of_s += tl.exp((z - z_max) * by_s)
        of_t += tl.exp((v - v_max) * by_t)
    return tl.log(tl.sum(plain, 0)), tl.log(tl.sum(of_s, 0)), tl.log(tl.sum(of_t, 0))


@triton.jit
def _means(
    z_at,
    v_at,
    width,
    z_max,
    v_max,
    by_s,
    by_t,
    log_s,
    log_t,
    beta,
    KIND: tl.constexpr,
    FOLLOWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The divergence, the mean over q that its slope is centred by, and the sum of slope times
    softened logit (0 without FOLLOWS).

    With b = `_against`, one pass gives all three: the sum of p (log(p/q) + b) is KL(p, q), or the
    JSD's KL(p, m), and that of q b is KL(q, p) or KL(q, m). The slope q (b - sum of q b) needs the
    latter, which is complete only after the pass: so q b s and q s are summed apart, and the
    centring is applied at the end.
    """
    columns = tl.arange(0, BLOCK)
    p_a = tl.zeros((BLOCK,), tl.float32)
    q_b = tl.zeros((BLOCK,), tl.float32)
    slope_s = tl.zeros((BLOCK,), tl.float32)
    q_s = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width, BLOCK):
        k = start + columns
        z, v = _loaded(z_at, v_at, k, width, z_max, v_max)
        # From the largest logit and not from the mean: as slopes sum to 0, so does the difference.
        s = (z - z_max) * by_s
        log_q, log_p = s - log_s, (v - v_max) * by_t - log_t
        q = tl.where(k < width, tl.exp(log_q), 0.0)
        p = tl.where(k < width, tl.exp(log_p), 0.0)
        b = _against(log_q, log_p, beta, KIND)
        p_a += p * (log_p - log_q + b)
        q_b += q * b
        if FOLLOWS:
            slope_s += tl.where(k < width, _slope(log_q, log_p, 0.0, beta, KIND), 0.0) * s
            q_s += q * s
    a_mean, b_mean = tl.sum(p_a, 0), tl.sum(q_b, 0)
    pull = tl.sum(slope_s, 0)
    if KIND != 0:
        pull -= b_mean * tl.sum(q_s, 0)
    if KIND == 0:
        value = a_mean
    elif KIND == 1:
        value = b_mean
    else:
        value = beta * a_mean + (1.0 - beta) * b_mean
    return value, b_mean, pull


@triton.jit
def _against(log_q, log_p, beta, KIND: tl.constexpr):
    """log(q/x) for what q is compared with: q itself, p, or m, the mixture of both. Where q and p
    underflow m is held at the smallest normal float32, so that its log is finite."""
    if KIND == 0:
        b = log_q * 0.0
    elif KIND == 1:
        b = log_q - log_p
    else:
        q, p = tl.exp(log_q), tl.exp(log_p)
        b = log_q - tl.log(tl.maximum(q + beta * (p - q), 1.1754943508222875e-38))
    return b


@triton.jit
def _slope(log_q, log_p, b_mean, beta, KIND: tl.constexpr):
    """The divergence's gradient by the student's softened logits; the JSD's lacks its factors,
    which the coefficient has."""
    q = tl.exp(log_q)
    if KIND == 0:
        slope = q - tl.exp(log_p)
    else:
        slope = q * (_against(log_q, log_p, beta, KIND) - b_mean)
    return slope
