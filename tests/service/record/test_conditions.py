"""Conditions and groups against records whose numbers differ by their rounding."""

from typing import Any

import pytest

from service.errors import SpecError
from service.record.conditions import check_group, conditions, group_of
from service.record.records import RunRecord
from service.states import TrialState


def record(**config: Any) -> RunRecord:
    return RunRecord(
        sweep_id="s",
        sweep_name="s",
        trial=0,
        attempt=0,
        run_id="r",
        state=TrialState.COMPLETED,
        hyperparameters={},
        metrics={},
        objective=None,
        label=None,
        started_at=0.0,
        duration_s=None,
        config=config,
    )


@pytest.mark.parametrize("recorded", [0.3, 0.1 + 0.2, 1 - 0.7])
def test_a_number_is_found_whatever_its_last_digit(recorded: float) -> None:
    [condition] = conditions(["tau=0.3"])
    assert condition.equal is None
    assert condition.holds(record(tau=recorded))
    assert group_of(record(tau=recorded), "tau") == group_of(record(tau=0.3), "tau")


def test_neighbours_are_not_one_number() -> None:
    [condition] = conditions(["tau=0.3"])
    assert not condition.holds(record(tau=0.30001))
    assert not condition.holds(record(tau=None))
    assert group_of(record(tau=0.30001), "tau") != group_of(record(tau=0.3), "tau")


def test_all_else_is_asked_of_the_store() -> None:
    found = conditions(["divergence=forward_kl", "seed=3", "state=completed", "label=it's"])
    assert [one.equal for one in found] == [
        ("params", "divergence", "forward_kl"),
        ("params", "seed", "3"),
        ("tags", "kd_sweep.state", "completed"),
        ("tags", "kd_sweep.label", "it's"),
    ]
    assert all(one.holds(record()) for one in found)


def test_lists_can_be_groups() -> None:
    assert group_of(record(generation_seeds=[1, 2]), "generation_seeds") == "[1, 2]"


@pytest.mark.parametrize(
    ("per", "message"),
    [("divergense", "Did you mean 'divergence'"), ("", "--per: must be one of task")],
)
def test_unknown_groups_are_refused(per: str, message: str) -> None:
    check_group(None)
    check_group("divergence")
    with pytest.raises(SpecError, match=message):
        check_group(per)
