"""The verdict on numbers that are given."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from records_support import record_of

from service.rerun.verdict import Numbers, Verdict, differing, judge, seed_noise

LOSSES = {1: 3.0, 2: 2.0}


def numbers(
    metrics: Mapping[str, float],
    weights: str | None = "a",
    losses: Mapping[int, float] = LOSSES,
    facts: Mapping[str, str] | None = None,
) -> Numbers:
    return Numbers(metrics, weights, losses, facts or {})


def verdict_of(recorded: Numbers, rerun: Numbers, **tolerances: float) -> Verdict:
    return judge(recorded, rerun, tolerances=tolerances).verdict


def test_identical_numbers_are_reproduced() -> None:
    same = numbers({"rouge_l": 0.3, "kl": math.nan})
    judged = judge(same, same, tolerances={})
    assert judged.verdict is Verdict.REPRODUCED
    assert judged.sentence() == (
        "reproduced: all 2 metrics and 2 losses are identical, the weights' hash is identical"
    )
    json.dumps(judged.to_json(), allow_nan=False)


def test_a_smallest_difference_differs_without_a_tolerance() -> None:
    judged = judge(
        numbers({"rouge_l": 0.3}), numbers({"rouge_l": math.nextafter(0.3, 1)}, "b"), tolerances={}
    )
    assert judged.verdict is Verdict.DIFFERS
    assert judged.weights_equal is False
    assert not judged.rows[0].agrees


def test_noise_of_seeds_tolerates_and_says_so() -> None:
    judged = judge(
        numbers({"rouge_l": 0.30}),
        numbers({"rouge_l": 0.31}, "b", {1: 3.0, 2: 2.1}),
        tolerances={"rouge_l": 0.02},
        tolerance_reason="three seeds",
    )
    assert judged.verdict is Verdict.WITHIN_TOLERANCE
    assert judged.first_step == 2
    assert "losses part at step 2; tolerance: three seeds" in judged.sentence()
    assert verdict_of(numbers({"rouge_l": 0.30}), numbers({"rouge_l": 0.31}), rouge_l=0.005) is (
        Verdict.DIFFERS
    )


@pytest.mark.parametrize(
    ("rerun", "expected"),
    [
        (numbers({"rouge_l": 0.3}, "b"), Verdict.WITHIN_TOLERANCE),
        (numbers({"rouge_l": 0.3}, "a", {1: 3.0, 2: 2.5}), Verdict.WITHIN_TOLERANCE),
        (numbers({"rouge_l": 0.3}, None), Verdict.REPRODUCED),
        (numbers({}), Verdict.DIFFERS),
        (numbers({"rouge_l": 0.3, "new": 1.0}), Verdict.REPRODUCED),
        (numbers({"rouge_l": math.nan}), Verdict.DIFFERS),
    ],
)
def test_weights_losses_and_missing_metrics_count(rerun: Numbers, expected: Verdict) -> None:
    assert verdict_of(numbers({"rouge_l": 0.3}), rerun) is expected


def test_nothing_to_compare_is_not_reproduced() -> None:
    assert verdict_of(numbers({}), numbers({})) is Verdict.DIFFERS


def test_what_is_known_to_differ_is_named() -> None:
    before = numbers({"rouge_l": 0.3}, facts={"versions.torch": "1", "device": "cpu"})
    now = numbers({"rouge_l": 0.4}, facts={"versions.torch": "2", "device": "cpu", "new": "x"})
    judged = judge(before, now, tolerances={})
    assert judged.differences == {"versions.torch": ("1", "2"), "new": (None, "x")}
    assert "Known to differ: new (unknown → x), versions.torch (1 → 2)." in judged.sentence()
    assert differing({"a": "1"}, {"a": "1"}) == {}
    assert (
        "Nothing that was recorded"
        in judge(numbers({"rouge_l": 0.3}), numbers({"rouge_l": 0.4}), tolerances={}).sentence()
    )


def test_noise_comes_from_other_seeds_of_the_same_config() -> None:
    def of(trial: int, seed: int, value: float, **values: Any) -> Any:
        return record_of(trial, {"tau": 2.0, "seed": seed} | values, {"rouge_l": value})

    trials = [of(0, 0, 0.1), of(1, 1, 0.3), of(2, 2, 9.0, tau=3.0), of(3, 1, 0.3)]
    noise, reason = seed_noise(trials[0], trials)
    assert noise == {"rouge_l": pytest.approx(math.sqrt(0.02))}
    assert "over 2 seeds" in reason
    assert seed_noise(trials[2], trials) == ({}, "")
