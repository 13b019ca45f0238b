"""Which values lie at an end of what was searched."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.domains import Float
from search_spaces.parsing import parse_domain
from service.results.edges import edge_of

LOG = {"float": [0.5, 8], "log": True}


@pytest.mark.parametrize(
    ("domain", "value", "end"),
    [
        ({"float": [0, 10]}, 0.5, "lower"),
        ({"float": [0, 10]}, 0.51, None),
        ({"float": [0, 10]}, 9.6, "upper"),
        (LOG, 0.56, "lower"),
        (LOG, 0.6, None),
        (LOG, 7.5, "upper"),
        (LOG, 6.9, None),
        ({"float": [1, 4], "step": 1}, 4.0, "upper"),
        ({"float": [1, 4], "step": 1}, 3.0, None),
        ({"int": [1, 100], "log": True}, 1, "lower"),
        ({"int": [1, 3]}, 2, None),
        ({"int": [1, 2]}, 2, None),
        ({"choice": [4, 1, 2]}, 4, "upper"),
        ({"choice": [4, 1, 2]}, 2, None),
        ({"choice": [1, 2]}, 2, None),
        ({"choice": ["a", "b", "c"]}, "c", None),
        ({"choice": [1, "b", 3]}, 3, None),
        ({"choice": [True, False]}, True, None),
        ({"fixed": 2}, 2, None),
        ({"float": [2, 2]}, 2, None),
        ({"float": [0, 10]}, None, None),
        ({"float": [0, 10]}, 40.0, None),
        ({"float": [-1e308, 1e308 / 2]}, 1e308 / 2, "upper"),
    ],
)
def test_an_end_is_a_twentieth_of_a_range_or_an_outer_number(
    domain: dict[str, Any], value: object, end: str | None
) -> None:
    found = edge_of(value, parse_domain("search.x", domain))
    assert (None if found is None else found.end) == end


@given(st.floats(0, 1), st.floats(1e-6, 1e6), st.floats(1.001, 1e6), st.booleans())
def test_the_scale_of_a_range_is_its_own(share: float, low: float, ratio: float, log: bool) -> None:
    """The same share of the way is at the same end, whatever the range and its scale."""
    high = low * ratio
    value = low * ratio**share if log else low + share * (high - low)
    domain = Float.model_validate({"float": [low, high], "log": log})
    found = edge_of(min(max(value, low), high), domain)
    for end, distance in (("lower", share), ("upper", 1 - share)):
        if distance < 0.0499:
            assert found is not None and found.end == end
        if distance > 0.0501:
            assert found is None or found.end != end
