"""Each kind of domain against hand-counted values, and every way to write one wrongly."""

import json
import math
import random
from collections import Counter
from itertools import pairwise

import pytest

from search_spaces.domains import KINDS
from search_spaces.parsing import json_schema, parse_domain

WRITTEN = [
    {"float": [0.5, 8], "log": True},
    {"float": [-1, 1]},
    {"float": [0, 2], "step": 0.5},
    {"float": [0.1, 0.7], "step": 0.1},
    {"float": [3, 3], "log": True},
    {"int": [1, 8]},
    {"int": [1, 1000], "log": True},
    {"int": [4, 4]},
    {"choice": ["a", 2, 2.5, True]},
    {"choice": ["only"]},
    {"fixed": 3},
    {"fixed": "forward_kl"},
]


@pytest.mark.parametrize("written", WRITTEN, ids=json.dumps)
def test_draws_and_points_are_allowed(written: dict[str, object]) -> None:
    domain = parse_domain("search.x", written)
    rng = random.Random(0)
    assert all(domain.contains(domain.draw(rng)) for _ in range(200))
    for count in (1, 2, 3, 7):
        points = domain.points(count)
        assert all(domain.contains(point) for point in points)
        assert len(points) == len({(type(p), p) for p in points}) >= 1


@pytest.mark.parametrize("written", WRITTEN, ids=json.dumps)
def test_a_sampler_of_optuna_stays_inside(written: dict[str, object]) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    domain = parse_domain("search.x", written)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        trial = study.ask()
        value = domain.suggest(trial, "x")
        assert domain.contains(value)
        assert trial.params == {"x": value}
        assert trial.distributions == {"x": domain.distribution()}


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ({"float": [0.5, 8]}, None),
        ({"float": [3, 3]}, 1),
        ({"float": [0.1, 0.7], "step": 0.1}, 7),
        ({"int": [1, 8]}, 8),
        ({"choice": ["a", "b"]}, 2),
        ({"fixed": 1}, 1),
    ],
)
def test_size(written: dict[str, object], size: int | None) -> None:
    assert parse_domain("search.x", written).size() == size


@pytest.mark.parametrize(
    ("written", "count", "points"),
    [
        ({"float": [0, 8]}, 3, [0, 4, 8]),
        ({"float": [0.5, 8], "log": True}, 5, [0.5, 1, 2, 4, 8]),
        ({"float": [0.5, 8], "log": True}, 1, [2]),
        ({"float": [0, 2], "step": 0.5}, 9, [0, 0.5, 1, 1.5, 2]),
        ({"float": [0, 2], "step": 0.5}, 3, [0, 1, 2]),
        ({"float": [7, 7]}, 4, [7]),
        ({"int": [1, 3]}, 9, [1, 2, 3]),
        ({"int": [1, 9]}, 3, [1, 5, 9]),
        ({"int": [1, 100], "log": True}, 3, [1, 10, 100]),
        ({"choice": ["a", "b", "c"]}, 1, ["a", "b", "c"]),
        ({"fixed": 5}, 3, [5]),
    ],
)
def test_points(written: dict[str, object], count: int, points: list[object]) -> None:
    found = parse_domain("search.x", written).points(count)
    assert found == [pytest.approx(p) if isinstance(p, float | int) else p for p in points]


def test_log_draws_are_even_in_the_logarithm() -> None:
    domain = parse_domain("search.tau", {"float": [1, 100], "log": True})
    rng = random.Random(3)
    below = sum(float(domain.draw(rng)) < 10 for _ in range(4000)) / 4000
    assert below == pytest.approx(0.5, abs=0.04)


def test_every_int_is_drawn_equally_often() -> None:
    domain = parse_domain("search.n", {"int": [1, 4]})
    rng = random.Random(4)
    drawn = Counter(domain.draw(rng) for _ in range(4000))
    assert all(drawn[value] / 4000 == pytest.approx(0.25, abs=0.04) for value in (1, 2, 3, 4))


