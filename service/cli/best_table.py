"""What the command line shows of the best trials and of a run's end. Pure."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from service.cli.app import as_typed
from service.cli.tables import table, value
from service.record.views import view_address
from service.results.standings import trials_text
from service.states import TrialState
from service.words import describe
from trainers.files.urls import without_secrets
from trainers.trial.diagnosis import logit_scale_warning

if TYPE_CHECKING:
    from service.actions.run_result import RunResult
    from service.results.best import Best, Row
    from service.results.standings import Standing

LOCAL_PAGES = "http://127.0.0.1:5000"  # of `mlflow ui`
MARK = "!"  # beside a trial that a warning below the table is about
MOST_NUMBERS = 4  # of trials in one cell


def best_view(found: "Best") -> RenderableType:
    """Returns what was found in sentences, the best configs beside what they are compared with, and
    the winner under each metric."""
    if not found.rows:
        views = [Text(line) for line in found.lines]
        return Group(*views, Text(f"no finished trial has the metric {found.metric}"))
    return Group(
        Text(_head(found), style="bold"),
        *(Text(line) for line in found.lines),
        Text(),
        _ranking(found),
        Text(),
        table("the winner under each metric", ("metric", "what", "value"), _winners(found)),
        *(
            Text(f"{row.record.sweep_id}/{row.record.trial} is {', '.join(row.registered)}")
            for row in found.rows
            if row.registered
        ),
        *(
            Text(f"{MARK} {name}: {text}", style="yellow")
            for name, text in found.warnings().items()
        ),
    )


def _head(found: "Best") -> str:
    objectives = found.objectives
    if len(objectives) > 1:
        each = ", ".join(f"{direction} {metric}" for metric, direction in objectives)
        return f"{each}: the Pareto front"
    if found.direction or found.grouped_by == "sweep":
        return f"{found.direction} {found.metric}".strip()
    return (
        f"the lowest {found.metric} first, which does not say which trial is better; "
        "--direction maximize turns it round"
    )


def run_view(result: "RunResult") -> RenderableType:
    """Returns the end of a run: what was found, the best configs, and what to look at next."""
    head = f"sweep {result.sweep_id} {result.state}"
    if result.done_before:
        head += as_typed(" already; here is what it found. kd-sweep run … --again runs it afresh.")
    views: list[RenderableType] = [Text(head, style="bold"), Text(), best_view(result.best), Text()]
    if result.report is not None:
        views.append(_unbroken(f"report: {result.report}"))
    if result.state == TrialState.CANCELLED:
        told = f"go on: kd-sweep resume {result.sweep_id}; finished trials are kept"
        views.append(Text(as_typed(told)))
    views += [_unbroken(line) for line in _pages(result)]
    views.append(
        Text(
            as_typed(
                f"ask further: kd-sweep best --sweep {result.sweep_id} --per divergence; "
                f"kd-sweep trials {result.sweep_id}; kd-sweep best --export trial.json"
            )
        )
    )
    return Group(*views)


def _pages(result: "RunResult") -> list[str]:
    """Where MLflow and Optuna show the sweep."""
    command = ui_command(result.tracking_uri)
    is_served = command == without_secrets(result.tracking_uri)
    lines = [] if is_served else [f"all runs: {command}"]
    if result.experiment_id is not None:
        server = command if is_served else LOCAL_PAGES
        address = view_address(server, result.experiment_id, result.sweep_id)
        lines.append(f"{'all runs' if is_served else 'then open'}: {address}")
    if result.study is not None:
        lines.append(f"the search: optuna-dashboard {shlex.quote(without_secrets(result.study))}")
    return lines


def ui_command(uri: str) -> str:
    """Returns the command, or the address, that shows the records of the store at `uri`."""
    uri = without_secrets(uri)
    if uri.startswith(("http://", "https://")):
        return uri
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"


def _ranking(found: "Best") -> RenderableType:
    """One line a config; below them what teacher and undistilled student score themselves, and the
    floor of texts."""
    metrics = _metrics(found)
    group = [] if found.grouped_by is None else [found.grouped_by]
    named = [] if metrics else ["metric"]
    rows = [
        (
            rank,
            *([row.group or ""] if group else []),
            _what(row),
            *(([row.metric] if named else []) + [_value(row, name) for name in metrics or [""]]),
            _numbers(row, found),
            row.record.run_id[:8],
        )
        for rank, row in enumerate(found.rows, start=1)
    ]
    for name, scores in found.references.items() if metrics else ():
        cells = [value(scores.get(metric)) for metric in metrics]
        rows.append(("", *([""] if group else []), name, *cells, "", ""))
    headings = ("", *group, "what", *named, *(metrics or ["value"]), "trial", "run")
    return table("", headings, rows, spared=("run", *metrics[1:]))


def _metrics(found: "Best") -> list[str]:
    """The columns: the metrics that rank, and those that stand beside every ranking; none where
    each row has a metric of its own."""
    from trainers.tasks import table as task_table

    if len({row.metric for row in found.rows}) > 1:
        return []
    ranked = [metric for metric, _ in found.objectives if metric] or [found.rows[0].metric]
    # Of all tasks: a sweep measures those of its own.
    beside = [
        name
        for name in task_table.beside_rankings()
        if any(row.metric_value(name) is not None for row in found.rows)
    ]
    return list(dict.fromkeys([*ranked, *beside]))


def _winners(found: "Best") -> list[Sequence[Any]]:
    from trainers.tasks import table as task_table

    ways = task_table.known_directions()
    return [
        (f"{ways[name]} {name}", _winner(standing, found), value(standing.mean))
        for name, standing in found.winners.items()
    ]


def _winner(standing: "Standing", found: "Best") -> str:
    mark = "" if logit_scale_warning(standing.typical.metrics) is None else f" {MARK}"
    name, record = f"{standing.name}{mark}", standing.typical
    if found.spans_sweeps:
        return f"{record.sweep_id}/{record.trial}: {name}"
    return f"{trials_text([one.trial for one in standing.trials])}: {name}"


def _value(row: "Row", metric: str) -> str:
    """A metric of a row; of one over several seeds the mean, and for the metric that ranks half of
    its 95 % interval."""
    found = row.standing
    if metric not in ("", row.metric):
        return value(row.metric_value(metric))
    if found is None or found.high is None:
        return value(row.value)
    return f"{value(row.value)} ± {found.high - found.mean:.2g}"


def _numbers(row: "Row", found: "Best") -> str:
    trials = (row.record,) if row.standing is None else row.standing.trials
    if found.spans_sweeps and found.grouped_by != "sweep":
        return f"{row.record.sweep_id}/{row.record.trial}"
    shown = [str(one.trial) for one in trials[:MOST_NUMBERS]]
    return ", ".join([*shown, *(["…"] if len(trials) > len(shown) else [])])


def _what(row: "Row") -> str:
    """The config, with a mark where a warning is about it, and its state where it is no result."""
    record = row.record
    if row.standing is None:
        name = f"{record.label or describe(record.hyperparameters)} (stopped early)"
    else:
        name = row.standing.name
    return name if logit_scale_warning(record.metrics) is None else f"{name} {MARK}"


def _unbroken(line: str) -> Text:
    """Returns a line that is not broken on a narrow terminal, so that it can be copied."""
    return Text(line, no_wrap=True, overflow="ignore")
