"""The two names of a metric: the plain one, which is ours, and the one in MLflow, whose pages show
metrics in groups by what stands before a slash. Earlier versions recorded plain names, so a store
may hold either, and a run that went on under this version holds both. Pure.
"""

from collections.abc import Mapping
from functools import lru_cache

from service.record import tags
from trainers.trial.metrics import TRAINING_METRICS

TRAIN, EVAL = "train/", "eval/"
UNGROUPED = {tags.OBJECTIVE}


def logged_name(name: str) -> str:
    """Returns the name in MLflow of a metric of ours: `loss` is `train/loss`, `rouge_l` is
    `eval/rouge_l`; one that has a group, or none (`objective`), is itself."""
    if "/" in name or name in UNGROUPED:
        return name
    return (TRAIN if name in TRAINING_METRICS else EVAL) + name


@lru_cache(maxsize=1000)  # of each of ten thousand runs
def plain_name(name: str) -> str:
    """Returns our name of a metric that is in MLflow, or that a user names in either form."""
    return name.removeprefix(TRAIN).removeprefix(EVAL)


def names_in_store(name: str) -> tuple[str, ...]:
    """Returns the names that a store may have a metric of ours under, that of this version first:
    where a run has both, it holds the newer values."""
    return tuple(dict.fromkeys((logged_name(name), plain_name(name))))


def plain_metrics(logged: Mapping[str, float]) -> dict[str, float]:
    """Returns a run's metrics by their plain names."""
    older = {name: value for name, value in logged.items() if name == plain_name(name)}
    newer = {plain_name(name): value for name, value in logged.items() if name not in older}
    return older | newer
