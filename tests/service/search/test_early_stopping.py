"""When each kind may stop a trial, and its verdicts on values whose ranking is plain to see."""

from typing import Any

import optuna
import pytest
from pydantic import TypeAdapter, ValidationError

from service.search.brackets import BracketPruner
from service.search.early_stopping import (
    EarlyStopping,
    Hyperband,
    Median,
    NoEarlyStopping,
    SuccessiveHalving,
)

KINDS: list[Any] = [SuccessiveHalving(), Median(num_startup=1), Hyperband()]


def stopped_after(kind: EarlyStopping, num_evaluations: int, levels: list[float]) -> list[int]:
    """Runs one trial a level, one after another, each constant at its level (larger is better);
    returns the evaluation after which each was stopped, or 0."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = kind.build(num_evaluations) or optuna.pruners.NopPruner()
    study = optuna.create_study(direction="maximize", pruner=pruner)
    ends = []
    for level in levels:
        trial, end = study.ask(), 0
        for evaluation in range(1, num_evaluations):
            trial.report(level, evaluation)
            if trial.should_prune():
                end = evaluation
                break
        if end:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, level)
        ends.append(end)
    return ends


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
@pytest.mark.parametrize("num_evaluations", [1, 2, 5, 10, 40])
@pytest.mark.parametrize("grace", [0.25, 0.3, 0.5, 1.0])
def test_nothing_is_stopped_within_the_grace_or_off_the_rungs(
    kind: Any, num_evaluations: int, grace: float
) -> None:
    kind = kind.model_copy(update={"grace": grace})
    rungs = kind.rungs(num_evaluations)
    assert all(rung >= grace * num_evaluations - 1e-9 for rung in rungs)
    assert all(1 <= rung < num_evaluations for rung in rungs)
    falling = [float(-index) for index in range(12)]
    ends = stopped_after(kind, num_evaluations, falling)
    assert set(ends) - {0} <= set(rungs)
    assert ends[0] == 0


def test_rungs_by_hand() -> None:
    assert SuccessiveHalving(grace=0.3).rungs(10) == [3, 6]
    assert SuccessiveHalving(grace=0.25, reduction_factor=3).rungs(40) == [10, 30]
    assert SuccessiveHalving().rungs(5) == [2, 4]
    assert Median(grace=0.3).rungs(5) == [2, 3, 4]
    assert Hyperband(grace=0.25).rungs(16) == [4, 8]
    assert NoEarlyStopping().rungs(10) == []


def test_successive_halving_by_hand() -> None:
    # Rungs 3 and 6. The first goes on; 4 is not the best of two; 6 is the best of three. The second
    # 5 is among the best two of four at 3, but not the best of three at 6. 5.5 is second of five
    # and four.
    assert stopped_after(SuccessiveHalving(grace=0.3), 10, [5, 4, 6, 5, 5.5]) == [0, 3, 0, 6, 0]


def test_median_by_hand() -> None:
    kind = Median(grace=0.5, num_startup=3)
    assert stopped_after(kind, 4, [1, 2, 3, 0, 1.9, 2.5]) == [0, 0, 0, 2, 2, 0]


def test_none_builds_nobody() -> None:
    assert NoEarlyStopping().build(5) is None
    assert stopped_after(NoEarlyStopping(), 5, [3, 2, 1]) == [0, 0, 0]


def test_brackets_share_the_trials_and_compare_only_within() -> None:
    pruner = BracketPruner(2, 16, reduction_factor=2)
    brackets = [pruner.bracket_of(number) for number in range(400)]
    # Rungs from 2, 4, 8 or 16 evaluations on: four brackets, the earlier ones with more trials.
    counts = [brackets.count(bracket) for bracket in range(4)]
    assert sum(counts) == 400
    assert counts == sorted(counts, reverse=True)
    assert min(counts) > 0
    assert pruner.bracket_of(17) == BracketPruner(2, 16, reduction_factor=2).bracket_of(17)

    ends = stopped_after(Hyperband(grace=0.25), 8, [float(-index) for index in range(40)])
    hyperband = Hyperband(grace=0.25).build(8)
    firsts: dict[int, int] = {}
    for number, end in enumerate(ends):
        bracket = hyperband.bracket_of(number)
        # Falling levels: the first of a bracket goes on, each later one ends at its first rung.
        expected = 0 if bracket not in firsts else {0: 2, 1: 4, 2: 0}[bracket]
        firsts.setdefault(bracket, number)
        assert end == expected, (number, bracket)
    assert set(firsts) == {0, 1, 2}


def test_options_are_strict() -> None:
    adapter: TypeAdapter[EarlyStopping] = TypeAdapter(EarlyStopping)
    assert adapter.validate_python({"kind": "none"}) == NoEarlyStopping()
    assert adapter.validate_python({"kind": "successive_halving", "grace": 0.5}) == (
        SuccessiveHalving(grace=0.5)
    )
    with pytest.raises(ValidationError, match=r"greater than or equal to 0\.25"):
        adapter.validate_python({"kind": "median", "grace": 0.2})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        adapter.validate_python({"kind": "none", "grace": 0.5})
    with pytest.raises(ValidationError, match="'none', 'successive_halving', 'median'"):
        adapter.validate_python({"kind": "asha"})
