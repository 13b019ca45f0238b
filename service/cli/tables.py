"""What the command line shows, as Rich tables and text, made from plans, records and rows. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.actions.doctor import Finding
from service.plan.plan import SweepPlan
from service.record.records import RunRecord, SweepRecord
from service.results.best import Best
from service.results.compare import Comparison
from service.words import count, describe, duration, number, size
from trainers.tasks import table as task_table

STATE_STYLES: Mapping[str, str] = {
    "completed": "green",
    "running": "cyan",
    "stopped_early": "yellow",
    "diverged": "red",
    "failed": "red",
}
UNKNOWN = "not known yet"
# A sharper student scores better on sampled text, so its entropy stands beside every ranking.
BESIDE = ("rouge_l", "cross_entropy", "top1_agreement", "student_entropy")


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Returns a plain table; cells are taken as text, never as markup."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(cell), style=STATE_STYLES.get(str(cell), "")) for cell in row))
    return made


def plan_view(plan: SweepPlan) -> RenderableType:
    """Returns the plan: what is searched, on what, with what, for how long; then its warnings."""
    space = [(row["name"], row["domain"], row["condition"]) for row in plan.search_rows()]
    views: list[RenderableType] = [
        table(f"sweep {plan.sweep_id}", ("", ""), _plan_rows(plan)),
        Text(),
        table("search", ("hyperparameter", "domain", "only when"), space),
    ]
    views += [Text(f"warning: {warning}", style="yellow") for warning in plan.warnings]
    return Group(*views)


def _plan_rows(plan: SweepPlan) -> list[tuple[str, str]]:
    facts, spec = plan.facts, plan.spec
    own = plan.num_trials - len(plan.controls)
    objectives = ", ".join(f"{one.direction} {one.metric}" for one in spec.objective)
    modules = f"{', '.join(sorted(plan.own_modules))}; kept with the sweep"
    rows = [
        ("teacher", facts.found.get("teacher", _source(spec.teacher))),
        ("student", facts.found.get("student", _source(spec.student))),
        ("data", facts.found.get("data", f"{spec.data.train}, {spec.data.validation}")),
        *([("own modules", modules)] if plan.own_modules else []),
        ("teacher's entropy", _entropy(facts.teacher_entropy_share)),
        ("objective", objectives),
        ("sampler", f"{spec.sampler.kind}, early stopping {spec.early_stopping.kind}"),
        ("trials", f"{plan.num_trials}: {own} searched, {len(plan.controls)} controls"),
        ("at once", f"{plan.slots}, each with {_workers(plan)}"),
    ]
    return rows + _estimate_rows(plan)


def _estimate_rows(plan: SweepPlan) -> list[tuple[str, str]]:
    estimate = plan.estimate
    tokens = UNKNOWN
    if estimate.tokens is not None and estimate.tokens_per_trial is not None:
        each = count(estimate.tokens_per_trial)
        tokens = f"about {count(estimate.tokens)} response tokens, {each} a trial"
    time = UNKNOWN
    if estimate.duration_s is not None:
        time = f"about {duration(estimate.duration_s)} at most ({estimate.basis})"
    free = plan.cluster.disk_free
    rows = [("tokens", tokens), ("time", time)]
    if estimate.cpu_hours is not None:
        gpus = f", {estimate.gpu_hours:.2g} GPU hours" if estimate.gpu_hours else ""
        rows.append(("hours", f"about {estimate.cpu_hours:.2g} CPU hours{gpus}"))
    rows.append(("teacher's signal", _signal(plan)))
    parts = [("checkpoints", estimate.checkpoint_bytes)]
    if plan.teacher.dtype is not None:
        parts.append(("teacher cache", estimate.teacher_cache_bytes))
    disk = [
        f"{name} {UNKNOWN if value is None else 'about ' + size(value)}" for name, value in parts
    ]
    rows.append(("disk", ", ".join(disk) + (f"; {size(free)} free" if free is not None else "")))
    return rows


def _signal(plan: SweepPlan) -> str:
    if plan.teacher.dtype is None:
        return f"asked in every trial: {plan.teacher.reason}"
    seconds = plan.estimate.teacher_cache_s
    time = "" if seconds is None or seconds < 1 else f", about {duration(seconds)}"
    kept = plan.teacher.dtype.replace("+", " and ")
    return f"computed once{time}, kept in {kept} for all trials and later sweeps"


def _source(source: Any) -> str:
    name = source.model or f"from config ({source.config['model_type']})"
    return name + (", fitted on the data first" if source.fit is not None else "")


def _entropy(share: float | None) -> str:
    if share is None:
        return "known once the teacher was prepared"
    return f"{share:.2f} of ln V at tau = 1"


def _workers(plan: SweepPlan) -> str:
    gpus = f" and {plan.gpus_per_worker:g} GPU" if plan.gpus_per_worker else ""
    return f"{plan.workers_per_trial} worker of {plan.cpus_per_worker:g} CPU{gpus}"


def sweeps_view(sweeps: Sequence[SweepRecord]) -> RenderableType:
    """Returns one line a sweep."""
    rows = [
        (
            one.sweep_id,
            one.state,
            one.num_trials,
            f"{one.objective_direction} {one.objective_metric}",
            _seconds(one.duration_s),
        )
        for one in sweeps
    ]
    return table("", ("sweep", "state", "trials", "objective", "took"), rows)


def trials_view(records: Sequence[RunRecord], metric: str) -> RenderableType:
    """Returns one line a trial, with the objective's metric."""
    rows = [
        (
            record.trial,
            str(record.state),
            record.label or describe(record.hyperparameters),
            value(record.metric(metric)),
            _seconds(record.duration_s),
            record.run_id[:8],
        )
        for record in records
    ]
    return table("", ("trial", "state", "what", metric, "took", "run"), rows)


