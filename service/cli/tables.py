"""What the command line shows, as Rich tables and text, made from plans, records and rows. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from service.cli.fitting import FittedTable
from service.words import count, describe, duration, number, size
from trainers.trial.probe import PREFIX, is_diagnostic

if TYPE_CHECKING:
    from service.actions.cache import VerifiedCache
    from service.actions.doctor import Diagnosis
    from service.actions.loss import LossCheck
    from service.actions.record import SweepTrials
    from service.actions.rho import RhoReport
    from service.record.records import SweepRecord
    from service.rerun.rerun import RerunResult
    from service.results.compare import Comparison
    from trainers.losses.rho import EntropyRow
    from trainers.teachers.cache_inventory import CacheInfo

STATE_STYLES: Mapping[str, str] = {
    "completed": "green",
    "running": "cyan",
    "stopped_early": "yellow",
    "diverged": "red",
    "failed": "red",
}


def table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    spared: Sequence[str] = (),
) -> RenderableType:
    """Returns a plain table; cells are taken as text, never as markup. spared: headings of columns
    that a narrow screen does without, the last one first."""
    cells = [
        [Text(str(cell), style=STATE_STYLES.get(str(cell), "")) for cell in row] for row in rows
    ]
    made = FittedTable(headings, cells, spared)
    return Group(Text(title, style="italic"), made) if title else made


def sweeps_view(sweeps: "Sequence[SweepRecord]") -> RenderableType:
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
    headings = ("sweep", "state", "trials", "objective", "took")
    return table("", headings, rows, spared=("trials", "took"))


def trials_view(found: "SweepTrials") -> RenderableType:
    """Returns one line a trial, with the objective's metric."""
    metric = found.sweep.objective_metric
    rows = [
        (
            record.trial,
            str(record.state),
            record.label or describe(record.hyperparameters),
            value(record.metric(metric)),
            _seconds(record.duration_s),
            record.run_id[:8],
        )
        for record in found.trials
    ]
    headings = ("trial", "state", "what", metric, "took", "run")
    return table("", headings, rows, spared=("run", "took"))


def diagnoses_view(diagnoses: "Sequence[Diagnosis]") -> RenderableType:
    """Returns one line a part of the machine, and what to do where one does not work."""
    rows = [(_verdict(one), one.name, one.found) for one in diagnoses]
    todo = [Text(f"{one.name}: {one.remedy}") for one in diagnoses if one.remedy]
    return Group(table("", ("", "", ""), rows), *todo)


def comparison_view(found: "Comparison") -> RenderableType:
    """Returns what differs between trials, their metrics, and what shared seeds allow to say."""
    names = found.names()
    differs = [
        (name, *("–" if one is None else number(one) for one in row))
        for name, row in found.differs.items()
    ]
    hidden = sum(map(is_diagnostic, found.metrics))
    metrics = [
        (name, *(value(one) for one in row))
        for name, row in found.metrics.items()
        if not is_diagnostic(name)
    ]
    beside = [Text(f"left to --json: diagnostics ({PREFIX}…), {hidden}")] if hidden else []
    seeds = [Text(one.sentence()) for one in found.pairings]
    return Group(
        table("what differs", ("", *names), differs),
        Text(),
        table("metrics", ("", *names), metrics),
        *beside,
        *seeds,
    )


def rows_view(rows: Sequence[Mapping[str, Any]], title: str = "") -> RenderableType:
    """Returns rows as a table with their keys as headings; a row need not have all of them."""
    headings = list(dict.fromkeys(name for row in rows for name in row))
    return table(title, headings, [[_cell(row.get(name)) for name in headings] for row in rows])


def _cell(found: Any) -> str:
    if isinstance(found, Mapping):
        return ", ".join(f"{amount} {name}" for name, amount in found.items())
    return "" if found is None else number(found)


def checks_view(found: "LossCheck") -> RenderableType:
    """Returns the checks of a divergence of the user's own, and what they mean together."""
    name, rows = found.function, found.rows
    broken = [row["check"] for row in rows if row["required"] and not row["holds"]]
    verdict = f"{name} keeps what is required: a sweep can use it."
    if broken:
        verdict = f"{name} breaks what is required ({'; '.join(broken)}): a sweep refuses it."
    meaning = (
        "required: without it training goes wrong, or something else than you wrote is trained; "
        "the others are properties that most divergences have, for you to know."
    )
    return Group(rows_view(rows), Text(), Text(meaning), Text(verdict, style="bold"))


