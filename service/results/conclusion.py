"""What a sweep leaves for people once it is over: a picture beside its files, and with its run in
MLflow the picture, a report, and the same at the top of the run's page."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from service.home import spool_folder
from service.plan.places import sweep_folder, temperature_picture
from service.plan.plan import SweepPlan
from service.record.runs import Runs
from service.record.tracking import Tracker
from service.results.best import Best, find_best
from service.results.figures import temperature_page
from service.results.question import Question
from service.results.report_page import report_page
from trainers.files.store import write_text

TOP = 5
REPORT = "report.md"


@dataclass(frozen=True)
class Conclusion:
    """What was found in a sweep. `picture`: an HTML page."""

    sweep_id: str
    best: Best
    picture: Path


def conclude(plan: SweepPlan, *, uri: str, home: Path) -> Conclusion:
    """Returns what the record at `uri` says of the sweep, with its picture drawn. Raises
    `TrackingError` when the record does not answer."""
    runs = Runs(uri, plan.spec.tracking.experiment)
    best = find_best(runs, Question(sweep=plan.sweep_id, top=TOP))
    path = temperature_picture(sweep_folder(plan, home))
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{plan.sweep_id}: {best.metric} against temperature"
    write_text(path, temperature_page(best.evidence, best.findings, title=title))
    return Conclusion(plan.sweep_id, best, path)


def conclude_and_keep(plan: SweepPlan, run_id: str, *, uri: str, home: Path) -> Conclusion:
    """Does as `conclude`, and keeps it with the sweep's run."""
    conclusion = conclude(plan, uri=uri, home=home)
    experiment = plan.spec.tracking.experiment
    spool = spool_folder(home, uri, experiment)
    with closing(Tracker(uri, experiment, spool=spool)) as tracker:
        keep(conclusion, run_id, tracker)
    return conclusion


def keep(conclusion: Conclusion, run_id: str, tracker: Tracker) -> None:
    """Keeps what was found with the sweep's run."""
    text = report_page(conclusion.sweep_id, conclusion.best)
    tracker.log_artifact(run_id, conclusion.picture)
    tracker.log_text(run_id, text, REPORT)
    tracker.describe(run_id, text)
