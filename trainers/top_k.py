"""Logits as their k largest and a tail of a shape that all rows share: 4 bytes an entry.

The k largest are stored as they are, to float16 below the row's largest, which is in float32. The
others are `offset + slope * shape`, where `shape` [V] is the mean over a sample of the teacher's
centred logits: how frequent a token is. Offset and slope are such that the row's mean over the
vocabulary, which CIST centres by, and the tail's mass at tau 1 are right; what is lost is how the
tail's own entries differ from their mean over the sample.

A packed row is: offset, slope, largest (float32), k logits below the largest (float16), and k ids
in ascending order, of which the lower 16 bits are stored (uint16); where V needs more, how many of
the ids are below each multiple of 2^16 (uint16) says the rest.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1 << 16
# The slope solves a convex equation from its right: so many steps of Newton's reach float32.
NEWTON_STEPS = 12
SCALARS = 3
SMALLEST = 1e-12


def _num_bounds(vocab_size: int) -> int:
    return (vocab_size - 1) // BLOCK


@dataclass(frozen=True)
class TopKHead:
    """Makes logits of packed rows. shape: [V], float32; k: entries that are stored of a row."""

    shape: Tensor
    k: int

    @property
    def vocab_size(self) -> int:
        """Number of real vocabulary entries V."""
        return self.shape.shape[0]

    def to(self, device: torch.device) -> "TopKHead":
        """Returns the head on `device`."""
        return TopKHead(self.shape.to(device), self.k)

    def logits(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        """Returns logits [N, V] in float32 of packed rows [N, B] (uint8), in `out` if given."""
        scalars, below, ids = self._parts(rows)
        offset, slope, largest = torch.split(scalars, 1, -1)
        if out is None:
            out = self.shape.new_empty(len(rows), self.vocab_size)
        torch.addcmul(offset, slope, self.shape, out=out)
        torch.minimum(out, largest + below.amin(-1, keepdim=True), out=out)
        return out.scatter_(1, ids, largest + below)

    def pack(self, logits: Tensor) -> Tensor:
        """Returns the packed rows [N, B] (uint8) of logits [N, V]. Raises `ValueError` for logits
        that are not finite, or too far apart for float16."""
        rows = logits.float()
        ids = rows.topk(self.k, sorted=False).indices.sort(-1).values
        top = rows.gather(1, ids)
        largest = top.amax(-1, keepdim=True)
        below = (top - largest).half()
        if not below.isfinite().all() or not rows.isfinite().all():
            raise ValueError(
                "teacher cache: logits must be finite and within 65504 of the largest for top_k, "
                "but some are not. Use the teacher's own dtype."
            )
        offset, slope = self._tail(rows, ids, largest + below.float().amin(-1, keepdim=True))
        scalars = torch.cat([offset, slope, largest], -1)
        bounds = torch.arange(1, _num_bounds(self.vocab_size) + 1, device=ids.device) * BLOCK
        counts = (ids[:, None, :] < bounds[None, :, None]).sum(-1)
        parts = (scalars, below, _as_int16(ids), _as_int16(counts))
        return torch.cat([part.contiguous().view(torch.uint8) for part in parts if part.numel()], 1)

    def _tail(self, rows: Tensor, ids: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """Offset and slope [N, 1] by which the tail has its mean and its mass. most: [N, 1], above
        which no entry of the tail may be."""
        in_tail = torch.ones_like(rows, dtype=torch.bool).scatter_(1, ids, False)
        count = max(1, rows.shape[1] - self.k)
        shape = self.shape * in_tail
        mean = (rows * in_tail).sum(-1, keepdim=True) / count
        mass = rows.where(in_tail, -torch.inf).logsumexp(-1, keepdim=True)
        # Newton's method for both at once, beginning with the shape as it is. An entry at its limit
        # is moved by neither.
        slope = torch.ones_like(mean)
        offset = mean - shape.sum(-1, keepdim=True) / count
        for _ in range(NEWTON_STEPS):
            tail = offset + slope * self.shape
            is_free = (tail < most) & in_tail
            tail = tail.minimum(most).where(in_tail, -torch.inf)
            now = tail.logsumexp(-1, keepdim=True)
            share = (tail - now).exp() * is_free
            num_free = is_free.sum(-1, keepdim=True).clamp_min(1)
            # what the offset has to do for the mean: on its own, and for each unit of slope
            back = (tail * in_tail).nan_to_num(0, 0, 0).sum(-1, keepdim=True) - mean * count
            back, by_slope = (
                back / num_free,
                (self.shape * is_free).sum(-1, keepdim=True) / num_free,
            )
            mass_by_offset = share.sum(-1, keepdim=True)
            steepness = (share * self.shape).sum(-1, keepdim=True) - mass_by_offset * by_slope
            step = (mass - now + mass_by_offset * back) / steepness.clamp_min(SMALLEST)
            step = step.clamp(-slope / 2, slope)
            slope, offset = slope + step, offset - back - by_slope * step
        return offset, slope

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scalars [N, 3], logits below the largest [N, k], both in float32, and ids [N, k]."""
        k, num_bounds = self.k, _num_bounds(self.vocab_size)
        sizes = [4 * SCALARS, 2 * k, 2 * k, 2 * num_bounds]
        scalars, below, low, counts = torch.split(rows, sizes, 1)
        ids = _from_int16(low)
        if num_bounds:
            place = torch.arange(k, device=rows.device)
            ids += BLOCK * (place >= _from_int16(counts)[:, :, None]).sum(1)
        values = below.contiguous().view(torch.float16).float()
        return scalars.contiguous().view(torch.float32), values, ids


def _as_int16(numbers: Tensor) -> Tensor:
    """The lower 16 bits; torch has few operations on unsigned ones."""
    low = numbers % BLOCK
    return (low - BLOCK * (low >= BLOCK // 2)).to(torch.int16)


def _from_int16(rows: Tensor) -> Tensor:
    return rows.contiguous().view(torch.int16).long() % BLOCK
