"""A question for the best trials in a command line's words, and whether it is one. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from service.errors import SpecError
from service.record import tags
from service.record.conditions import check_group, conditions
from service.record.metric_names import plain_name
from service.record.records import RunRecord
from service.words import EVERY_SWEEP, LATEST
from trainers.nearest import nearest
from trainers.tasks import table
from trainers.trial.metrics import MAXIMIZE, MINIMIZE, TRAINING_METRICS

NEITHER = ""  # the direction of a metric that says nothing of which trial is better


@dataclass(frozen=True)
class Question:
    """Which best trials are asked for. sweep: one, `all`, or the ids of several; metric: None is
    each sweep's objective; where: see `conditions`; per: a field of trials; top: how many rows, of
    each group where they come in groups; None for ten, three of each sweep, one of each value of
    `per`; registered: run id → what its student is registered as, to look at these runs alone;
    direction: of `metric`, None for its own."""

    sweep: str | tuple[str, ...] = LATEST
    metric: str | None = None
    where: Sequence[str] = ()
    per: str | None = None
    top: int | None = None
    registered: Mapping[str, tuple[str, ...]] | None = None
    direction: str | None = None

    def direction_in(self, known: Mapping[str, str]) -> str:
        """Returns the direction of its metric, by default that in `known`; `NEITHER` where that has
        none."""
        return self.direction or known.get(self.metric or "", NEITHER)

    @property
    def is_of_one(self) -> bool:
        """Whether one sweep is asked about."""
        return isinstance(self.sweep, str) and self.sweep != EVERY_SWEEP

    def to_params(self) -> dict[str, str | int | list[str] | None]:
        """Returns what the API is asked of a sweep, or of all."""
        where = list(self.where)
        told = {"metric": self.metric, "direction": self.direction, "per": self.per}
        return {**told, "where": where, "top": self.top}


def asked(
    sweep: str | tuple[str, ...],
    *,
    metric: str | tuple[str | None, str] | None = None,
    where: Sequence[str] = (),
    per: str | None = None,
    top: int | None = None,
) -> Question:
    """Returns the question, checked. metric: to rank by, alone or with its direction."""
    name, direction = (metric, None) if metric is None or isinstance(metric, str) else metric
    return check(Question(sweep, name, where, per, top, direction=direction))


def check(question: Question) -> Question:
    """Returns the question. Raises `SpecError` for a field or a condition that is none, and for a
    metric that is nearly one of ours; reads nothing."""
    check_group(question.per)
    conditions(question.where)
    _check_direction(question)
    metric, known = question.metric, _known_metrics()
    if metric is not None and metric.startswith(tags.TEST):
        raise SpecError(
            f"--metric: must be one of the validation split, but got '{metric}': test sets report, "
            "and never select. kd-sweep compare shows what they reported."
        )
    # One with its group, as MLflow has it, is meant as it is written.
    if metric is None or "/" in metric or metric in known or not nearest(metric, known):
        return question
    raise SpecError(
        f"--metric: must be one of {', '.join(known)}, or another one that trials have logged, but "
        f"got '{metric}'.{nearest(metric, known)} One of your own that is called so is written as "
        f"eval/{metric}."
    )


def with_plain_metric(question: Question) -> Question:
    """Returns the question with our name of its metric."""
    metric = question.metric
    return question if metric is None else replace(question, metric=plain_name(metric))


def check_is_logged(metric: str | None, records: Iterable[Iterable[RunRecord]]) -> None:
    """Raises `SpecError` for a metric that is none of ours and that none of the trials of these
    sweeps has."""
    if metric is None or metric in _known_metrics():
        return
    named = {name for sweep in records for one in sweep for name in one.metrics}
    logged = sorted(name for name in named if not name.startswith(tags.TEST))
    if metric not in logged:
        raise SpecError(
            f"--metric: must be one that these trials have logged, {', '.join(logged) or 'none'}, "
            f"but got '{metric}'.{nearest(metric, logged)}"
        )


def _check_direction(question: Question) -> None:
    if question.direction is None:
        return
    if question.direction not in (MAXIMIZE, MINIMIZE):
        raise SpecError(
            f"--direction: must be {MAXIMIZE} or {MINIMIZE}, but got '{question.direction}'."
        )
    if question.metric is None:
        raise SpecError(
            "--direction: says which way --metric is better, but got no metric. Name one: each "
            "sweep's objective has its direction."
        )


def _known_metrics() -> list[str]:
    return [*table.known_metrics(), *TRAINING_METRICS, tags.OBJECTIVE]
