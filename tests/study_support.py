"""Spaces and small drivers that the tests of the sweep's study share."""

import math
from typing import Any

from search_spaces.samplers import Random, Sampler
from search_spaces.space import SearchSpace
from service.search.ask import ask
from service.search.early_stopping import EarlyStopping, NoEarlyStopping
from service.search.study import StudyStore
from service.search.study_trials import Asked, Search
from service.search.tell import report_value, tell
from service.states import TrialState

CONDITIONAL = SearchSpace.parse(
    {
        "policy": {"choice": ["fixed", "cist"]},
        "tau": {"float": [0.5, 8], "log": True, "when": {"policy": "fixed"}},
        "rho": {"float": [0.5, 2], "when": {"policy": "cist"}},
        "learning_rate": {"float": [1e-4, 1e-2], "log": True},
    }
)
PLAIN = SearchSpace.parse({"tau": {"float": [0.5, 8], "log": True}, "beta": {"float": [0, 1]}})
LISTED = SearchSpace.parse({"n": {"int": [1, 100]}})
NONE = NoEarlyStopping()


def search(
    space: SearchSpace = CONDITIONAL,
    sampler: Sampler | None = None,
    early_stopping: EarlyStopping = NONE,
    **rest: Any,
) -> Search:
    return Search(space, sampler or Random(), early_stopping, **{"num_evaluations": 4} | rest)


def take(store: StudyStore) -> Asked:
    asked = ask(store)
    assert asked is not None
    return asked


def goodness(values: dict[str, Any]) -> float:
    return -abs(float(values.get("tau", 4)) - 2) - abs(math.log10(values.get("learning_rate", 1)))


def run(store: StudyStore, trials: int, *, objectives: int = 1) -> list[dict[str, Any]]:
    points = []
    for _ in range(trials):
        asked = take(store)
        points.append(asked.values)
        tell(store, asked.number, TrialState.COMPLETED, [goodness(asked.values)] * objectives)
    return points


def drive(store: StudyStore, asked: Asked) -> None:
    level = float(asked.values["n"])
    for evaluation in (1, 2, 3, 4):
        if report_value(store, asked.number, evaluation=evaluation, value=level):
            tell(store, asked.number, TrialState.STOPPED_EARLY)
            return
    tell(store, asked.number, TrialState.COMPLETED, level)
