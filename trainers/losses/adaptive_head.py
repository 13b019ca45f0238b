"""The head of adaptive KL: the smallest set of the teacher's top entries that reaches a mass."""

import math

import torch
from torch import Tensor

TINY = 1e-30
# There are 2^bits buckets between neighbouring powers of two, over `depth` powers from 1 down; with
# fewer powers than here too many small entries share the last bucket, and adding up in one place
# takes twice as long.
MAX_BUCKET_BITS, MIN_DEPTH = 10, 32
# How many neighbouring buckets are first added up together, and how many entries are compared.
GROUP, SET = 64, 32
# Of each float type: the integer type of its width, bits of its mantissa, bias of its exponent.
FLOATS = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}
WHOLE = 2.0**50


def head_share(student: Tensor, teacher: Tensor, head_mass: float) -> Tensor:
    """Returns the head's share [N, 1] of Σ |p - q|, of q and p [N, V]; ½ where p = q.

    The head is the fewest largest entries of p that reach `head_mass`; entries that tie for its
    last places are each in it by the same share, so that neither their order nor the other rows of
    the batch matter.
    """
    # Entries from `edge` up are in the head for sure; the mass is reached among the `num` largest
    # of the others, which alone are sorted.
    above, edge, num = _border(teacher, head_mass)
    # A mask of floats: with booleans each step takes several times as long.
    in_above = torch.ge(teacher, edge, out=torch.empty_like(teacher))
    gap = (student - teacher).abs_()
    all_gap = gap.sum(-1)
    gap_above = gap.mul_(in_above).sum(-1)  # after its sum was taken, gap is masked in place
    # Less 1, those from the edge up are negative: the largest are all below it. The mask is gone.
    top, index = _largest(torch.sub(teacher, in_above, out=in_above), num)
    # In the head is whatever has less than the mass before it, so the first always is.
    in_head = above + _running_sums(top) - top < max(head_mass, TINY)
    # Where by rounding the mass is never reached, `top` ends with entries from above the edge.
    in_head &= top > 0
    # `index` counts in the row itself, so the student's entries are found with it.
    gap_inside = (student.gather(-1, index) - top).abs_().mul_(_share_of_ties(top, in_head)).sum(-1)
    share = (gap_above + gap_inside) / all_gap.clamp_min(TINY)
    return torch.where(all_gap > 0, share, 0.5).unsqueeze(-1)


def _share_of_ties(top: Tensor, in_head: Tensor) -> Tensor:
    """Returns how much of each of the sorted entries `top` [N, K] is in the head, in [0, 1], given
    that as many as `in_head` [N, K] says are: those as large as the last one share their places."""
    last = torch.where(in_head, top, torch.inf).amin(-1, keepdim=True)
    ties = top == last
    share = (ties & in_head).sum(-1, keepdim=True) / ties.sum(-1, keepdim=True)
    return torch.where(ties, share.to(top.dtype), in_head.to(top.dtype))


