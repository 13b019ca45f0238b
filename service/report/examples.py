"""On which validation examples the best config gains and loses most against its control."""

from collections.abc import Mapping

from service.report.numbers import columns_of, number_cell
from service.report.objectives import GAIN
from service.report.page import Cell, Row, Section, Table
from service.report.source import ExampleScores, Source
from service.words import shortened

SHOWN = 5  # examples at each end
LONGEST = 90  # characters of an example
LUCK = (
    "The largest of so many differences are partly luck: what other seeds and other examples would "
    "show is the interval of kd-sweep compare --significance --examples."
)


def gains(source: Source, scores: ExampleScores) -> dict[int, float]:
    """Returns by how much the winner is better than the control on each example, the largest gain
    first; of equals the lower id."""
    found = {one: source.sign * (best - control) for one, (control, best) in scores.pairs.items()}
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def ends_of(gained: Mapping[int, float]) -> tuple[list[int], list[int]]:
    """Returns the examples with the largest gains and those with the largest losses, each the
    largest first."""
    ups = [one for one, gain in gained.items() if gain > 0]
    downs = [one for one, gain in gained.items() if gain < 0]
    return ups[:SHOWN], downs[::-1][:SHOWN]


def examples(source: Source) -> Section | None:
    """Returns the section, or None where no winner is compared with a control by examples."""
    scores, winner, control = source.examples, source.winner, source.control
    if scores is None or winner is None or control is None:
        return None
    begun = f"{winner.name} beside {control.name}, by the {source.metric} of single examples"
    if not scores.pairs:
        text = f"{begun}: not known, since their trials keep none of the same examples and seeds."
        return _section(text)
    gained = gains(source, scores)
    ups = sum(gain > 0 for gain in gained.values())
    downs = sum(gain < 0 for gain in gained.values())
    seeds = len(winner.seeds & control.seeds)
    over = f", means over {seeds} seeds" if seeds > 1 else ", of one seed"
    text = (
        f"{begun}{over}: of {len(gained):,} examples of the validation split {ups:,} gain, "
        f"{downs:,} lose and {len(gained) - ups - downs:,} are equal."
    )
    told = (text, LUCK) if ups or downs else (text,)
    return _section(*told, tables=_tables(source, scores, gained))


def _section(*text: str, tables: tuple[Table, ...] = ()) -> Section:
    return Section("examples", "Example by example", text, tables=tables)


def _tables(
    source: Source, scores: ExampleScores, gained: Mapping[int, float]
) -> tuple[Table, ...]:
    titles = (("example-gains", "Where it gains most"), ("example-losses", "Where it loses most"))
    return tuple(
        Table(
            name,
            title,
            ("example", "control", "best", GAIN),
            _rows(scores, {one: gained[one] for one in chosen}),
            command=f"kd-sweep report {source.sweep_id} --json",
        )
        for (name, title), chosen in zip(titles, ends_of(gained), strict=True)
        if chosen
    )


def _rows(scores: ExampleScores, gained: Mapping[int, float]) -> tuple[Row, ...]:
    numbers = [(*scores.pairs[one], gain) for one, gain in gained.items()]
    places = columns_of(numbers)
    return tuple(
        Row(
            (
                _title(one, scores),
                number_cell(control, places[0]),
                number_cell(best, places[1]),
                number_cell(gain, places[2], signed=True),
            )
        )
        for one, (control, best, gain) in zip(gained, numbers, strict=True)
    )


def _title(example: int, scores: ExampleScores) -> Cell:
    """Its text cut short; its number where the data is not at hand."""
    text = scores.texts.get(example, f"example {example}")
    return Cell(shortened(text, LONGEST), text)
