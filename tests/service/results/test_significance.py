"""What seeds say of configs: against scipy's own tests, and what is refused."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from records_support import record_of
from scipy.stats import ttest_rel
from statsmodels.stats.multitest import multipletests

from service.actions.json_types import adapter_of
from service.errors import SpecError, TrackingError
from service.record.records import RunRecord, SweepRecord
from service.results.compare import compare
from service.results.significance import Entry, Significance, significance
from service.states import TrialState

FORWARD = {"divergence": "forward_kl", "tau": 2.0}
REVERSE = {"divergence": "reverse_kl", "tau": 2.0}
JSD = {"divergence": "generalized_jsd", "tau": 2.0}
SEEDS = range(1, 6)


def trials(
    start: int, values: dict[str, Any], scores: list[float], label: str | None = None
) -> list[RunRecord]:
    """A trial for each score, seeds from 1."""
    return [
        record_of(start + n, values | {"seed": seed}, {"rouge_l": score}, label=label)
        for n, (seed, score) in enumerate(zip(range(1, len(scores) + 1), scores, strict=True))
    ]


def entry(records: list[RunRecord], name: str = "toy-1", **known: Any) -> Entry:
    objective = known.pop("objective", ("rouge_l", "maximize"))
    inputs = known.pop("inputs", {})
    sweep = SweepRecord(name, name, name, "completed", *objective, len(records), 0.0, 1.0, **known)
    return Entry(sweep, tuple(replace(one, sweep_id=name) for one in records), inputs)


A, B, C = [1.0, 1.4, 1.1, 1.2, 1.6], [2.0, 2.3, 2.2, 2.0, 2.7], [1.1, 1.3, 1.3, 1.1, 1.7]


def three() -> list[RunRecord]:
    return [*trials(0, FORWARD, A, "control"), *trials(10, REVERSE, B), *trials(20, JSD, C)]


def text_of(found: Significance) -> str:
    return " ".join(found.to_json()["notes"])


def test_configs_are_compared_with_the_control_by_paired_t_and_holm() -> None:
    found = significance([entry(three())])
    assert (found.metric, found.direction, found.family.control) == (
        "rouge_l",
        "maximize",
        "control",
    )
    rows = {row["name"]: row for row in found.rows()}
    assert list(rows) == ["reverse_kl tau=2", "generalized_jsd tau=2"]
    raw = [float(ttest_rel(values, A).pvalue) for values in (B, C)]
    assert [row["difference"]["p_value"] for row in rows.values()] == pytest.approx(raw)
    expected = list(multipletests(raw, method="holm")[1])
    assert [row["p_holm"] for row in rows.values()] == pytest.approx(expected)
    assert [row["is_significant"] for row in rows.values()] == [True, False]
    assert found.ranking is not None and next(iter(found.ranking.mean_ranks)) == "reverse_kl tau=2"
    assert "compared with control (the best control with most seeds)" in text_of(found)
    assert "confirm" not in text_of(found)


def test_the_answer_is_json_of_the_schema() -> None:
    records = three()
    found = compare(records, significance([entry(records)])).to_json()
    adapter_of("compare").validate_json(json.dumps(found, allow_nan=False), strict=True)


def test_another_control_may_be_named() -> None:
    records = entry(three())
    found = significance([records], control=records.records[6])
    assert found.family.control == "reverse_kl tau=2"
    failed = replace(records.records[0], run_id="other", state=TrialState.FAILED)
    with pytest.raises(
        SpecError, match=r"--control: must be a completed trial .* toy-1/0, which is"
    ):
        significance([records], control=failed)


def test_less_is_better_where_the_objective_says_so() -> None:
    found = significance([entry(three(), objective=("rouge_l", "minimize"))])
    assert [row["name"] for row in found.rows()][-1] == "reverse_kl tau=2"
    assert found.ranking is not None and list(found.ranking.mean_ranks)[-1] == "reverse_kl tau=2"


def test_a_metric_without_a_direction_is_not_ranked() -> None:
    records = [replace(one, metrics={"student_entropy": one.metrics["rouge_l"]}) for one in three()]
    found = significance([entry(records)], metric="eval/student_entropy")
    assert (found.direction, found.ranking, found.to_json()["direction"]) == ("", None, None)
    assert [row["is_significant"] for row in found.rows()] == [False, True]


def test_one_seed_says_that_it_is_one() -> None:
    found = significance([entry([*trials(0, FORWARD, [1.0]), *trials(1, REVERSE, [2.0])])])
    (row,) = found.rows()
    assert (row["low"], row["p_holm"], row["difference"]["p_value"]) == (None, None, None)
    assert "fewer than two seeds shared with forward_kl tau=2, so no interval" in text_of(found)
    assert "the first: no control is here" in text_of(found)
    assert "kd-sweep confirm toy-1 trains its best configs" in text_of(found)


def test_the_way_to_more_seeds_is_one_that_the_sweep_can_go() -> None:
    metrics = {"rouge_l": 1.0, "test/own/rouge_l": 2.0}
    records = [record_of(n, {"tau": tau}, metrics) for n, tau in enumerate((1.0, 2.0))]
    study = entry(records, tags={"study": '{"cells": 2, "seeds": 2}'})
    found = text_of(significance([study]))
    assert "kd-sweep extend toy-1 --seeds 3" in found and "confirm" not in found
    found = text_of(significance([study], metric="test/own/rouge_l"))
    assert "kd-sweep evaluate measures a trial of each seed" in found and "extend" not in found


def test_cells_that_failed_are_left_out_and_said() -> None:
    records = three()
    records[7] = replace(records[7], state=TrialState.FAILED)
    records.append(record_of(30, {"tau": 8.0}, {}, state=TrialState.DIVERGED))
    found = significance([entry(records)])
    row = found.rows()[0]
    assert (row["name"], row["difference"]["num_pairs"]) == ("reverse_kl tau=2", 4)
    assert row["unshared_seeds"] == [3]
    assert "2 of 16 trials did not complete (1 failed, 1 diverged) and count" in text_of(found)
    assert "reverse_kl tau=2: not all seeds are shared with control" in text_of(found)


def test_configs_of_several_sweeps_are_kept_apart() -> None:
    entries = [
        entry(trials(0, FORWARD, A), "one", inputs={"fingerprint.data": "a"}),
        entry(trials(0, FORWARD, B), "two", inputs={"fingerprint.data": "b"}),
    ]
    found = significance(entries)
    assert found.family.control == "one: forward_kl tau=2"
    assert [row["name"] for row in found.rows()] == ["two: forward_kl tau=2"]
    assert "the sweeps differ in their inputs (fingerprint.data)" in text_of(found)


def test_mixed_metrics_are_refused() -> None:
    entries = [
        entry(trials(0, FORWARD, A), "one"),
        entry(trials(0, FORWARD, B), "two", objective=("accuracy", "maximize")),
    ]
    with pytest.raises(
        SpecError,
        match="must be compared, but got maximize rouge_l of one; maximize accuracy of two",
    ):
        significance(entries)
    assert significance(entries, metric="rouge_l").metric == "rouge_l"
    opposite = [entries[0], entry(trials(0, FORWARD, B), "two", objective=("rouge_l", "minimize"))]
    with pytest.raises(SpecError, match="better in one direction, but got maximize and minimize"):
        significance(opposite, metric="rouge_l")


def test_what_was_not_logged_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"--metric: toy-1: must be a metric .* one of rouge_l, but got 'rouge_k'"
    ):
        significance([entry(three())], metric="rouge_k")


def test_sweeps_without_results_are_refused() -> None:
    running = [replace(one, state=TrialState.RUNNING) for one in three()]
    with pytest.raises(
        TrackingError, match="toy-1: a completed trial must be there, but got 15 run"
    ):
        significance([entry(running)])
    with pytest.raises(TrackingError, match="must be there, but got none at all"):
        significance([entry([])])
    with pytest.raises(
        SpecError, match="at least two configs must have .* finite rouge_l, but got 1"
    ):
        significance([entry(trials(0, FORWARD, A))])


def test_hyperparameters_have_their_importance() -> None:
    rng = random.Random(0)
    drawn = [{"tau": rng.uniform(0.5, 8), "hard_weight": rng.random()} for _ in range(60)]
    records = [
        record_of(n, values, {"rouge_l": -abs(values["tau"] - 3)}) for n, values in enumerate(drawn)
    ]
    search = {"tau": {"float": [0.5, 8]}, "hard_weight": {"float": [0, 1]}}
    tags = {"search": json.dumps(search)}
    found = significance([entry(records, tags=tags)])
    assert found.importances["tau"] > found.importances["hard_weight"]
    assert significance([entry(records, tags={"search": '{"tau": 3}'})]).importances == {}


def test_single_examples_enter_where_they_are_read() -> None:
    def read(record: RunRecord, metric: str) -> dict[int, float]:
        score = record.metrics[metric]
        return {n: score + (n % 3) * (score - 1) for n in range(12)}

    found = significance([entry(three())], read=read)
    row = found.rows()[0]
    assert row["by_example"]["num_examples"] == 12
    assert row["by_example"]["mean_difference"] == pytest.approx(
        2 * row["difference"]["mean_difference"]
    )
    assert any("than the 12 of this validation split" in line for line in found.lines())
    nothing = significance([entry(three())], read=lambda record, metric: {})
    assert nothing.rows()[0]["by_example"] is None
    assert any("nothing is said by single examples" in line for line in nothing.lines())


def test_a_crossover_is_part_of_it() -> None:
    records = []
    for n, tau in enumerate((1.0, 4.0)):
        records += trials(100 * n, FORWARD | {"tau": tau}, [2.0, 3.0, 4.0])
        gap = 0.5 if n else -0.5
        records += trials(100 * n + 10, REVERSE | {"tau": tau}, [2.01 + gap, 3 + gap, 3.99 + gap])
    found = significance([entry(records)])
    (pair,) = found.to_json()["crossovers"]
    assert pair["crossings"][0]["tau"] == pytest.approx(2.0)
    assert pair["sentence"].startswith("reverse_kl is higher than forward_kl above tau 2 (95 %")


def test_a_control_that_a_study_lists_counts_towards_importances() -> None:
    """Twenty trials are needed: without the control's own there are ten."""
    tags = {"search": '{"tau": {"choice": [1, 2]}}'}
    scores = [float(seed) for seed in range(10)]
    listed = [
        replace(one, tags=one.tags | {"cell": "forward_kl tau=1"})
        for one in trials(0, {"tau": 1.0}, scores, "forward KL, tau 1")
    ]
    others = trials(10, {"tau": 2.0}, [one + 100 for one in scores])
    assert significance([entry([*listed, *others], tags=tags)]).importances == {"tau": 1.0}
