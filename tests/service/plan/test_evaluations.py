"""How many evaluations take place, by hand."""

from typing import Any

import pytest
from fakes import make_document

from service.plan.evaluations import num_evaluations
from service.spec.parse import parse_spec


@pytest.mark.parametrize(
    ("changes", "num_examples", "expected"),
    [
        ({"training": {"steps": 100}, "evaluation": {"evaluations": 4000}}, None, 100),
        ({"training": {"steps": 3}, "evaluation": {}}, None, 3),
        ({"training": {"steps": 100}, "evaluation": {}}, None, 5),
        ({"training": {"epochs": 1, "batch_size": 32}, "evaluation": {}}, None, 5),
        ({"training": {"epochs": 1, "batch_size": 32}, "evaluation": {}}, 65, 3),
        ({"training": {"epochs": 9}, "evaluation": {"evaluations": 4000}}, 320, 90),
    ],
)
def test_never_more_than_steps(
    changes: dict[str, Any], num_examples: int | None, expected: int
) -> None:
    spec = parse_spec(make_document(**changes))
    assert num_evaluations(spec, num_examples) == expected


def test_the_longest_trial_counts() -> None:
    spec = parse_spec(
        make_document(
            training={},
            evaluation={"evaluations": 50},
            search={"steps": {"choice": [4, 20, 7]}, "tau": {"float": [1, 2]}},
        )
    )
    assert num_evaluations(spec, None) == 50
    assert num_evaluations(spec, 8) == 20