def _border(probabilities: Tensor, mass: float) -> tuple[Tensor, Tensor, int]:
    """Returns the sum [N, 1] of the probabilities from an edge on, which is less than `mass`, that
    edge [N, 1], and how many of the largest ones below it are needed at most to reach `mass`.

    Sorting a vocabulary costs more than all else here. So entries are put into buckets by their
    leading bits, which order positive floats as their values do: the mass is reached in one of
    the buckets, and the edge is the upper end of that one.
    """
    whole, mantissa_bits, bias = FLOATS[probabilities.dtype]
    num_rows, num_entries = probabilities.shape
    # The last bucket takes all entries so small that all together cannot be what `mass` lacks of 1:
    # the mass is reached before it, whatever is in there.
    needed = math.ceil(math.log2(num_entries / max(1 - mass, TINY)))
    depth = max(needed, MIN_DEPTH)
    bits = min((num_entries // depth).bit_length(), MAX_BUCKET_BITS)
    # A float's exponent with the first `bits` of its mantissa, as one integer: that of 1.0 is the
    # highest. Buckets come in whole groups, the first of which therefore begins with empty ones.
    lowest, highest, shift = bias - depth << bits, bias << bits, mantissa_bits - bits
    num_buckets = math.ceil((highest + 1 - lowest) / GROUP) * GROUP
    first = lowest + num_buckets - 1  # buckets count down, from the largest probabilities
    bits_of_bucket = (probabilities.view(whole) >> shift).clamp_(lowest, highest)
    in_buckets = sums_by_bucket(probabilities, bits_of_bucket, first, num_buckets)
    border, above = _place(in_buckets, mass)
    # Back from integers to the floats at both ends of the border's bucket. Every entry in it is at
    # least `low`, which bounds their number by their sum; the last bucket has no such bound.
    low, high = ((first - border + step << shift).to(whole).view(above.dtype) for step in (0, 1))
    num_inside = in_buckets.gather(-1, border) / low
    num_inside = torch.where(border < num_buckets - 1, num_inside, num_entries)
    # One for all rows, as a tensor has one width; NaN in a row is none of the others' business.
    most = int(num_inside.nan_to_num().max()) if num_rows else 0
    return above, high, min(most + 1, num_entries)


def _place(values: Tensor, mass: float) -> tuple[Tensor, Tensor]:
    """Returns where the running sum of values [N, B] reaches `mass`, and the sum before that place;
    each [N, 1]. Where it never does, the place is the last; B is a multiple of GROUP."""
    # Running sums are taken over groups, then within one group: over all values they take ten times
    # as long.
    groups = values.view(values.shape[0], values.shape[1] // GROUP, GROUP)
    group, above = _place_by_running_sum(groups.sum(-1), mass)
    inside = groups.gather(1, group.unsqueeze(-1).expand(-1, -1, GROUP)).squeeze(1)
    place, above = _place_by_running_sum(inside, mass, above)
    return group * GROUP + place, above


def _place_by_running_sum(
    values: Tensor, mass: float, before: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """Returns what `_place` does, for any B, when the sum is `before` at the start."""
    sums = _running_sums(values) + before
    place = (sums < mass).sum(-1, keepdim=True).clamp_(max=values.shape[-1] - 1)
    return place, (sums - values).gather(-1, place)


def sums_by_bucket(values: Tensor, bucket: Tensor, first: int, num_buckets: int) -> Tensor:
    """Returns the sums [N, num_buckets] of those values [N, V] that have the same bucket
    (overwritten), an integer from `first` down."""
    num_rows = values.shape[0]
    num_sums = num_rows * num_buckets
    # `bincount` is the faster way on a CPU, as long as its indices fit into the bucket's type. On a
    # GPU its bits are not the same each time, and without any value it returns integers.
    if values.is_cuda or not 0 < num_sums <= torch.iinfo(bucket.dtype).max - first:
        index = torch.sub(first, bucket).long()
        return values.new_zeros(num_rows, num_buckets).scatter_add_(-1, index, values)
    starts = torch.arange(first, first + num_sums, num_buckets, dtype=bucket.dtype).unsqueeze(-1)
    # Row r's buckets count from r * num_buckets, so that one flat count serves all rows.
    index = torch.sub(starts, bucket, out=bucket)
    sums = torch.bincount(index.flatten(), values.flatten(), num_sums)
    return sums.view(num_rows, num_buckets)


def _largest(values: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Returns values.topk(num) of values [N, V]. Where V is many times `num` it looks for them
    only in the `num` sets of SET entries that have the largest maxima: an entry of any other set is
    no larger than `num` of them, so that it need not be among the `num` largest."""
    num_rows, width = values.shape
    num_sets = width // SET
    if num_sets < 4 * num:
        return values.topk(num, dim=-1)
    end = num_sets * SET  # a set is every num_sets-th entry, so that vector units compare sets
    largest = values[:, :end].view(num_rows, SET, num_sets).amax(1)
    found = largest.topk(num, dim=-1).indices.unsqueeze(-1)
    columns = (found + torch.arange(0, end, num_sets, device=values.device)).flatten(1)
    # The entries behind the last set are always looked at.
    rest = torch.arange(end, width, device=values.device).expand(num_rows, -1)
    columns = torch.cat((columns, rest), dim=-1)
    top, place = values.gather(-1, columns).topk(num, dim=-1)
    return top, columns.gather(-1, place)


def _running_sums(values: Tensor) -> Tensor:
    """Returns cumsum(values, -1) of values in [0, 2]. Torch's own of floats has no bits that repeat
    on a GPU, and is refused there when a trial asks for deterministic operations."""
    return whole_running_sums(values) if values.is_cuda else values.cumsum(-1)


def whole_running_sums(values: Tensor) -> Tensor:
    """Returns cumsum(values, -1) of values in [0, 2], added up as integers in units of 2^-50, whose
    sums do not depend on their order."""
    whole = (values.double() * WHOLE).long().cumsum(-1)
    return (whole.double() / WHOLE).to(values.dtype)
