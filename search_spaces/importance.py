"""Which hyperparameters decided whether a point was among the best of those that were tried.

It is Optuna's PED-ANOVA (Watanabe and others 2023, IJCAI; with conditions, 2026, KDD): how far the
values of the best points lie from those of all points, as shares that sum to 1. It looks at what
was tried and at nothing else. So where a sampler chose, a hyperparameter that it narrowed down
early seems to matter less than it does, and one that it never moved does not matter at all.
"""

import warnings
from collections.abc import Mapping, Sequence

from search_spaces.numbers import Scalar
from search_spaces.space import SearchSpace

MIN_POINTS = 20
# The best tenth, but never fewer points than the method's authors ask for.
BEST_SHARE, MIN_BEST = 0.1, 5


def importances(
    space: SearchSpace, points: Sequence[Mapping[str, Scalar]], scores: Sequence[float]
) -> dict[str, float]:
    """Returns the share of each name that varied, the largest first; empty where fewer than twenty
    of `points` are of this space, where their scores do not differ or none varied. scores: of each
    point a finite one, more is better."""
    found = [
        (snapped, score)
        for point, score in zip(points, scores, strict=True)
        if (snapped := space.snap(point)) is not None
    ]
    if len(found) < MIN_POINTS or len({score for _, score in found}) < 2:
        return {}
    shares = _evaluate(space, found)
    return dict(sorted(shares.items(), key=lambda one: (-one[1], one[0])))


def _evaluate(
    space: SearchSpace, found: Sequence[tuple[Mapping[str, Scalar], float]]
) -> dict[str, float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(point), distributions=space.distributions(point), value=score
            )
            for point, score in found
        ]
    )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(
        target_quantile=max(BEST_SHARE, MIN_BEST / len(found))
    )
    with warnings.catch_warnings():
        # Of branches that few points are in: they count for as little.
        warnings.simplefilter("ignore")
        raw = optuna.importance.get_param_importances(
            study, evaluator=evaluator, params=_varied(found), normalize=False
        )
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()} if total > 0 else {}


def _varied(found: Sequence[tuple[Mapping[str, Scalar], float]]) -> list[str]:
    """Returns the names that have more than one value, or are in use in a part of the points."""
    names = dict.fromkeys(name for point, _ in found for name in point)
    return [name for name in names if len({point.get(name) for point, _ in found}) > 1]
