"""How much of a trial is looked at: less and more seldom where it is short, nothing where that
would tell nothing."""

import pytest

from trainers.preparing.keys import EVALUATION_FIELDS
from trainers.trial.config import TrialConfig
from trainers.trial.probe import MOST_POSITIONS, is_diagnostic, plan_probe, work_of

SHARE = 0.02


def test_a_long_trial_is_looked_at_five_times() -> None:
    plan = plan_probe(SHARE, num_steps=2000, work=1e7, vocab_size=50257)
    assert plan is not None
    assert plan.num_positions == MOST_POSITIONS
    assert plan.steps == (0, 200, 500, 1000, 2000)
    assert plan.ends == (0, 2000)


def test_less_work_means_fewer_positions_then_fewer_looks_then_none() -> None:
    plans = [
        plan_probe(SHARE, num_steps=400, work=work, vocab_size=1000)
        for work in (1e7, 5e4, 2.5e4, 1.8e4, 1e4)
    ]
    looks = [0 if plan is None else len(plan.steps) for plan in plans]
    assert looks == [5, 5, 3, 2, 0]
    positions = [plan.num_positions for plan in plans if plan is not None]
    assert positions[0] == 512 and 32 <= min(positions) and max(positions[1:]) < 512


def test_a_larger_vocabulary_means_fewer_positions() -> None:
    small, large = (
        plan_probe(SHARE, num_steps=400, work=3e5, vocab_size=size) for size in (1000, 50257)
    )
    assert small is not None and large is not None
    assert small.num_positions > 3 * large.num_positions


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7])
def test_steps_are_different_ones_and_the_ends_among_them(num_steps: int) -> None:
    plan = plan_probe(1.0, num_steps=num_steps, work=1e6, vocab_size=10)
    assert plan is not None
    assert len(set(plan.steps)) == len(plan.steps)
    assert plan.steps[0] == 0 and plan.steps[-1] == num_steps


def test_no_share_means_no_diagnostics() -> None:
    assert plan_probe(0.0, num_steps=1000, work=1e12, vocab_size=10) is None


def test_an_evaluated_position_is_less_work_than_a_trained_one() -> None:
    assert 1000 < work_of(trained=1000, evaluated=1000) < 2000


def test_diagnostics_are_told_from_metrics_by_their_name() -> None:
    assert is_diagnostic("probe/off_top1")
    assert not is_diagnostic("cross_entropy") and not is_diagnostic("loss")


def test_a_trial_that_says_nothing_of_them_is_written_as_before() -> None:
    """Older images refuse a field that they do not know; what was scored keeps its key."""
    assert "diagnostics_share" not in TrialConfig().model_dump()
    assert TrialConfig(diagnostics_share=0.0).model_dump()["diagnostics_share"] == 0.0
    assert "diagnostics_share" not in EVALUATION_FIELDS
