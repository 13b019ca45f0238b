"""The report's page: which sections it has, in which order."""

from collections.abc import Callable
from datetime import UTC, datetime

from service.report.answer import answer
from service.report.cost import cost
from service.report.curves import curves
from service.report.diagnostics import diagnostics
from service.report.entropy import entropy
from service.report.examples import examples
from service.report.failures import failures
from service.report.objectives import objectives
from service.report.on_test_sets import test_sets
from service.report.page import Page, Section
from service.report.references import comparison
from service.report.setting import setting
from service.report.source import Source
from service.report.space import space
from service.report.temperature import temperature
from service.words import duration

# Top down, as a paper is read. None: there is nothing of the kind in this sweep.
SECTIONS: tuple[Callable[[Source], Section | None], ...] = (
    setting,
    comparison,
    temperature,
    objectives,
    examples,
    test_sets,
    entropy,
    diagnostics,
    space,
    curves,
    cost,
    failures,
)


def make_page(source: Source) -> Page:
    """Returns the report of a sweep."""
    made = [section(source) for section in SECTIONS]
    return Page(
        source.sweep_id,
        f"Report on {source.sweep.name or source.sweep_id}",
        _subtitle(source),
        answer(source),
        tuple(section for section in made if section is not None),
        footer=f"Made by: kd-sweep report {source.sweep_id}",
    )


def _subtitle(source: Source) -> str:
    sweep = source.sweep
    objectives = ", ".join(
        f"{direction} {metric}" for metric, direction in source.evidence.objectives
    )
    began = datetime.fromtimestamp(sweep.started_at, UTC)
    parts = [
        sweep.sweep_id,
        str(sweep.state).replace("_", " "),
        f"{len(source.records)} of {sweep.num_trials} trials"
        if len(source.records) < sweep.num_trials
        else f"{len(source.records)} trial{'s' * (len(source.records) != 1)}",
        objectives,
        f"{began:%d %B %Y}",
    ]
    took = [] if sweep.duration_s is None else [duration(sweep.duration_s)]
    return " · ".join([*parts, *took])
