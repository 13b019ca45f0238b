"""What is read from a study's trials."""

import pytest

from service.search.study_trials import StudyTrial, best_trial
from service.states import TrialState
from trainers.trial.metrics import Direction


def trial(number: int, objective: float | None, state: TrialState) -> StudyTrial:
    objectives = () if objective is None else (objective,)
    return StudyTrial("s", number, 0, state, {}, objectives=objectives)


@pytest.mark.parametrize(("direction", "number"), [("maximize", 1), ("minimize", 3)])
def test_the_best_is_completed_and_the_first_of_equals(direction: Direction, number: int) -> None:
    trials = [
        trial(4, 0.9, TrialState.COMPLETED),
        trial(0, 5.0, TrialState.STOPPED_EARLY),
        trial(1, 0.9, TrialState.COMPLETED),
        trial(2, None, TrialState.DIVERGED),
        trial(3, -0.5, TrialState.COMPLETED),
        trial(5, -9.0, TrialState.STOPPED_EARLY),
    ]
    best = best_trial(trials, direction)
    assert best is not None and best.number == number


def test_nothing_is_best_where_nothing_is_completed() -> None:
    assert best_trial([trial(0, 1.0, TrialState.STOPPED_EARLY)], "maximize") is None
