"""Reasons to leave a trial, and how a trial that leaves has ended."""

import pytest

from trainers.trial.reporting import Leave, Outcome


def test_each_reason_says_how_the_trial_ended() -> None:
    outcomes = {reason: reason.outcome for reason in Leave if reason}
    assert set(outcomes) == set(Leave) - {Leave.NO}
    left = set(Outcome) - {Outcome.COMPLETED, Outcome.DIVERGED}
    assert set(outcomes.values()) == left, "an outcome that is no reason's is never reached"


@pytest.mark.parametrize("outcome", list(Outcome))
def test_two_outcomes_leave_a_checkpoint_for_another_attempt(outcome: Outcome) -> None:
    assert outcome.is_resumable == (outcome in {Outcome.INTERRUPTED, Outcome.PREEMPTED})


def test_a_reason_fits_into_the_byte_that_rank_0_sends() -> None:
    assert not Leave.NO
    assert all(0 < reason < 256 for reason in Leave if reason)
