"""Which configs make two curves over temperature."""

from dataclasses import replace
from typing import Any

from records_support import record_of

from service.record.records import RunRecord
from service.results.crossovers import crossovers
from service.states import TrialState


def curves(start: int, **values: Any) -> list[RunRecord]:
    """Forward and reverse KL at three temperatures and two seeds; they cross between 1 and 2."""
    found = []
    for divergence, gap in (("forward_kl", 0.0), ("reverse_kl", 1.0)):
        for tau, way in ((1.0, -1.0), (2.0, 1.0), (4.0, 1.0)):
            for seed in (1, 2):
                config = {"divergence": divergence, "tau": tau, "seed": seed} | values
                score = 10.0 + seed + gap * way + 0.001 * seed * gap
                found.append(record_of(start + len(found), config, {"rouge_l": score}))
    return found


def test_curves_that_differ_in_nothing_else_are_one_pair() -> None:
    (pair,) = crossovers(curves(0), "rouge_l")
    assert (pair.first, pair.second, pair.where) == ("forward_kl", "reverse_kl", "")
    assert list(pair.found.tests) == [1.0, 2.0, 4.0]
    assert len(pair.found.crossings) + len(pair.found.unsure) == 1


def test_each_setting_of_the_rest_has_its_own() -> None:
    pairs = crossovers([*curves(0), *curves(100, hard_weight=0.5)], "rouge_l")
    assert [pair.where for pair in pairs] == ["hard_weight=0.1", "hard_weight=0.5"]
    assert pairs[1].sentence().endswith("(hard_weight=0.5)")


def test_a_tuned_learning_rate_is_part_of_what_is_compared() -> None:
    rates = [
        replace(one, config=one.config | {"learning_rate": 1e-4 * one.config["tau"]})
        for one in curves(0)
    ]
    assert crossovers(rates, "rouge_l") == ()
    tuned = [replace(one, tags={"tuned": "learning_rate"}) for one in rates]
    tuning = [
        replace(
            one,
            tags=one.tags | {"role": "tuning"},
            config=one.config | {"seed": 1_000_000},
            metrics={"rouge_l": -99.0},
        )
        for one in tuned
    ]
    (pair,) = crossovers([*tuned, *tuning], "rouge_l")
    assert [test.num_pairs for test in pair.found.tests.values()] == [2, 2, 2]
    assert pair.found.tests[4.0].mean_difference > 0


def test_what_is_no_curve_is_left_out() -> None:
    hard = {"divergence": "reverse_kl", "tau": 1.0, "hard_weight": 1.0, "soft_weight": 0.0}
    others = [
        record_of(50, hard, {"rouge_l": 99.0}),
        record_of(51, {"policy": "cist", "rho_per_log_vocab": 1.0}, {"rouge_l": 99.0}),
        record_of(52, {"divergence": "forward_kl", "tau": 8.0}, {}, state=TrialState.FAILED),
    ]
    (pair,) = crossovers([*curves(0), *others], "rouge_l")
    assert list(pair.found.tests) == [1.0, 2.0, 4.0]
    assert crossovers(others, "rouge_l") == ()
