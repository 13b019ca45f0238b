"""Fresh seeds about a search's winner, and grids that lack some."""

from dataclasses import replace
from typing import Any

import pytest
from records_support import record_of

from service.record.records import RunRecord, SweepRecord
from service.results.best import evidence_of
from service.results.confirmation import contenders
from service.results.evidence import Confirming, Evidence
from service.results.findings import Confirmation, Outcome, Unbalanced, sentences
from service.results.report import report
from service.states import TrialState

WAY = (("rouge_l", "maximize"),)


def sweep_record(**tags: str) -> SweepRecord:
    return SweepRecord(
        sweep_id="toy-1a2b3c4d",
        name="toy",
        run_id="r",
        state="completed",
        objective_metric="rouge_l",
        objective_direction="maximize",
        num_trials=4,
        started_at=0.0,
        duration_s=1.0,
        tags=tags,
    )


def search() -> list[RunRecord]:
    """A search whose tau 4 is ahead of tau 3, and whose second control is the better one."""
    return [
        record_of(0, {"tau": 1.0}, {"rouge_l": 20.0}, label="tau 1"),
        record_of(1, {"tau": 2.0}, {"rouge_l": 25.0}, label="tau 2"),
        record_of(2, {"tau": 4.0, "seed": 0}, {"rouge_l": 30.0}),
        record_of(3, {"tau": 3.0, "seed": 0}, {"rouge_l": 28.0}),
    ]


def again(values: list[float], tau: float, label: str | None = None) -> list[RunRecord]:
    """The trials of a study's cell: a seed from 5 on for each value."""
    return [
        record_of(10 + seed, {"tau": tau, "seed": 5 + seed}, {"rouge_l": value}, label=label)
        for seed, value in enumerate(values)
    ]


def confirmation(records: list[RunRecord] | None, **known: Any) -> Confirmation:
    confirming = None if records is None else Confirming("toy-confirm-1", tuple(records))
    evidence = Evidence(tuple(search()), WAY, sweep=sweep_record(), confirming=confirming, **known)
    (found,) = [one for one in report(evidence) if isinstance(one, Confirmation)]
    return found


def test_a_winner_is_unconfirmed_until_a_study_has_trained_it() -> None:
    told = confirmation(None).sentence()
    assert told.startswith("unconfirmed: tau=4 was never trained on seeds that the search did not")
    assert told.endswith("to find out: kd-sweep confirm toy-1a2b3c4d")


def test_luck_is_said_once() -> None:
    evidence = Evidence(tuple(search()), WAY, sweep=sweep_record())
    assert sum("luck is not known" in one for one in sentences(report(evidence))) == 1


@pytest.mark.parametrize(
    ("winner", "control", "told", "is_confirmed"),
    [
        ([30, 31, 32], [20, 21.5, 22], "confirmed by toy-confirm-1: tau=4 against tau 2", True),
        ([20, 21.5, 22], [30, 31, 32], "refuted by toy-confirm-1, where the control is", False),
        ([30, 10, 20], [20, 21, 22], "not confirmed by toy-confirm-1: tau=4 against", False),
        ([30], [20], "unconfirmed: the study toy-confirm-1 does not have two seeds", False),
    ],
)
def test_afterwards_it_is_said_what_fresh_seeds_show(
    winner: list[float], control: list[float], told: str, is_confirmed: bool
) -> None:
    found = confirmation([*again(winner, 4.0), *again(control, 2.0, "tau 2")])
    assert found.sentence().startswith(told)
    assert found.is_confirmed is is_confirmed


def test_where_less_is_better_a_smaller_value_confirms() -> None:
    records = [*again([20, 21.5, 22], 4.0), *again([30, 31, 32], 2.0, "tau 2")]
    assert not confirmation(records).is_confirmed
    assert replace(confirmation(records), sign=-1).is_confirmed


def test_trials_that_failed_on_fresh_seeds_do_not_count() -> None:
    records = [*again([30, 31], 4.0), *again([20, 21], 2.0, "tau 2")]
    broken = replace(records[0], state=TrialState.FAILED)
    assert confirmation([broken, *records[1:]]).test is None