def best_view(found: Best) -> RenderableType:
    """Returns the best trials as a table, and the winner under each metric below it."""
    if not found.records:
        return Text(f"no finished trial has the metric {found.metric}")
    beside = [name for name in BESIDE if name != found.metric]
    directions = task_table.known_directions()
    rows = [
        (f"{directions[name]} {name}", _trial_name(record), value(record.metric(name)))
        for name, record in found.winners.items()
    ]
    return Group(
        Text(f"{found.direction} {found.metric}", style="bold"),
        ranking_table(found.records, (found.metric, *beside)),
        Text(),
        table("the winner under each metric", ("metric", "what", "value"), rows),
    )


def ranking_table(records: Sequence[RunRecord], metrics: Sequence[str]) -> Table:
    """Returns one line a trial in the given order, with a column for each metric."""
    one_sweep = len({record.sweep_id for record in records}) == 1
    rows = [
        (
            rank,
            record.label or describe(record.hyperparameters),
            *(value(record.metric(name)) for name in metrics),
            record.trial if one_sweep else f"{record.sweep_id}/{record.trial}",
            record.run_id[:8],
        )
        for rank, record in enumerate(records, start=1)
    ]
    return table("", ("", "what", *metrics, "trial", "run"), rows)


def _trial_name(record: RunRecord) -> str:
    return f"trial {record.trial}: {record.label or describe(record.hyperparameters)}"


def findings_view(findings: Sequence[Finding]) -> RenderableType:
    """Returns one line a finding, and what to do where something does not work."""
    rows = [(_verdict(one), one.name, one.found) for one in findings]
    todo = [Text(f"{one.name}: {one.remedy}") for one in findings if one.remedy]
    return Group(table("", ("", "", ""), rows), *todo)


def comparison_view(found: Comparison) -> RenderableType:
    """Returns what differs between trials, their metrics, and what shared seeds allow to say."""
    names = found.names()
    differs = [
        (name, *("–" if one is None else number(one) for one in row))
        for name, row in found.differs.items()
    ]
    metrics = [(name, *(value(one) for one in row)) for name, row in found.metrics.items()]
    seeds = [
        Text(f"{one.metric}: {one.second} against {one.first}: {one.test.sentence()}")
        for one in found.pairings
    ]
    return Group(
        table("what differs", ("", *names), differs),
        Text(),
        table("metrics", ("", *names), metrics),
        *seeds,
    )


def rows_view(rows: Sequence[Mapping[str, Any]], title: str = "") -> RenderableType:
    """Returns rows of equal keys as a table with the keys as headings."""
    headings = list(rows[0]) if rows else []
    cells = [["" if row[name] is None else number(row[name]) for name in headings] for row in rows]
    return table(title, headings, cells)


def checks_view(name: str, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Returns the checks of a divergence of the user's own, and what they mean together."""
    broken = [row["check"] for row in rows if row["required"] and not row["holds"]]
    verdict = f"{name} keeps what is required: a sweep can use it."
    if broken:
        verdict = f"{name} breaks what is required ({'; '.join(broken)}): a sweep refuses it."
    meaning = (
        "required: without it training goes wrong, or something else than you wrote is trained; "
        "the others are properties that most divergences have, for you to know."
    )
    return Group(rows_view(rows), Text(), Text(meaning), Text(verdict, style="bold"))


def value(metric: float | None) -> str:
    """Returns a metric for people; a missing one is a dash."""
    return "–" if metric is None or not math.isfinite(metric) else f"{metric:.4g}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _verdict(finding: Finding) -> str:
    if finding.works:
        return "works"
    return "FAILS" if finding.needed else "absent"
