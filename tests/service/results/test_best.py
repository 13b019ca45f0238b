"""Answers to `best`, from a record that is a list."""

import json
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from records_support import record_of

from service.errors import SpecError
from service.record.records import RunRecord, SweepRecord
from service.record.runs import Runs
from service.results.best import Best, Question, check, find_best
from service.states import TrialState

STOPPED = TrialState.STOPPED_EARLY


@dataclass
class Listed:
    """Takes the place of `Runs`: sweeps with their trials, the newest first."""

    recorded: dict[str, tuple[SweepRecord, list[RunRecord]]]

    def sweeps(self) -> list[SweepRecord]:
        return [sweep for sweep, _ in self.recorded.values()]

    def confirming(self, sweep_id: str) -> list[SweepRecord]:
        return []

    def resolve_sweep(self, reference: str) -> SweepRecord:
        return self.recorded[reference][0]

    def trials(self, sweep_id: str) -> list[RunRecord]:
        return self.recorded[sweep_id][1]


def sweep_of(
    name: str,
    records: list[RunRecord],
    *,
    objective: tuple[str, str] = ("rouge_l", "maximize"),
    **known: Any,
) -> tuple[SweepRecord, list[RunRecord]]:
    sweep = SweepRecord(name, name, name, "completed", *objective, len(records), 0.0, 1.0, **known)
    return sweep, [replace(one, sweep_id=name, started_at=float(one.trial)) for one in records]


def ask(*sweeps: tuple[SweepRecord, list[RunRecord]], **question: Any) -> Best:
    runs = Listed({sweep.sweep_id: (sweep, records) for sweep, records in sweeps})
    return find_best(cast(Runs, runs), Question(**({"sweep": sweeps[0][0].sweep_id} | question)))


def numbers(found: Best) -> list[int]:
    return [record.trial for record in found.records]


def toy() -> tuple[SweepRecord, list[RunRecord]]:
    hard = {"divergence": "forward_kl", "hard_weight": 1.0, "soft_weight": 0.0}
    return sweep_of(
        "toy",
        [
            record_of(0, hard, {"rouge_l": 20.0, "cross_entropy": 3.0}, label="hard loss only"),
            record_of(1, {"tau": 1.0}, {"rouge_l": 25.0, "cross_entropy": 2.0, "perplexity": 9.0}),
            record_of(2, {"divergence": "reverse_kl", "tau": 2.0}, {"rouge_l": 30.0}),
            record_of(3, {"tau": 4.0}, {"rouge_l": 28.0, "cross_entropy": 1.5, "perplexity": 7.0}),
            record_of(4, {"tau": 8.0}, {"rouge_l": 99.0}, state=STOPPED),
            record_of(5, {"tau": 6.0}, {"rouge_l": 98.0}, state=TrialState.DIVERGED),
        ],
    )


def test_the_completed_come_first_and_the_stopped_behind_them() -> None:
    found = ask(toy())
    assert numbers(found) == [2, 3, 1, 0, 4]
    assert (found.metric, found.direction) == ("rouge_l", "maximize")
    assert {name: one.typical.trial for name, one in found.winners.items()} == {
        "rouge_l": 2,
        "cross_entropy": 3,
    }
    assert numbers(ask(toy(), top=2)) == [2, 3]


def test_a_metric_by_which_no_config_is_better_has_no_winner() -> None:
    sweep, records = toy()
    alike = [replace(one, metrics=one.metrics | {"exact_match": 0.0}) for one in records]
    assert "exact_match" not in ask((sweep, alike)).winners
    alike[2] = replace(records[2], metrics=records[2].metrics | {"exact_match": 1.0})
    assert ask((sweep, alike)).winners["exact_match"].typical.trial == 2


def test_no_trial_is_selected_by_a_test_set() -> None:
    with pytest.raises(SpecError, match="test sets report, and never select"):
        ask(toy(), metric="test/self_inst/rouge_l")


def test_rows_name_their_metric() -> None:
    first, *_, last = ask(toy()).to_json()
    assert (first["metric"], first["direction"], first["value"]) == ("rouge_l", "maximize", 30.0)
    assert (first["state"], last["state"]) == ("completed", "stopped_early")
    assert (first["interval"], first["trials"]) == (None, [2])
    assert first["verdict"] == last["verdict"] == list(ask(toy()).lines) != []
    json.dumps(ask(toy()).to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("cross_entropy", [3, 1, 0]),
        ("eval/cross_entropy", [3, 1, 0]),
        ("perplexity", [3, 1]),  # has no direction of its own: the lowest first
        ("objective", [2, 3, 1, 0, 4]),
        ("gradient_norm", []),
    ],
)
def test_any_metric_that_is_logged_can_rank(metric: str, expected: list[int]) -> None:
    assert numbers(ask(toy(), metric=metric)) == expected


