"""What a sweep leaves for people once it is over: a report beside its files, and with its run in
MLflow the report, the same in short, and that at the top of the run's page."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from service.plan.places import report_file, sweep_folder
from service.plan.plan import SweepPlan
from service.record import tags
from service.record.runs import Runs
from service.record.tracking import Tracker, tracker_at
from service.report.gather import gather
from service.report.rendering import html
from service.report.sections import make_page
from service.results.best import Best, best_of, evidence_in
from service.results.report_page import report_page
from trainers.files.store import write_text

TOP = 5
SHORT_REPORT = "report.md"


@dataclass(frozen=True)
class Conclusion:
    """What was found in a sweep. `report`: an HTML page; `experiment_id`: where MLflow has it."""

    sweep_id: str
    best: Best
    report: Path
    experiment_id: str = ""


def conclude(plan: SweepPlan, *, uri: str, home: Path) -> Conclusion:
    """Returns what the record at `uri` says of the sweep, with its report written. Raises
    `TrackingError` when the record does not answer."""
    runs = Runs(uri, plan.spec.tracking.experiment)
    sweep = runs.resolve_sweep(plan.sweep_id)
    evidence = evidence_in(runs, sweep)
    path = report_file(sweep_folder(plan, home))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html(make_page(gather(runs, sweep, evidence, plan))))
    return Conclusion(plan.sweep_id, best_of(evidence, top=TOP), path, sweep.experiment_id)


def conclude_and_keep(plan: SweepPlan, run_id: str, *, uri: str, home: Path) -> Conclusion:
    """Does as `conclude`, and keeps it with the sweep's run."""
    conclusion = conclude(plan, uri=uri, home=home)
    experiment = plan.spec.tracking.experiment
    with closing(tracker_at(uri, experiment, home)) as tracker:
        keep(conclusion, run_id, tracker)
    return conclusion


def keep(conclusion: Conclusion, run_id: str, tracker: Tracker) -> None:
    """Keeps what was found with the sweep's run."""
    text = report_page(conclusion.sweep_id, conclusion.best)
    tracker.log_artifact(run_id, conclusion.report)
    tracker.log_text(run_id, text, SHORT_REPORT)
    tracker.tag(run_id, {tags.NOTE: text})
