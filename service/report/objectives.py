"""The tables of what was tried: the best of each divergence and policy, and all configs, each with
its difference to the control."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.plan.trials import HARD_LOSS
from service.report.numbers import (
    decimals,
    interval_text,
    mean_cell,
    number_cell,
)
from service.report.page import GAP, Cell, Role, Row, Section, Table
from service.report.series import is_hard_only, series_of
from service.report.source import Source
from service.results.standings import Standing, trials_text
from service.statistics.family import Difference, Family
from service.statistics.paired import PairedTest
from service.words import probability

MOST_ROWS = 25  # of configs, beside the controls
PAIRED = (
    "Differences are paired by seed (Student’s paired t). Gain: how much better than the control."
)
GAIN = "gain"


@dataclass(frozen=True)
class Line:
    """A config beside the control. gain: how much better it is, whatever the direction, over the
    seeds that both have, or by the means of all where they share fewer than two; difference: what
    seeds say of it; both None for the control itself."""

    standing: Standing
    gain: float | None = None
    difference: Difference | None = None

    @property
    def test(self) -> PairedTest | None:
        """The test over shared seeds, None with fewer than two."""
        test = None if self.difference is None else self.difference.test
        return test if test is not None and test.p_value is not None else None


Column = tuple[str, Callable[[Line], Cell]]  # its heading, and what it says of a config


def objectives(source: Source) -> Section:
    """Returns the section with both tables."""
    lines = compared(source)
    shown = _shown(source, lines)
    first = _first_of_each(lines)
    tables = [_table(source, "configs", _title(lines, shown), shown)]
    if 1 < len(first) < len(lines):
        tables.insert(0, _table(source, "divergences", "The best of each", first, group=True))
    ranks = _ranks(source)
    tables += [ranks] if ranks is not None else []
    text = _text(source, lines)
    return Section(
        "objectives",
        "All objectives beside the control",
        text,
        tables=tuple(tables) if lines else (),
    )


def compared(source: Source) -> list[Line]:
    """Returns each config, the best first, beside the control."""
    family = family_of(source)
    if family is None or source.control is None:
        return [Line(one) for one in source.ranked]
    by_name = {one.name: one for one in family.differences}
    control = source.control
    return [_line(one, control, by_name.get(one.name), sign=source.sign) for one in source.ranked]


def _line(one: Standing, control: Standing, difference: Difference | None, *, sign: int) -> Line:
    if difference is None:
        return Line(one)
    line = Line(one, sign * (one.mean - control.mean), difference)
    # The interval beside it is of shared seeds, and so has to be the number.
    return line if line.test is None else replace(line, gain=sign * line.test.mean_difference)


def family_of(source: Source) -> Family | None:
    """Returns all configs against the control; None without one, and before two completed."""
    found = source.significance
    return None if source.control is None or found is None else found.family


def _shown(source: Source, lines: Sequence[Line]) -> list[Line]:
    controls = [one for one in lines[MOST_ROWS:] if one.standing.is_control]
    return [*lines[:MOST_ROWS], *controls]


def _first_of_each(lines: Sequence[Line]) -> list[Line]:
    found: dict[str, Line] = {}
    for line in lines:
        found.setdefault(group_name(line.standing), line)
    return list(found.values())


def group_name(standing: Standing) -> str:
    """Returns the divergence and policy of a config."""
    record = standing.typical
    if is_hard_only(record):
        return HARD_LOSS
    is_cist = record.config.get("policy") == "cist"
    return f"{series_of(record)}{', CIST' if is_cist else ''}"


def _title(lines: Sequence[Line], shown: Sequence[Line]) -> str:
    if len(shown) == len(lines):
        return "All configs"
    return f"The {MOST_ROWS} best of {len(lines)} configs, and the controls"


def _table(
    source: Source, name: str, title: str, lines: Sequence[Line], *, group: bool = False
) -> Table:
    columns = [*_columns(source, lines), *_others(source, lines)]
    if group:
        columns.insert(0, ("divergence", lambda line: Cell(group_name(line.standing))))
    rows = [
        Row(tuple(cell(line) for _, cell in columns), _role(line.standing, source))
        for line in lines
    ]
    per = "--per divergence" if group else f"--top {max(10, len(lines))}"
    command = f"kd-sweep best --sweep {source.sweep_id} {per}"
    if any(one.test is not None for one in lines):
        command = f"kd-sweep compare {source.sweep_id} --significance"
    return Table(
        name,
        title,
        tuple(heading for heading, _ in columns),
        tuple(rows),
        command=command,
    )


def _columns(source: Source, lines: Sequence[Line]) -> list[Column]:
    """Returns the columns about the objective."""
    places = decimals([one.standing.mean for one in lines])
    found: list[Column] = [("config", lambda line: Cell(line.standing.name))]
    if any(len(one.standing.trials) > 1 for one in lines):
        found.append(("seeds", lambda line: _count(line.standing)))
    else:
        found.append(("trial", lambda line: Cell(str(line.standing.trials[0].trial))))
    found.append((source.metric, lambda line: _mean(line.standing, places)))
    # A difference is told from its neighbours by one digit more than a mean.
    if source.control is not None:
        found.append((GAIN, lambda line: number_cell(line.gain, places + 1, signed=True)))
    if any(one.test is not None for one in lines):
        found.append(("95 % interval", lambda line: _interval(line, source, places + 1)))
        found.append(("p, corrected", _corrected))
        found.append(("effect size", _effect))
        found.append(("seeds to see it", _seeds_needed))
    return found


def _others(source: Source, lines: Sequence[Line]) -> list[Column]:
    """Returns the columns of other metrics."""

    def column(metric: str) -> Column:
        places = decimals(one.standing.average(metric) for one in lines)
        return metric, lambda line: number_cell(line.standing.average(metric), places)

    return [column(metric) for metric in _beside(source)]


def _beside(source: Source) -> list[str]:
    """Returns the other metrics that stand beside a ranking, as far as they were measured."""
    known = source.evidence.metrics.items()
    names = [name for name, _ in source.evidence.objectives[1:]]
    names += [name for name, one in known if one.beside_rankings and name != source.metric]
    return [
        name
        for name in dict.fromkeys(names)
        if any(one.average(name) is not None for one in source.ranked)
    ]


def _count(standing: Standing) -> Cell:
    return Cell(str(len(standing.trials)), len(standing.trials))


def _mean(standing: Standing, places: int) -> Cell:
    half = None if standing.high is None else standing.high - standing.mean
    return mean_cell(standing.mean, half, places)


def _interval(line: Line, source: Source, places: int) -> Cell:
    test = line.test
    if test is None or test.low is None or test.high is None:
        return Cell(GAP)
    low, high = sorted((source.sign * test.low, source.sign * test.high))
    return Cell(interval_text(low, high, places).replace(" ", "\N{NO-BREAK SPACE}"))


def _corrected(line: Line) -> Cell:
    adjusted = None if line.difference is None else line.difference.adjusted
    return Cell(GAP) if adjusted is None else Cell(probability(adjusted), adjusted)


def _effect(line: Line) -> Cell:
    effect = None if line.test is None else line.test.effect_size
    return number_cell(None if effect is None else abs(effect), 1)


def _seeds_needed(line: Line) -> Cell:
    needed = None if line.difference is None else line.difference.seeds_needed
    return Cell(GAP) if needed is None else Cell(str(needed), needed)


def _role(standing: Standing, source: Source) -> Role:
    if source.winner is not None and standing.name == source.winner.name:
        return "best"
    return "control" if standing.is_control and not standing.is_searched else ""


def _text(source: Source, lines: Sequence[Line]) -> tuple[str, ...]:
    if not lines:
        return ("No trial has completed yet.",)
    control = source.control
    if control is None:
        return ("There is no control to compare with.",)
    trials = trials_text([one.trial for one in control.trials])
    sentences = [f"The control is {control.name} ({trials}), the best of its kind."]
    family = family_of(source)
    if family is None or not family.num_tested:
        sentences.append(
            "Configs share fewer than two seeds with it: differences have no interval here, as one "
            "seed does not tell them from luck."
        )
        return (" ".join(sentences),)
    sentences.append(PAIRED)
    notes = (f"{note}." for note in family.notes)
    return (" ".join(sentences), *notes)


def _ranks(source: Source) -> Table | None:
    """Returns how configs rank over seeds; None unless three share two seeds."""
    found = None if source.significance is None else source.significance.ranking
    if found is None:
        return None
    rows = tuple(Row((Cell(name), number_cell(rank, 2))) for name, rank in found.mean_ranks.items())
    return Table(
        "ranks",
        "Ranks over seeds",
        ("config", "mean rank"),
        rows,
        note=f"Mean ranks over {len(found.seeds)} seeds that differ by less than "
        f"{found.critical_difference:.2f} are not told apart (Nemenyi); that all rank alike has "
        f"p {probability(found.p_value)} (Friedman).",
        command=f"kd-sweep compare {source.sweep_id} --significance",
        is_folded=True,
    )
