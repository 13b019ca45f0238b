"""Runs a plan on this machine, shows it, stops it on a signal, and says what came of it."""

import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from service.cli import tables
from service.cli.display import Progress, brief, display_on
from service.driver.study_changes import StudyChanges
from service.errors import TrialError
from service.events import DriverEvent
from service.plan.measured import remember_trial_s
from service.plan.places import sweep_folder
from service.plan.plan import SweepPlan
from service.record.records import RunRecord
from service.results.best import Best, Question, find_best
from service.results.report import verdict
from service.signals import StopOnSignal
from service.states import TrialState
from trainers.tasks import table

STOPPED_EXIT_CODE = 130
TOP = 5


@dataclass(frozen=True)
class RunResult:
    """What came of a sweep. `done_before`: nothing ran, the same sweep was finished already."""

    sweep_id: str
    state: str
    tracking_uri: str
    best: Best
    lines: list[str] = field(default_factory=list)
    picture: Path | None = None
    done_before: bool = False

    @property
    def exit_code(self) -> int:
        """0; 1 when no trial has a result; 130 when the user stopped the sweep."""
        if self.state != TrialState.COMPLETED:
            return STOPPED_EXIT_CODE
        return 0 if self.best.records else TrialError.exit_code

    def to_json(self) -> dict[str, Any]:
        """Returns the result as one JSON object."""
        return {
            "sweep_id": self.sweep_id,
            "state": self.state,
            "done_before": self.done_before,
            "tracking_uri": self.tracking_uri,
            "picture": None if self.picture is None else str(self.picture),
            "verdict": self.lines,
            "best": self.best.to_json(),
        }

    def view(self) -> RenderableType:
        """Returns the end of a run: the best configs, what won, and what to look at next."""
        head = f"sweep {self.sweep_id} {self.state}"
        if self.done_before:
            head += " already; here is what it found. kd-sweep run … --again runs it afresh."
        best = tables.best_view(self.best)
        views: list[RenderableType] = [Text(head, style="bold"), Text(), best, Text()]
        views += [Text(line) for line in self.lines]
        if self.picture is not None:
            views.append(_unbroken(f"picture: {self.picture}"))
        if self.state == TrialState.CANCELLED:
            views.append(Text("go on: the same kd-sweep run; finished trials are kept"))
        views.append(_unbroken(f"all runs: {ui_command(self.tracking_uri)}"))
        views.append(
            Text(
                f"ask further: kd-sweep best --sweep {self.sweep_id} --per divergence; "
                f"kd-sweep trials {self.sweep_id}; kd-sweep best --export trial.json"
            )
        )
        return Group(*views)


def run_here(plan: SweepPlan, *, home: Path, again: bool, console: Console) -> RunResult:
    """Runs `plan`, or returns at once what the same sweep found before, unless `again`."""
    from service.record.runs import Runs
    from service.record.store import ensure_store

    uri = _tracking_uri(plan, home)
    ensure_store(uri, home)
    known = {one.sweep_id: one.state for one in Runs(uri, plan.spec.tracking.experiment).sweeps()}
    if known.get(plan.sweep_id) == TrialState.COMPLETED and not again:
        found = _result(plan, uri, TrialState.COMPLETED, home)
        return replace(found, done_before=True)
    if again:
        plan = plan.model_copy(update={"sweep_id": fresh_id(plan.sweep_id, set(known))})
    console.print(tables.plan_view(plan))
    return execute(plan, home=home, console=console)


def execute(
    plan: SweepPlan, *, home: Path, console: Console, changes: StudyChanges | None = None
) -> RunResult:
    """Runs what is left of `plan`, after applying `changes` to its study, and shows it."""
    from service.driver.driver import Place, run_at, run_sweep
    from service.record.store import spool_folder
    from service.record.tracking import Tracker

    uri = _tracking_uri(plan, home)
    progress = Progress(plan, time.monotonic)
    with display_on(console, progress) as display, StopOnSignal(console.print) as stopper:

        def on_event(event: DriverEvent) -> None:
            # Ray replaces the handlers when it starts, so they are set again as news come in.
            stopper.install()
            display.on_event(event)

        if changes is None:
            summary = run_sweep(
                plan,
                home=home,
                tracking_uri=uri,
                ray_address=None,
                on_event=on_event,
                stop=stopper.stop,
            )
        else:
            place = Place(home, uri, changes=changes)
            summary = run_at(place, plan, on_event=on_event, stop=stopper.stop)
    completed = progress.durations.get(TrialState.COMPLETED)
    if completed:
        remember_trial_s(home, plan, mean(completed))
    result = _result(plan, uri, summary.state, home)
    if result.picture is not None:
        with closing(
            Tracker(uri, plan.spec.tracking.experiment, spool=spool_folder(home, uri))
        ) as to:
            to.log_artifact(summary.run_id, result.picture)
    return result


def _tracking_uri(plan: SweepPlan, home: Path) -> str:
    from service.record.store import default_uri

    return plan.spec.tracking.uri or default_uri(home)


def fresh_id(sweep_id: str, known: set[str]) -> str:
    """Returns the id with the first suffix -2, -3, … that is not in `known`."""
    number = 2
    while f"{sweep_id}-{number}" in known:
        number += 1
    return f"{sweep_id}-{number}"


def _unbroken(line: str) -> Text:
    """Returns a line that stays whole on a narrow terminal, so that it can be copied."""
    return Text(line, no_wrap=True, overflow="ignore")


def ui_command(uri: str) -> str:
    """Returns the command, or the address, that shows the records of the store at `uri`."""
    if uri.startswith(("http://", "https://")):
        return uri
    return f"mlflow ui --backend-store-uri {uri}"


def _result(plan: SweepPlan, uri: str, state: str, home: Path) -> RunResult:
    from service.record.runs import Runs

    runs = Runs(uri, plan.spec.tracking.experiment)
    objective = plan.spec.objective[0]
    records = runs.trials(plan.sweep_id)
    return RunResult(
        plan.sweep_id,
        state,
        uri,
        best=find_best(runs, Question(sweep=plan.sweep_id, top=TOP)),
        lines=[
            *verdict(records, objective.metric, objective.direction, table.known_directions()),
            *_failures(records),
        ],
        picture=_picture(records, plan, home),
    )


def _failures(records: list[RunRecord]) -> list[str]:
    """Says how many trials failed, and why the first of them did."""
    failed = [record for record in records if record.state == TrialState.FAILED]
    if not failed:
        return []
    reason = brief(failed[0].tags.get("error", "unknown"))
    return [f"{len(failed)} of {len(records)} trials failed; trial {failed[0].trial}: {reason}"]


def _picture(records: list[RunRecord], plan: SweepPlan, home: Path) -> Path:
    """Draws the objective against the temperature, beside the sweep's other files."""
    from service.results.figures import temperature_page

    objective = plan.spec.objective[0]
    path = sweep_folder(plan, home) / "temperature.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        temperature_page(
            records,
            metric=objective.metric,
            direction=objective.direction,
            title=f"{plan.sweep_id}: {objective.metric} against temperature",
        )
    )
    return path