def test_a_study_of_other_configs_confirms_nothing() -> None:
    found = confirmation([*again([30, 31], 3.0), *again([20, 21], 2.0, "tau 2")])
    assert found.sentence().startswith("unconfirmed: tau=4")
    assert "(toy-confirm-1 trained other configs)" in found.sentence()


def test_the_best_configs_and_the_best_other_control_are_to_be_confirmed() -> None:
    winners, control = contenders(Evidence(tuple(search()), WAY), 2)
    assert [one.name for one in winners] == ["tau=4", "tau=3"]
    assert control is not None
    assert control.name == "tau 2"
    assert contenders(Evidence(tuple(search()[2:]), WAY), 5)[1] is None


def cells(states: dict[str, list[TrialState]], role: str = "compared") -> list[RunRecord]:
    found = []
    for index, (cell, each) in enumerate(states.items()):
        for seed, state in enumerate(each):
            record = record_of(
                10 * index + seed,
                {"tau": 1.0 + index, "seed": seed},
                {"rouge_l": 1.0 + index + seed},
                state=state,
                tags={"cell": cell, "role": role},
            )
            found.append(record)
    return found


def unbalanced(records: list[RunRecord]) -> list[str]:
    study = sweep_record(study='{"cells": 3, "seeds": 2}')
    found = report(Evidence(tuple(records), WAY, sweep=study))
    assert not any(isinstance(one, Confirmation) for one in found), "a study needs no confirming"
    return [one.sentence() for one in found if isinstance(one, Unbalanced)]


def test_a_grid_that_lacks_seeds_is_called_unbalanced() -> None:
    done, failed = TrialState.COMPLETED, TrialState.FAILED
    (told,) = unbalanced(cells({"a": [done, done], "b": [done, failed]}))
    assert told.startswith(
        "the grid is unbalanced: 2 of 3 cells have fewer than the 2 seeds (b has 1; 1 have none"
    )
    assert unbalanced(cells({"a": [done, done], "b": [done, done], "c": [done, done]})) == []


def test_a_cell_that_is_a_control_may_win_as_a_cell() -> None:
    def cell(first: int, tau: float, label: str | None, cell: str, value: float) -> list[RunRecord]:
        tags = {"cell": cell, "role": "compared"}
        return [
            record_of(
                first + seed,
                {"tau": tau, "seed": seed},
                {"rouge_l": value + seed},
                label=label,
                tags=tags,
            )
            for seed in (0, 1)
        ]

    records = [
        *cell(0, 1.0, "forward KL, tau 1", "forward KL, tau 1", 5.0),
        *cell(2, 2.0, "forward KL, tau 2", "tau=2", 9.0),
        *cell(4, 3.0, None, "tau=3", 4.0),
    ]
    study = sweep_record(study='{"cells": 3, "seeds": 2}')
    evidence = evidence_of(study, records)
    (outcome,) = [one for one in report(evidence) if isinstance(one, Outcome)]
    assert outcome.winner.name == "forward KL, tau 2"
    assert outcome.control is not None
    assert outcome.control.name == "forward KL, tau 1"


def test_tuning_trials_are_compared_with_none() -> None:
    done, failed = TrialState.COMPLETED, TrialState.FAILED
    whole = cells({"a": [done, done], "b": [done, done], "c": [done, done]})
    tuning = [
        replace(one, trial=100 + one.trial, metrics={"rouge_l": 99.0})
        for one in cells({"a": [done, failed]}, role="tuning")
    ]
    evidence = evidence_of(sweep_record(study='{"cells": 3, "seeds": 2}'), [*whole, *tuning])
    (standing, *_) = evidence.ranked("rouge_l")
    assert standing.mean < 10
    assert len(evidence.records) == len(whole)
    said = sentences(report(evidence))
    assert any(one.startswith("1 of 8 trials failed; trial 101") for one in said)