def test_a_metric_that_ranks_no_trials_names_no_winner() -> None:
    found = ask(toy(), metric="perplexity")
    assert (found.direction, found.lines) == ("", ())
    assert found.to_json()[0]["direction"] is None


def test_what_no_trial_logs_is_refused_before_anything_is_read() -> None:
    with pytest.raises(SpecError, match=r"--metric: .*but got 'rogue_l'. Did you mean 'rouge_l'"):
        check(Question(metric="rogue_l"))
    with pytest.raises(SpecError, match="--per: .*Did you mean 'divergence'"):
        check(Question(per="divergense"))
    with pytest.raises(SpecError, match="--where: .*'tau'"):
        check(Question(where=["tau"]))


def test_a_metric_that_is_none_of_ours_ranks_where_it_was_logged() -> None:
    logged = [("probe/rank", 4.0), ("rouge_2", 5.0)]
    rows = [{"rouge_l": 10.0} | {name: value + n for name, value in logged} for n in range(2)]
    mine = sweep_of("mine", [record_of(n, {"tau": n + 1.0}, row) for n, row in enumerate(rows)])
    lowest = ask(mine, metric="probe/rank")
    assert (numbers(lowest), lowest.direction, lowest.lines) == ([0, 1], "", ())
    highest = ask(mine, metric="probe/rank", direction="maximize")
    assert (numbers(highest), highest.direction) == ([1, 0], "maximize")
    assert any("won: probe/rank 5" in line for line in highest.lines)
    assert numbers(ask(mine, toy(), sweep="all", metric="probe/rank")) == [0, 1]
    assert numbers(ask(mine, metric="cross_entropy", direction="maximize")) == []
    assert numbers(ask(toy(), metric="cross_entropy", direction="maximize")) == [0, 1, 3]
    # As near to one of ours as a slip of the finger; with its group it is meant.
    assert numbers(ask(mine, metric="eval/rouge_2", direction="maximize")) == [1, 0]
    with pytest.raises(SpecError, match=r"Did you mean 'rouge_l'.*eval/rouge_2"):
        ask(mine, metric="rouge_2")


def test_a_metric_that_no_trial_has_is_refused_with_those_that_they_have() -> None:
    expected = r"logged, cross_entropy, perplexity, rouge_l, but got 'wordiness'"
    for question in ({}, {"where": ["tau=1"]}, {"sweep": "all"}):
        with pytest.raises(SpecError, match=expected):
            ask(toy(), metric="wordiness", **question)
    with pytest.raises(SpecError, match="logged, none, but got 'wordiness'"):
        ask(sweep_of("new", []), metric="wordiness")
    tested = record_of(0, {"tau": 1.0}, {"rouge_l": 1.0, "test/own/rouge_l": 2.0})
    with pytest.raises(SpecError, match="logged, rouge_l, but got 'wordiness'"):
        ask(sweep_of("tested", [tested]), metric="wordiness")


def test_a_direction_is_one_and_belongs_to_a_metric() -> None:
    with pytest.raises(SpecError, match="--direction: must be maximize or minimize, but got 'up'"):
        check(Question(metric="perplexity", direction="up"))
    with pytest.raises(SpecError, match="--direction: .*but got no metric"):
        check(Question(direction="maximize"))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["divergence=forward_kl"], [3, 1, 4]),  # the hard loss alone has none
        (["divergence!=forward_kl"], [2]),
        (["tau<=2"], [2, 1]),
        (["tau>2", "tau < 8"], [3]),
        (["tau<2"], [1]),
        (["state=stopped_early"], [4]),
        (["label=hard loss only"], [0]),
        (["soft_weight=0"], [0]),
    ],
)
def test_conditions_keep_what_meets_all_of_them(where: list[str], expected: list[int]) -> None:
    found = ask(toy(), where=where)
    assert numbers(found) == expected
    assert found.lines == (), "of a part nothing is concluded"


def test_there_is_one_row_for_each_value() -> None:
    found = ask(toy(), per="divergence")
    assert [(row.group, row.record.trial) for row in found.rows] == [
        ("reverse_kl", 2),
        ("forward_kl", 3),
        ("–", 0),
    ]
    twice = ask(toy(), per="divergence", top=2)
    assert [(row.group, row.record.trial) for row in twice.rows] == [
        ("reverse_kl", 2),
        ("forward_kl", 3),
        ("forward_kl", 1),
        ("–", 0),
    ]


