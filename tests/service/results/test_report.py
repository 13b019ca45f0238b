"""The sentences that end a sweep."""

import math

import pytest
from records_support import record_of

from service.record.records import RunRecord
from service.results.report import best_record, conclusions, contest, winners
from service.states import TrialState

HARD = {"divergence": "forward_kl", "tau": 1.0, "hard_weight": 1.0, "soft_weight": 0.0}
WAYS = {"rouge_l": "maximize", "cross_entropy": "minimize"}


def sweep() -> list[RunRecord]:
    return [
        record_of(0, HARD, {"rouge_l": 0.20, "cross_entropy": 3.0}, label="hard loss only"),
        record_of(1, {"tau": 2.0}, {"rouge_l": 0.25, "cross_entropy": 2.0}, label="tau 2"),
        record_of(2, {"divergence": "reverse_kl"}, {"rouge_l": 0.30, "cross_entropy": 2.5}),
        record_of(3, {"tau": 4.0}, {"rouge_l": 0.28, "cross_entropy": 1.5}),
        record_of(4, {"tau": 8.0}, {"rouge_l": math.nan}),
        record_of(5, {"tau": 9.0}, {"rouge_l": 0.9}, state=TrialState.DIVERGED),
    ]


def test_the_best_has_finished_with_a_finite_value() -> None:
    best = best_record(sweep(), "rouge_l", "maximize")
    assert best is not None and best.trial == 2
    assert best_record(sweep(), "no_such_metric", "maximize") is None


def test_of_equals_the_first_is_best() -> None:
    records = [record_of(n, {"tau": float(n + 1)}, {"rouge_l": 0.3}) for n in (2, 1)]
    best = best_record(records, "rouge_l", "maximize")
    assert best is not None and best.trial == 1


def test_each_metric_has_its_winner() -> None:
    assert {name: one.trial for name, one in winners(sweep(), WAYS).items()} == {
        "rouge_l": 2,
        "cross_entropy": 3,
    }


@pytest.mark.parametrize(("metric", "gain"), [("rouge_l", 0.05), ("cross_entropy", 0.5)])
def test_the_gain_is_positive_in_both_directions(metric: str, gain: float) -> None:
    found = contest(sweep(), metric, WAYS[metric])
    assert found.control is not None and found.control.label == "tau 2"
    assert found.gain == pytest.approx(gain)


def test_the_verdict_says_what_won_how_sure_and_who_objects() -> None:
    first, second, third = conclusions(sweep(), "rouge_l", "maximize", WAYS)
    assert first == (
        "reverse_kl (trial 2) won: rouge_l 0.3, 0.05 (20.0%) better than the best control, "
        "tau 2 (trial 1)"
    )
    assert "one seed each" in second
    assert third == "other metrics name other winners: tau=4 (trial 3) under cross_entropy"


def test_a_winner_under_all_metrics_is_called_so() -> None:
    assert conclusions(sweep()[:3], "rouge_l", "maximize", {"rouge_l": "maximize"})[-1].startswith(
        "one seed each"
    )
    records = [record for record in sweep() if record.trial != 2]
    assert conclusions(records, "rouge_l", "maximize", WAYS)[-1] == (
        "it also wins under every other metric"
    )


def test_controls_that_are_not_beaten_are_said_so() -> None:
    records = [*sweep()[:2], record_of(2, {"tau": 3.0}, {"rouge_l": 0.22})]
    assert conclusions(records, "rouge_l", "maximize", {})[0] == (
        "no searched trial beat the best control, tau 2 (trial 1) (rouge_l 0.25); "
        "the nearest is tau=3 (trial 2) with 0.22"
    )


def test_equal_and_missing_controls() -> None:
    equal = [sweep()[1], record_of(2, {"tau": 3.0}, {"rouge_l": 0.25})]
    assert "as good as the best control" in conclusions(equal, "rouge_l", "maximize", {})[0]
    alone = [record_of(2, {"tau": 3.0}, {"rouge_l": 0.25})]
    (line,) = conclusions(alone, "rouge_l", "maximize", {})
    assert line.endswith("there is no control to compare it with")


def test_seeds_that_repeat_are_tested_in_pairs() -> None:
    records = [
        record_of(10 * cell + seed, {"tau": tau, "seed": seed}, {"rouge_l": base + 0.01 * seed})
        for cell, (tau, base) in enumerate([(1.0, 0.2), (2.0, 0.25)])
        for seed in range(3)
    ]
    for record in records[:3]:
        object.__setattr__(record, "label", "a control")
    assert "over 3 seeds" in conclusions(records, "rouge_l", "maximize", {})[1]


def test_a_sweep_without_a_value_says_so() -> None:
    assert conclusions([], "rouge_l", "maximize", WAYS) == [
        "no searched trial finished with a finite rouge_l"
    ]
