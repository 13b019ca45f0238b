"""What a sweep took, and what early stopping and the teacher cache saved of it."""

from statistics import fmean

from service.record.records import RunRecord
from service.report.page import Cell, Row, Section, Table
from service.report.source import Source
from service.states import TrialState
from service.words import count, duration

LEAST_SHARE = 0.005  # that is worth a sentence


def cost(source: Source) -> Section:
    """Returns the section."""
    timed = [one for one in source.trained if one.duration_s is not None]
    total = sum(one.duration_s or 0.0 for one in timed)
    rows = [_row("from start to end", source.sweep.duration_s)]
    rows.append(_row(f"{len(timed)} trials, one after another", total if timed else None))
    rows += [
        _row(f"{len(group)} {str(state).replace('_', ' ')}, on average", _mean_s(group))
        for state in TrialState
        if (group := [one for one in timed if one.state is state])
    ]
    saved = saved_by_stopping(source)
    if saved is not None:
        rows.append(_row("saved by early stopping, about", saved))
    by_cache = saved_by_cache(source)
    if by_cache is not None:
        rows.append(_row("saved by the teacher cache, about", by_cache))
    table = Table(
        "cost",
        "Time",
        ("", "took", "hours"),
        tuple(row for row in rows if row is not None),
        command=f"kd-sweep trials {source.sweep_id}",
    )
    return Section("cost", "Cost", _text(source, saved, total), tables=(table,))


def saved_by_stopping(source: Source) -> float | None:
    """Returns the seconds of trials that early stopping saved: what those that it ended took less
    than completed ones on average. None without both."""
    ended = [one for one in source.trained if one.state is TrialState.STOPPED_EARLY]
    whole = [one for one in source.trained if one.state is TrialState.COMPLETED]
    took = [one.duration_s for one in ended if one.duration_s is not None]
    usual = [one.duration_s for one in whole if one.duration_s is not None]
    if not took or not usual:
        return None
    return sum(max(0.0, fmean(usual) - one) for one in took)


def saved_by_cache(source: Source) -> float | None:
    """Returns about how many seconds of asking the teacher its cache saved; None where that is not
    known."""
    cache, times = source.cache, times_read(source)
    if cache is None or not cache.build_s or times is None:
        return None
    return max(0.0, cache.build_s * (times - 1))


def times_read(source: Source) -> float | None:
    """Returns about how many times trials read what the teacher was asked once: as the plan has it,
    less what trials did not train."""
    cache = source.cache
    timed = [one for one in source.trained if one.duration_s is not None]
    if cache is None or not cache.tokens_held or not cache.tokens_read or not timed:
        return None
    total = sum(one.duration_s or 0.0 for one in timed)
    trained = total / ((total + (saved_by_stopping(source) or 0.0)) or 1.0)
    begun = min(1.0, len(timed) / max(1, source.sweep.num_trials))
    return cache.tokens_read / cache.tokens_held * trained * begun


def _mean_s(records: list[RunRecord]) -> float:
    return fmean(one.duration_s or 0.0 for one in records)


def _row(name: str, seconds: float | None) -> Row | None:
    if seconds is None:
        return None
    hours = seconds / 3600
    return Row((Cell(name), Cell(duration(seconds), seconds), Cell(f"{hours:.3f}", hours)))


def _text(source: Source, saved: float | None, total: float) -> tuple[str, ...]:
    found = []
    share = 0.0 if saved is None else saved / ((saved + total) or 1.0)
    if share >= LEAST_SHARE:
        found.append(f"Early stopping saved about {share:.0%} of the time that trials would take.")
    times = times_read(source)
    if times is not None and source.cache is not None:
        found.append(
            f"The teacher was asked once about {count(source.cache.tokens_held or 0)} "
            f"{source.cache.named}; its answers were read from the cache about {times:.0f} times."
        )
    return (" ".join(found),) if found else ()