def rho_view(report: "RhoReport") -> RenderableType:
    """Returns the table, the proposal as a line for the sweep file, and the picture's place."""
    found = report.found
    low, high = found.low_per_log_vocab, found.high_per_log_vocab
    entry = f"rho_per_log_vocab: {{float: [{low:g}, {high:g}], log: true}}"
    return Group(
        rows_view(report.rows(), "entropy of the teacher's soft labels"),
        Text(),
        Text(f"search {entry}  (rho {found.low:.3g} to {found.high:.3g})", style="bold"),
        Text(
            "rule (ours): where the mean entropy lies between 5 % and 90 % of ln V, "
            f"on {found.num_positions} sampled positions"
        ),
        *(Text(_open_end(report, row), style="yellow") for row in found.open_ends()),
        Text(f"picture: {report.picture}"),
    )


def _open_end(report: "RhoReport", row: "EntropyRow") -> str:
    share = row.mean / report.found.log_vocab
    side, other = ("below", "smaller")
    if row is report.found.by_rho[-1]:
        side, other = ("above", "larger")
    return (
        f"open {side}: the table ends at c = {row.setting:g}, where the entropy is still "
        f"{share:.0%} of ln V; a {other} rho may be worth searching too"
    )


def rerun_view(result: "RerunResult") -> RenderableType:
    """Returns the metrics beside each other, and the verdict below them."""
    rows = [
        (
            row.metric,
            _digits(row.recorded),
            _digits(row.rerun),
            "" if row.difference is None else f"{row.difference:+.3g}",
            f"{row.tolerance:.3g}",
            "yes" if row.agrees else "no",
        )
        for row in result.judgement.rows
    ]
    record = result.record
    headings = ("metric", "recorded", "rerun", "difference", "tolerance", "agrees")
    views: list[RenderableType] = [
        table(f"rerun of {record.sweep_id}/{record.trial}", headings, rows),
        Text(),
        Text(result.judgement.sentence(), style="bold"),
        Text(f"run {result.run_id}, {result.duration_s:.1f} s"),
    ]
    if result.kept is not None:
        views.append(Text(f"its files: {result.kept}"))
    return Group(*views)


def _digits(value: float | None) -> str:
    """Returns enough digits to see a difference in the last one of a float32."""
    return "–" if value is None else f"{value:.9g}"


def caches_view(found: "Sequence[CacheInfo]") -> RenderableType:
    """Returns one line a teacher cache."""
    rows = [
        (one.key, size(one.bytes), count(one.num_positions), one.dtype, _error(one), one.created)
        for one in found
    ]
    headings = ("cache", "size", "positions", "dtype", "error", "built")
    return table("", headings, rows, spared=("built", "positions", "error"))


# At which the error of forward KL's gradient is shown, of the temperatures where it is known.
SHOWN_TAUS = (1.0, 4.0)


def _error(info: "CacheInfo") -> str:
    if info.storage_error == 0:
        return "exact"
    known = {row["at"]: row["forward"] for row in info.bias if row["policy"] == "fixed"}
    of_gradient = ", ".join(
        f"{known[tau]:.1g} at tau {tau:g}" for tau in SHOWN_TAUS if tau in known
    )
    return of_gradient or f"{info.storage_error:.1g}"


def verified_view(found: "Sequence[VerifiedCache]") -> RenderableType:
    """Returns one line a cache that was read, with its damaged files."""
    rows = [(one.key, ", ".join(one.damaged) or "whole") for one in found]
    return table("", ("cache", "damaged files; the next sweep makes them anew"), rows)


def value(metric: float | None) -> str:
    """Returns a metric for people; a missing one is a dash."""
    return "–" if metric is None or not math.isfinite(metric) else f"{metric:.4g}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _verdict(diagnosis: "Diagnosis") -> str:
    if diagnosis.works:
        return "works"
    return "FAILS" if diagnosis.needed else "absent"
