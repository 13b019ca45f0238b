"""The commands that ask the actions.record."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from service import actions
from service.cli import best_table, completing, significance_table, tables
from service.cli.app import (
    AsJson,
    Sweep,
    errors,
    place_of,
    show,
)
from service.words import EVERY_SWEEP, LATEST

# The options of `best`.
SweepOrAll = Annotated[
    str,
    typer.Option(
        "--sweep",
        metavar="SWEEP",
        help="Id, name, latest, or all.",
        autocompletion=completing.sweeps_or_all,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        help="Metric to rank by, any that trials log; default: each sweep's objective.",
        autocompletion=completing.metrics,
    ),
]
Direction = Annotated[
    str | None,
    typer.Option(
        metavar="maximize|minimize",
        help="Which way --metric is better; default: its own, else minimize.",
        autocompletion=completing.directions,
    ),
]
Conditions = Annotated[
    list[str],
    typer.Option(
        metavar="CONDITION",
        help="Keep such trials only: FIELD=VALUE, or with != < <= > >= ('tau<2'); repeatable.",
        autocompletion=completing.conditions,
    ),
]
Field = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="The best for each value of it, one row each.",
        autocompletion=completing.fields,
    ),
]
HowMany = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many; default: 10, of all sweeps 3 each, with --per 1 a value.",
    ),
]
TrialJson = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the best one's trial.json.")
]
Registered = Annotated[
    bool, typer.Option("--registered", help="Promoted students alone, of all sweeps.")
]


# The arguments of `compare`.
Compared = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN RUN…",
        help="Run ids, or SWEEP/NUMBER; with --significance also sweeps, one or more.",
        autocompletion=completing.trials,
    ),
]
Significance = Annotated[
    bool,
    typer.Option(
        "--significance", help="What repeated seeds say of each config against a control."
    ),
]
ComparedBy = Annotated[
    str | None,
    typer.Option(
        help="With --significance: the metric; default: the sweeps' objective.",
        autocompletion=completing.metrics,
    ),
]
Control = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="With --significance: a trial of the config that others are compared with.",
        autocompletion=completing.trials,
    ),
]
Examples = Annotated[
    bool,
    typer.Option(
        "--examples",
        help="With --significance: also by single examples; reads a file of each trial.",
    ),
]


def sweeps(context: typer.Context, as_json: AsJson = False) -> None:
    """List the recorded sweeps, the newest first.

    Example: kd-sweep sweeps --json
    """
    found = actions.record.list_sweeps(place_of(context))
    show([one.to_json() for one in found], tables.sweeps_view(found), as_json)


def trials(context: typer.Context, sweep: Sweep, as_json: AsJson = False) -> None:
    """List a sweep's trials with their states.

    Example: kd-sweep trials latest
    """
    found = actions.record.list_trials(sweep, place_of(context))
    show(found.to_json(), tables.trials_view(found), as_json)


def best(
    context: typer.Context,
    sweep: SweepOrAll = "latest",
    metric: Metric = None,
    direction: Direction = None,
    where: Conditions = [],  # noqa: B006
    per: Field = None,
    top: HowMany = None,
    export: TrialJson = None,
    registered: Registered = False,
    as_json: AsJson = False,
) -> None:
    """Show the best configs, what speaks for and against them, and who wins under each metric.

    Example: kd-sweep best --where divergence=forward_kl --top 3 --export trial.json
    """
    place = place_of(context)
    ranking = metric if direction is None else (metric, direction)
    if registered:
        # Of all sweeps, unless one is named: what is promoted is seldom in the newest.
        sweep = EVERY_SWEEP if sweep == LATEST else sweep
        find = partial(actions.promote.best_registered, sweep, place)
    else:
        find = partial(actions.record.best_trials, sweep, place)
    found = find(metric=ranking, where=where, per=per, top=top)
    if export is not None:
        actions.record.write_best_trial(found, place, export)
    if as_json and not found.rows:
        # An empty array has no row for them to stand in.
        for line in found.lines:
            errors().print(Text(line), soft_wrap=True)
    show(found.to_json(), best_table.best_view(found), as_json)


def compare(
    context: typer.Context,
    runs: Compared,
    significance: Significance = False,
    metric: ComparedBy = None,
    control: Control = None,
    examples: Examples = False,
    as_json: AsJson = False,
) -> None:
    """Show what differs between trials, their metrics side by side, and what is more than chance.

    Example: kd-sweep compare latest --significance
    """
    found = actions.record.compare_trials(
        runs,
        place_of(context),
        significance=significance,
        metric=metric,
        control=control,
        examples=examples,
    )
    view = tables.comparison_view(found)
    if found.significance is not None:
        view = significance_table.significance_view(found.significance)
    show(found.to_json(), view, as_json)
