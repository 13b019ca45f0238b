"""What the trials of a sweep share, and what was varied."""

import json
from typing import Any

from search_spaces.numbers import is_number
from service.record.records import RunRecord
from service.report.page import Cell, Row, Section, Table
from service.report.source import Source
from service.results.standings import SEED
from service.words import number

# What a reader asks for first; the rest can be opened.
FIRST = (
    "epochs",
    "steps",
    "batch_size",
    "learning_rate",
    "optimizer",
    "schedule",
    "divergence",
    "policy",
    "scaling",
    "hard_weight",
    "soft_weight",
    "precision",
    "seed",
)
FEW_VALUES, MOST_SHOWN = 6, 12


def setting(source: Source) -> Section:
    """Returns what was held fixed, with the ranges of what was not."""
    searched = [one for one in source.records if one.is_searched] or list(source.records)
    shared = _shared(searched)
    first = {name: shared[name] for name in FIRST if name in shared}
    rest = {name: value for name, value in shared.items() if name not in first}
    command = f"kd-sweep trials {source.sweep_id} --json"
    fixed = dict(source.setting) | {name: _text(value) for name, value in first.items()}
    more = {name: _text(value) for name, value in rest.items()} | _surroundings(source)
    tables = (
        _table("fixed", "Held fixed", fixed, command),
        _table("varied", "Varied", _varied(source, searched), command),
        _table("fixed-more", "Everything else that was held fixed", more, command, folded=True),
    )
    return Section(
        "setting",
        "What was held fixed",
        (*_design(source), _sentence(source, searched)),
        tables=tuple(table for table in tables if table.rows),
    )


def _design(source: Source) -> tuple[str, ...]:
    """Returns what kind of sweep it is, where it is a controlled study."""
    study, confirms = source.sweep.study, source.sweep.confirms
    if study is None:
        return ()
    found = [f"A controlled study: {study['cells']} cells on {study['seeds']} seeds."]
    if confirms is not None:
        found.append(f"It trains the best configs of {confirms} again, on seeds that it never saw.")
    seeds = sorted({one.seed for one in source.evidence.tuning})
    if seeds:
        found.append(
            f"Each cell has a learning rate of its own, chosen on seed {seeds[0]}, which is not "
            "compared."
        )
    return (" ".join(found),)


def _sentence(source: Source, searched: list[RunRecord]) -> str:
    seeds = sorted({one.seed for one in searched})
    if not searched:
        return "No trial is recorded yet."
    same = "Trials of one seed share the student’s start, the order of the data and the budget"
    if len(seeds) == 1:
        return f"{same}. All trials have the seed {seeds[0]}, so nothing here shows luck."
    shown = ", ".join(map(str, seeds[:MOST_SHOWN])) + (" …" if len(seeds) > MOST_SHOWN else "")
    return f"{same}. There are {len(seeds)} seeds: {shown}."


def _shared(records: list[RunRecord]) -> dict[str, Any]:
    """Returns the fields that have one value in all of the trials."""
    if not records:
        return {}
    first, *others = [one.config for one in records]
    missing = object()
    return {
        name: value
        for name, value in first.items()
        if all(config.get(name, missing) == value for config in others)
    }


def _varied(source: Source, records: list[RunRecord]) -> dict[str, str]:
    """Returns what was searched, and what else differs between trials."""
    domains = source.evidence.domains
    found = {name: domain.text() for name, domain in domains.items()}
    names = dict.fromkeys(name for one in records for name in one.hyperparameters)
    for name in names:
        if name not in found and name != SEED:
            found[name] = _values_text([one.config[name] for one in records if name in one.config])
    return found


def _values_text(values: list[Any]) -> str:
    """Returns the values that were tried; of many numbers, their ends."""
    known = sorted({json.dumps(value): value for value in values}.values(), key=_order)
    numbers = [value for value in known if is_number(value)]
    if len(known) > FEW_VALUES and len(numbers) == len(known):
        return f"{number(known[0])} to {number(known[-1])}, {len(known)} values"
    shown = ", ".join(map(_text, known[:MOST_SHOWN]))
    return shown + (" …" if len(known) > MOST_SHOWN else "")


def _order(value: Any) -> tuple[bool, float, str]:
    return (False, float(value), "") if is_number(value) else (True, 0.0, str(value))


def _surroundings(source: Source) -> dict[str, str]:
    """Returns what the trials ran on and were made from."""
    found: dict[str, str] = {}
    for record in source.records[:1]:
        tags = record.tags
        for name in ("code_version", "device", "world_size", "teacher_source"):
            if name in tags:
                found[name] = tags[name]
        found |= {
            name.replace("fingerprint.", "fingerprint of the "): text[:12]
            for name, text in tags.items()
            if name.startswith("fingerprint.")
        }
    return found


def _table(
    name: str, title: str, facts: dict[str, str], command: str, *, folded: bool = False
) -> Table:
    rows = tuple(Row((Cell(key), Cell(text, text))) for key, text in facts.items())
    return Table(name, title, ("", ""), rows, command=command, is_folded=folded)


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value)
    return ("yes" if value else "no") if isinstance(value, bool) else number(value)
