"""Conditions and groups against records whose numbers differ by their rounding."""

from typing import Any

import pytest

from service.errors import SpecError
from service.record.conditions import NOT_USED, check_group, conditions, group_of
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
    assert condition.holds(record(tau=recorded))
    assert group_of(record(tau=recorded), "tau") == group_of(record(tau=0.3), "tau")


def test_neighbours_are_not_one_number() -> None:
    [condition] = conditions(["tau=0.3"])
    assert not condition.holds(record(tau=0.30001))
    assert not condition.holds(record(tau=None))
    assert group_of(record(tau=0.30001), "tau") != group_of(record(tau=0.3), "tau")


def test_all_else_is_compared_as_it_is() -> None:
    held = record(divergence="forward_kl", seed=3, allow_free_logit_scale=True)
    texts = ["divergence=forward_kl", "seed=3", "state=completed", "allow_free_logit_scale=true"]
    assert all(one.holds(held) for one in conditions(texts))
    assert not any(
        one.holds(held) for one in conditions([text.replace("=", "!=") for text in texts])
    )
    assert not any(one.holds(record()) for one in conditions(["seed=3", "seed!=3", "label=it's"]))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("tau<2", [1]),
        ("tau<=2", [1, 2]),
        ("tau>2", [3]),
        ("tau >= 2", [2, 3]),
        ("tau!=2", [1, 3]),
        ("tau==2", [2]),
        ("tau<=0.2", []),
    ],
)
def test_numbers_are_ordered(text: str, holds: list[int]) -> None:
    [condition] = conditions([text])
    assert [tau for tau in (1, 2, 3) if condition.holds(record(tau=float(tau)))] == holds
    assert not condition.holds(record()), "a trial that has no tau meets no condition on it"


@pytest.mark.parametrize("recorded", [0.1 + 0.2, 0.3])
def test_rounding_is_on_neither_side(recorded: float) -> None:
    signs = {sign: conditions([f"tau{sign}0.3"])[0].holds(record(tau=recorded)) for sign in SIGNS}
    assert signs == {"<": False, ">": False, "<=": True, ">=": True, "!=": False}


SIGNS = ("<", ">", "<=", ">=", "!=")


def test_a_trial_without_a_soft_loss_has_no_field_of_it() -> None:
    hard = record(divergence="forward_kl", tau=1.0, soft_weight=0.0, hard_weight=1.0, seed=1)
    texts = ["divergence=forward_kl", "divergence!=reverse_kl", "tau=1", "tau<2"]
    assert not any(one.holds(hard) for one in conditions(texts))
    assert all(one.holds(hard) for one in conditions(["hard_weight=1", "soft_weight=0", "seed=1"]))
    assert group_of(hard, "divergence") == group_of(hard, "tau") == NOT_USED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tau", "a field, one of = != < <= > >=, and a value, but got 'tau'"),
        ("tau=", "but got 'tau='"),
        ("tau<", "but got 'tau<'"),
        ("<2", "field must be one of state"),
        ("tua=2", "but got 'tua'. Did you mean 'tau'"),
        ("tau=warm", "where: tau:.*but got 'warm'"),
        ("tau<nan", "where: tau:.*but got 'nan'"),
        ("tau=<2", "where: tau:.*but got '<2'"),
        ("divergence<forward_kl", "< compares numbers.*Use = or != with divergence"),
        ("state>completed", "> compares numbers"),
        ("state=done", "where: state:.*'completed'.*but got 'done'"),
    ],
)
def test_a_bad_condition_is_named(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        conditions([text])


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
