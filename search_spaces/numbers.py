"""Numbers of a search: which point a value is, rounding aside, and points spread over a range."""

import math
import sys
from collections.abc import Sequence
from itertools import chain

Scalar = str | int | float | bool

# What the rounding of a few operations may change: of a value, and of its distance to a step.
ROUNDING = 1e-12
ROUNDING_OF_STEPS = 1e-6


def same(left: Scalar, right: Scalar) -> bool:
    """Returns whether two values are one choice: 1 and 1.0 are, 1 and true are not."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def snap_to(points: Sequence[Scalar], value: object) -> Scalar | None:
    """Returns the one of `points` that `value` is, rounding aside; None when it is none of them."""
    if not isinstance(value, Scalar):
        return None
    # Of two points next to each other the equal one is meant.
    equal = (point for point in points if same(value, point))
    near = (point for point in points if is_near(value, point))
    return next(chain(equal, near), None)


def is_near(value: Scalar, point: Scalar) -> bool:
    """Returns whether both are numbers that differ by no more than rounding."""
    if not (is_number(value) and is_number(point)):
        return False
    return math.isclose(value, point, rel_tol=ROUNDING)  # type: ignore[arg-type]


def is_number(value: object) -> bool:
    """Returns whether `value` is a number to calculate with: no switch, not NaN, not too large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max


def spread(low: float, high: float, count: int, *, log: bool = False) -> list[float]:
    """Returns `count` numbers from `low` to `high`; the middle of the range when it is one."""
    if low == high:
        return [low]
    if count == 1:
        return [_log_middle(low, high) if log else low / 2 + high / 2]
    shares = [index / (count - 1) for index in range(count)]
    if log:
        inner = [_log_between(low, high, share) for share in shares]
    else:
        inner = [low + (high - low) * share for share in shares]
    # Both ends are returned as they were given; computed from a share of 1 they could be off.
    return [low, *inner[1:-1], high]


# The plain formula of both functions leaves the range of floats at ranges that are themselves
# inside it, such as 1e15 to 1.7e308.
def _log_middle(low: float, high: float) -> float:
    product = low * high
    if sys.float_info.min <= product <= sys.float_info.max:
        return math.sqrt(product)
    return math.sqrt(low) * math.sqrt(high)


def _log_between(low: float, high: float, share: float) -> float:
    ratio = high / low
    if math.isinf(ratio):
        ratio_in_logs = math.log(high) - math.log(low)
        return min(max(math.exp(math.log(low) + share * ratio_in_logs), low), high)
    return float(low * ratio**share)