def seeds(first: int, tau: float, values: list[float]) -> list[RunRecord]:
    return [
        record_of(first + seed, {"tau": tau, "seed": seed}, {"rouge_l": value})
        for seed, value in enumerate(values)
    ]


def test_a_row_is_a_config_over_its_seeds() -> None:
    lucky, steady = seeds(0, 1.0, [90.0, 10.0, 11.0]), seeds(3, 2.0, [40.0, 41.0, 42.0])
    found = ask(sweep_of("s", [*lucky, *steady]))
    rows = found.to_json()
    assert [(row["value"], row["trial"], row["trials"]) for row in rows] == [
        (41.0, 4, [3, 4, 5]),
        (37.0, 2, [0, 1, 2]),
    ]
    low, high = rows[0]["interval"]
    assert low < 40 and high > 42
    by_seed = ask(sweep_of("s", [*lucky, *steady]), per="seed")
    assert [(row.group, row.record.trial) for row in by_seed.rows] == [("0", 0), ("2", 5), ("1", 4)]


def test_all_sweeps_are_ranked_by_their_own_objectives() -> None:
    other = sweep_of(
        "other",
        [record_of(n, {"tau": n + 1.0}, {"cross_entropy": 3.0 - n}) for n in range(3)],
        objective=("cross_entropy", "minimize"),
    )
    found = ask(toy(), other, sweep="all", top=1)
    shown = [(row.group, row.record.trial, row.metric, row.value) for row in found.rows]
    assert shown == [("toy", 2, "rouge_l", 30.0), ("other", 2, "cross_entropy", 1.0)]
    assert {name: one.typical.sweep_id for name, one in found.winners.items()} == {
        "rouge_l": "toy",
        "cross_entropy": "other",
    }
    assert numbers(ask(toy(), other, sweep="all")) == [2, 3, 1, 2, 1, 0]
    one_metric = ask(toy(), other, sweep="all", metric="cross_entropy", top=3)
    assert [(one.sweep_id, one.trial) for one in one_metric.records] == [
        ("other", 2),
        ("toy", 3),
        ("toy", 1),
    ]


def test_an_objective_may_turn_its_metric_around() -> None:
    found = ask(sweep_of("s", toy()[1], objective=("rouge_l", "minimize")))
    assert numbers(found)[0] == 0
    assert found.direction == "minimize"


def test_two_objectives_are_answered_with_their_front() -> None:
    second = {"second_objective_metric": "cross_entropy", "second_objective_direction": "minimize"}
    rows = [(30.0, 3.0), (20.0, 2.0), (10.0, 2.5)]
    records = [
        record_of(n, {"tau": n + 1.0}, {"rouge_l": text, "cross_entropy": loss})
        for n, (text, loss) in enumerate(rows)
    ]
    found = ask(sweep_of("s", records, tags=second))
    assert numbers(found) == [0, 1]
    fronts = [line for line in found.lines if "the Pareto front of" in line]
    assert len(fronts) == 1 and not any(" won: " in line for line in found.lines)
    assert numbers(ask(sweep_of("s", records, tags=second), metric="rouge_l")) == [0, 1, 2]


def test_what_the_sweep_measured_and_searched_is_what_it_is_judged_by() -> None:
    sweep = sweep_of(
        "s",
        [record_of(1, {"tau": 8.0}, {"rouge_l": 30.0, "rouge_l_shuffled": 4.0})],
        tags={"search": json.dumps({"tau": {"float": [0.5, 8], "log": True}})},
        metrics={
            "teacher/rouge_l": 35.0,
            "undistilled/rouge_l": 10.0,
            "undistilled/x": float("nan"),
            "data/validation_examples": 50.0,
        },
    )
    found = ask(sweep)
    assert found.references == {
        "teacher": {"rouge_l": 35.0},
        "undistilled student": {"rouge_l": 10.0},
        "floor": {"rouge_l": 4.0},
    }
    assert "50 prompts are few" in found.lines[0]
    assert "the best tau, 8, lies at the upper end" in found.lines[1]


@pytest.mark.parametrize("search", ["[" * 4000, '{"tau": 3}', "[]"])
def test_a_search_that_was_edited_hides_nothing_else(search: str) -> None:
    sweep, records = toy()
    assert numbers(ask((replace(sweep, tags={"search": search}), records))) == [2, 3, 1, 0, 4]