def test_ints_under_log_get_their_share() -> None:
    domain = parse_domain("search.n", {"int": [1, 3], "log": True})
    rng = random.Random(5)
    drawn = Counter(domain.draw(rng) for _ in range(6000))
    whole = math.log(3.5 / 0.5)
    for value in (1, 2, 3):
        share = math.log((value + 0.5) / (value - 0.5)) / whole
        assert drawn[value] / 6000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("written", "inside", "outside"),
    [
        ({"float": [0.5, 8]}, [0.5, 8, 3], [0.49, 8.1, "1", True, None]),
        ({"float": [0, 1], "step": 0.25}, [0, 0.25, 1], [0.3, 1.25]),
        ({"int": [1, 8]}, [1, 8, 2.0], [0, 9, 2.5, "2", True]),
        ({"choice": [1, "a"]}, [1, "a"], [True, "b", None]),
        ({"choice": [True, "a"]}, [True], [1, False]),
        ({"fixed": 2}, [2, 2.0], [3, "2"]),
    ],
)
def test_contains(written: dict[str, object], inside: list[object], outside: list[object]) -> None:
    domain = parse_domain("search.x", written)
    assert [domain.contains(value) for value in inside] == [True] * len(inside)
    assert [domain.contains(value) for value in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {"float": [0.0, 1], "log": True},
            r"search\.x: low > 0 must hold when log is true, but got low=0\.0\. "
            r"Use a positive low, or log: false\.",
        ),
        ({"float": [8, 0.5]}, r"low <= high must hold, but got low=8\.0, high=0\.5"),
        ({"int": [0, 4], "log": True}, r"low > 0 must hold when log is true, but got low=0\."),
        ({"int": [5, 4]}, r"low <= high must hold, but got low=5, high=4"),
        ({"int": [1.5, 4]}, r"search\.x: int item 0: .*fractional part, but got 1\.5"),
        ({"float": [1, 2, 3]}, r"search\.x: float must be \[low, high\], but got \[1, 2, 3\]"),
        ({"float": 3}, r"search\.x: float must be \[low, high\], but got 3"),
        ({"float": [True, 3]}, r"search\.x: float must hold numbers, but got True"),
        ({"float": ["a", 3]}, r"search\.x: float item 0: .*but got 'a'"),
        ({"float": [1, math.inf]}, r"finite number, but got inf"),
        ({"float": [1, 2], "step": 0.3}, r"high - low must be a multiple of step.*Use high=1\.9\."),
        ({"float": [1, 2], "step": 0.5, "log": True}, r"step goes with log: false only"),
        ({"float": [1, 2], "step": 0}, r"step: Input should be greater than 0, but got 0"),
        ({"choice": []}, r"choice must list at least one value, but got \[\]"),
        ({"choice": [1, 2, 1.0]}, r"values of choice must differ, but got 1\.0 twice"),
        ({"choice": "abc"}, r"choice must be a list of values, but got 'abc'"),
        ({"choice": [None]}, r"choice must hold text, numbers, true or false, but got None"),
        ({"choice": [math.nan]}, r"numbers must be finite, but got nan"),
        ({"fixed": math.inf}, r"numbers must be finite, but got inf"),
        ({"flaot": [1, 2]}, r"but got 'flaot'\. Did you mean 'float'\?"),
        ({"float": [1, 2], "lgo": True}, r"knows when, float, log, step, but got 'lgo'.*'log'"),
        ({"choice": [1], "log": True}, r"knows when, choice, but got 'log'"),
        ({"float": [1, 2], "int": [1, 2]}, r"exactly one of .* but got float and int"),
        ({}, r"exactly one of float, int, choice, fixed must be given, but got none"),
        (3, r"must be a mapping with one of .*, but got 3\. Write \{fixed: 3\} to pin it"),
        (["a", "b"], r"but got \['a', 'b'\]\. Write {choice: \['a', 'b'\]} to list them\."),
        ({"float": [1, 2], "when": {"p": []}}, r"search\.x: when p"),
    ],
)
def test_a_wrong_domain_is_refused(written: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_domain("search.x", written)


def test_text_names_what_matters() -> None:
    texts = [parse_domain("search.x", written).text() for written in WRITTEN]
    assert texts[0] == "float 0.5 to 8, log"
    assert texts[2] == "float 0 to 2, step 0.5"
    assert texts[6] == "int 1 to 1000, log"
    assert texts[8] == "one of a, 2, 2.5, True"
    assert texts[10] == "always 3"


def test_the_json_schema_speaks_the_words_of_the_file() -> None:
    definitions = json_schema()["$defs"]
    properties = {name for row in definitions.values() for name in row["properties"]}
    assert set(KINDS) | {"when", "log", "step"} == properties


def test_points_rise() -> None:
    points = parse_domain("search.x", {"float": [0.1, 30], "log": True}).points(9)
    assert all(isinstance(p, float) for p in points)
    assert all(float(left) < float(right) for left, right in pairwise(points))
