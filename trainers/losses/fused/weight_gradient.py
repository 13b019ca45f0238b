"""The gradient of an output matrix: a sum of products in float32 or wider."""

import functools

import torch
from torch import Tensor

# Products that are rounded before they are added, and sums that are rounded at the end, are so a
# part at a time, so that no second matrix of the weight's size is in memory beside the sum.
PART_ROWS = 1 << 15


class WeightGradient:
    """Σ inner.T @ hidden [V, D] over chunks, inner [C, V] and hidden [C, D], for `weight` [V, D];
    kept in `dtype`, float32 or wider, and returned in the weight's own.

    `parts` together are the sum. Where the dtypes are the same they are views of `whole`, which is
    what is returned; else they are tensors of their own, freed one by one as they are rounded.
    """

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        self.narrow = None if weight.dtype == dtype else weight.dtype
        self.is_begun = False
        if self.narrow is None:
            self.whole = torch.empty_like(weight)
            self.parts = list(torch.split(self.whole, PART_ROWS))
        else:
            self.parts = [
                torch.empty_like(part, dtype=dtype) for part in torch.split(weight, PART_ROWS)
            ]

    def add(self, inner: Tensor, hidden: Tensor) -> None:
        """Adds a chunk's product, of factors in one dtype."""
        # The first product overwrites what the uninitialised parts hold (BLAS reads nothing for
        # beta 0): filling them with zeros takes a tenth of a small batch's time.
        beta = 1 if self.is_begun else 0
        self.is_begun = True
        for part, columns in zip(self.parts, torch.split(inner, PART_ROWS, dim=1), strict=True):
            _add_product(part, columns.t(), hidden, beta)

    def times(self, factor: Tensor) -> Tensor:
        """Returns the sum times factor; may be called once, as it overwrites the sum."""
        if not self.is_begun:  # of no positions: nothing was written
            for part in self.parts:
                part.zero_()
        if self.narrow is None:
            return self.whole.mul_(factor)
        num_parts = len(self.parts)
        # Popped, so that each wide part is freed before the next one is rounded.
        rounded = [scale(self.parts.pop(0), factor, self.narrow) for _ in range(num_parts)]
        return torch.cat(rounded) if num_parts > 1 else rounded[0]


def _add_product(total: Tensor, first: Tensor, second: Tensor, beta: int) -> None:
    """total = beta total + first @ second; for beta 0 total may hold anything, even NaN."""
    if first.dtype == total.dtype:
        total.addmm_(first, second, beta=beta)
        return
    if beta == 0:
        total.zero_()
    if adds_unrounded(first.device, first.dtype):
        torch.addmm(total, first, second, out_dtype=total.dtype, out=total)
    else:
        # Rounded to the factors' dtype once for each chunk, but summed in the wide one.
        total += first @ second


@functools.cache
def adds_unrounded(device: torch.device, dtype: torch.dtype) -> bool:
    """Returns whether this torch adds matrix products of `dtype` on this device to a float32 sum in
    one call. No document says which versions and devices do, so it is tried once."""
    ones = torch.ones(16, 16, device=device, dtype=dtype)
    total = torch.ones(16, 16, device=device)
    try:
        torch.addmm(total, ones, ones, out_dtype=torch.float32, out=total)
    except (RuntimeError, TypeError):
        return False
    return bool((total == 17).all())


def scale(value: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns value (overwritten) times factor in `dtype`."""
    if value.is_cuda and value.dtype != dtype:  # a GPU rounds on the way, a CPU makes a copy first
        return torch.mul(value, factor, out=torch.empty_like(value, dtype=dtype))
    return value.mul_(factor).to(dtype)
