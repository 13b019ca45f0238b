"""What a sweep found, in sentences: what won, by how much, and how sure that is. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.record.records import RunRecord
from service.results.compare import by_config, pair_by_seed
from service.states import FINISHED
from service.words import describe

MAXIMIZE = "maximize"


@dataclass(frozen=True)
class Contest:
    """The best searched trial against the best control under one metric; either may be missing.

    gain: how much better the winner is, positive whatever the direction; None without a control.
    """

    metric: str
    direction: str
    winner: RunRecord | None
    control: RunRecord | None
    gain: float | None


def best_record(records: Sequence[RunRecord], metric: str, direction: str) -> RunRecord | None:
    """Returns the finished trial with the best finite value, the first of equals, or None."""
    sign = 1 if direction == MAXIMIZE else -1
    valued = [
        (sign * value, -record.trial, record)
        for record in records
        if record.state in FINISHED and (value := record.metric(metric)) is not None
    ]
    return max(valued, key=lambda row: row[:2])[2] if valued else None


def winners(records: Sequence[RunRecord], directions: Mapping[str, str]) -> dict[str, RunRecord]:
    """Returns the best trial under each metric that some finished trial has."""
    found = {name: best_record(records, name, way) for name, way in directions.items()}
    return {name: record for name, record in found.items() if record is not None}


def contest(records: Sequence[RunRecord], metric: str, direction: str) -> Contest:
    """Returns the best searched trial against the best control."""
    winner = best_record([one for one in records if one.label is None], metric, direction)
    control = best_record([one for one in records if one.label is not None], metric, direction)
    gain = None
    if winner is not None and control is not None:
        sign = 1 if direction == MAXIMIZE else -1
        gain = sign * ((winner.metric(metric) or 0.0) - (control.metric(metric) or 0.0))
    return Contest(metric, direction, winner, control, gain)


def conclusions(
    records: Sequence[RunRecord], metric: str, direction: str, others: Mapping[str, str]
) -> list[str]:
    """Returns the lines that end a sweep: what won and by how much, how sure that is, and whether
    another metric names another winner. others: metric → direction."""
    found = contest(records, metric, direction)
    if found.winner is None:
        return [f"no searched trial finished with a finite {metric}"]
    lines = [_what_won(found), _how_sure(found, records)]
    lines += _objections(found.winner, records, {k: v for k, v in others.items() if k != metric})
    return [line for line in lines if line]


def _what_won(found: Contest) -> str:
    winner, control, metric = found.winner, found.control, found.metric
    assert winner is not None
    value = winner.metric(metric)
    text = f"{_name(winner)} won: {metric} {value:.4g}"
    if control is None or found.gain is None:
        return f"{text}; there is no control to compare it with"
    before = control.metric(metric) or 0.0
    share = f" ({abs(found.gain / before):.1%})" if before else ""
    if found.gain > 0:
        return f"{text}, {found.gain:.4g}{share} better than the best control, {_name(control)}"
    if found.gain == 0:
        return f"{text}, as good as the best control, {_name(control)}"
    return (
        f"no searched trial beat the best control, {_name(control)} ({metric} {before:.4g}); "
        f"the nearest is {_name(winner)} with {value:.4g}"
    )


def _how_sure(found: Contest, records: Sequence[RunRecord]) -> str:
    if found.winner is None or found.control is None:
        return ""
    cells = by_config(records)
    mine, theirs = (
        next(cell for cell in cells.values() if record in cell)
        for record in (found.winner, found.control)
    )
    test = pair_by_seed(theirs, mine, found.metric)
    if test is None or test.num_pairs < 2:
        return (
            "one seed each: the best of many trials is partly luck; "
            "train both again on the same fresh seeds before you rely on it"
        )
    return test.sentence()


def _objections(
    winner: RunRecord, records: Sequence[RunRecord], others: Mapping[str, str]
) -> list[str]:
    """Metrics favour different losses (cross-entropy and KL(teacher‖student) forward KL, sampled
    text the sharper student), so a winner under one metric alone has to be told from one under all.
    """
    rivals: dict[int, list[str]] = {}
    names = {record.trial: _name(record) for record in records}
    for metric, record in winners(records, others).items():
        if record.trial != winner.trial:
            rivals.setdefault(record.trial, []).append(metric)
    if not rivals:
        return ["it also wins under every other metric"] if others else []
    texts = [f"{names[trial]} under {', '.join(metrics)}" for trial, metrics in rivals.items()]
    return [f"other metrics name other winners: {'; '.join(texts)}"]


def _name(record: RunRecord) -> str:
    if record.label:
        return f"{record.label} (trial {record.trial})"
    return f"{describe(record.hyperparameters)} (trial {record.trial})"
