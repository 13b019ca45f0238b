"""Reports as files: each number as MLflow has it, written where it is asked for, kept fresh."""

import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from records_support import make_store, plan_of
from report_support import TEACHER, UNDISTILLED, Made, record_trials, search, study
from scipy import stats

from service import actions
from service.actions.report import FreshReport, Report, make_report, write_report
from service.actions.run_result import SweepBegins
from service.errors import PlanError, TrackingError
from service.events import TrialEnded, TrialEvaluated
from service.home import home_folder
from service.plan.places import report_file
from service.record import tags
from service.report.page import Table
from service.states import TrialState
from service.workspace import Workspace
from trainers.files.columns import write_columns
from trainers.trial.reporting import EXAMPLES

TRIALS = study(("forward_kl", "reverse_kl"), taus=(0.5, 2.0, 8.0), seeds=4)


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace(home_folder())
    make_store(made.home)
    return made


def record(workspace: Workspace, trials: list[Made]) -> str:
    """The sweep's id, with the scores of teacher and student noted as a driver does."""
    sweep_id = record_trials(workspace.tracking_uri, workspace.home, trials)
    client = MlflowClient(workspace.tracking_uri)
    (run,) = runs_of(client, kind="sweep")
    for whose, scores in ((tags.TEACHER, TEACHER), (tags.UNDISTILLED, UNDISTILLED)):
        for name, value in scores.items():
            client.log_metric(run.info.run_id, whose + name, value)
    return sweep_id


def runs_of(client: MlflowClient, kind: str) -> list[Any]:
    """The runs of a kind as MLflow's own client gives them."""
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`{tags.KIND}` = '{kind}'", max_results=1000)
    return sorted(found, key=lambda run: int(run.data.tags.get(tags.TRIAL, 0)))


def rows(table: Table) -> dict[str, dict[str, Any]]:
    """The numbers behind a table: first cell → heading → value."""
    return {
        row.cells[0].text: {
            name: cell.value for name, cell in zip(table.columns, row.cells, strict=True)
        }
        for row in table.rows
    }


def cells_of(client: MlflowClient) -> dict[str, dict[int, Mapping[str, float]]]:
    """What was recorded, by the name of a config and seed: read from MLflow alone."""
    found: dict[str, dict[int, Mapping[str, float]]] = {}
    for run in runs_of(client, "trial"):
        params, known = run.data.params, run.data.tags
        place = "tau" if "tau" in params and params["policy"] == "fixed" else "rho_per_log_vocab"
        number = f"{float(params[place]):.4g}"
        name = f"{params['divergence']} policy={params['policy']} {place}={number}"
        name = known.get(tags.LABEL, name)
        found.setdefault(name, {})[int(params["seed"])] = run.data.metrics
    return found


def test_every_number_of_the_table_is_what_mlflow_has(workspace: Workspace) -> None:
    record(workspace, TRIALS)
    page = make_report("latest", workspace).page
    configs = rows(next(table for table in page.tables if table.name == "configs"))
    cells = cells_of(MlflowClient(workspace.tracking_uri))
    assert configs.keys() == cells.keys()
    base = {seed: one["eval/rouge_l"] for seed, one in cells["hard loss only"].items()}
    p_values = {}
    for name, seeds in cells.items():
        row = configs[name]
        values = {seed: one["eval/rouge_l"] for seed, one in seeds.items()}
        assert row["seeds"] == len(values) == 4
        assert row["rouge_l"] == pytest.approx(statistics.fmean(values.values()))
        for metric in ("cross_entropy", "student_entropy", "top1_agreement"):
            mean = statistics.fmean(one[f"eval/{metric}"] for one in seeds.values())
            assert row[metric] == pytest.approx(mean)
        if name == "hard loss only":
            continue
        differences = [values[seed] - base[seed] for seed in base]
        assert row["gain"] == pytest.approx(statistics.fmean(differences))
        p_values[name] = stats.ttest_rel(list(values.values()), list(base.values())).pvalue
    ordered = sorted(p_values, key=lambda name: p_values[name])
    highest = 0.0
    for step, name in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - step) * p_values[name]))
        assert configs[name]["p, corrected"] == pytest.approx(highest)


def test_intervals_that_are_read_are_students_t_of_what_mlflow_has(workspace: Workspace) -> None:
    record(workspace, TRIALS)
    page = make_report("latest", workspace).page
    table = next(one for one in page.tables if one.name == "configs")
    cells = cells_of(MlflowClient(workspace.tracking_uri))
    at = table.columns.index("rouge_l")
    for row in table.rows:
        values = [one["eval/rouge_l"] for one in cells[row.cells[0].text].values()]
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        written = row.cells[at].text.split(" ± ")
        places = len(written[1].partition(".")[2])
        assert written == [f"{statistics.fmean(values):.{places}f}", f"{half:.{places}f}"]


def test_references_curves_and_cost_are_what_mlflow_has(workspace: Workspace) -> None:
    record(workspace, TRIALS)
    page = make_report("latest", workspace).page
    client = MlflowClient(workspace.tracking_uri)
    references = rows(next(table for table in page.tables if table.name == "references"))
    assert references["teacher"]["rouge_l"] == TEACHER["rouge_l"]
    assert references["undistilled student"]["cross_entropy"] == UNDISTILLED["cross_entropy"]
    best = next(row for name, row in references.items() if name.startswith("best"))
    means = {
        name: statistics.fmean(one["eval/rouge_l"] for one in seeds.values())
        for name, seeds in cells_of(client).items()
    }
    assert best["rouge_l"] == pytest.approx(max(means.values()))
    chart = next(one for one in page.charts if one.name == "learning-curves")
    runs = {run.data.tags[tags.TRIAL]: run.info.run_id for run in runs_of(client, "trial")}
    for trace in chart.figure["data"]:
        history = client.get_metric_history(runs[trace["name"].partition(":")[0]], "eval/rouge_l")
        points = sorted((one.step, one.value) for one in history)
        assert list(zip(trace["x"], trace["y"], strict=True)) == points
    took = rows(next(table for table in page.tables if table.name == "cost"))
    seconds = [(run.info.end_time - run.info.start_time) / 1000 for run in runs_of(client, "trial")]
    assert took[f"{len(seconds)} trials, one after another"]["took"] == pytest.approx(sum(seconds))


def test_each_dot_is_a_trial_of_mlflows(workspace: Workspace) -> None:
    record(workspace, search(20))
    page = make_report("latest", workspace).page
    client = MlflowClient(workspace.tracking_uri)
    recorded = {
        (float(run.data.params["tau"]), run.data.metrics["eval/rouge_l"])
        for run in runs_of(client, "trial")
        if run.data.params["policy"] == "fixed" and "eval/rouge_l" in run.data.metrics
        if float(run.data.params["soft_weight"]) > 0
    }
    chart = next(one for one in page.charts if one.name == "objective-tau")
    marks = [one for one in chart.figure["data"] if one.get("text")]
    drawn = {pair for one in marks for pair in zip(one["x"], one["y"], strict=True)}
    assert drawn == recorded


def test_a_report_is_written_where_it_is_asked_for(workspace: Workspace, tmp_path: Path) -> None:
    sweep_id = record(workspace, search(6))
    made = make_report(sweep_id, workspace)
    assert write_report(made, workspace).path == (
        workspace.home / "pictures" / f"{sweep_id}-report.html"
    )
    folder = workspace.home / "sweeps" / sweep_id
    folder.mkdir(parents=True)
    beside = write_report(made, workspace)
    assert beside.path == report_file(folder)
    assert beside.path.read_text().startswith("<!doctype html>")
    there = write_report(made, workspace, output=tmp_path / "a" / "r.md", as_markdown=True)
    assert there.path is not None and there.path.read_text().startswith("# Report on toy")


def test_what_cannot_be_written_or_is_not_there_is_said(
    workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(TrackingError, match="no sweep is recorded"):
        make_report("latest", workspace)
    record(workspace, search(6))
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="--output .*: must be a file that can be written"):
        write_report(make_report("latest", workspace), workspace, output=tmp_path / "file" / "r")


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(workspace: Workspace) -> None:
    record(workspace, search(6))
    shown = make_report("latest", workspace)._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and "<!doctype" not in shown
    assert "plotly.js v" in shown


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_fresh_report_is_written_after_results_and_not_too_often(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bool] = []
    write = write_report

    def note(report: Report, place: Workspace, **options: Any) -> Report:
        written.append(options.get("is_live", False))
        return write(report, place, **options)

    monkeypatch.setattr(actions.report, "write_report", note)
    record(workspace, search(6))
    clock, places = Clock(), list[Path]()
    fresh = FreshReport(workspace, on_begin=places.append, now=clock)
    fresh.take(SweepBegins(plan_of()))
    assert len(places) == 1 and written == []
    ended = TrialEnded(1, TrialState.COMPLETED, 3.0, None)
    fresh.take(TrialEvaluated(1, 1, {"rouge_l": 3.0}))
    assert written == []
    fresh.take(ended)
    fresh.take(ended)
    assert written == [True]
    assert "data-reload" in places[0].read_text()
    clock.now += 60
    fresh.take(TrialEvaluated(2, 1, {"rouge_l": 3.0}))
    assert written == [True, True], "what ended meanwhile is told by the next event"
    assert fresh.finish().path == places[0]
    assert written == [True, True, False]
    assert 'data-reload="' not in places[0].read_text().partition("<main")[0]


def test_a_sweep_that_is_not_recorded_yet_is_no_fault_of_watching(workspace: Workspace) -> None:
    fresh = FreshReport(workspace)
    fresh.take(SweepBegins(plan_of()))
    fresh.take(TrialEnded(0, TrialState.FAILED, None, "memory"))
    with pytest.raises(TrackingError, match="no sweep is recorded"):
        fresh.finish()


def test_the_page_as_json_is_json(workspace: Workspace) -> None:
    trials = search(6)
    trials[2] = Made({"tau": 2.0}, {"rouge_l": 1.0, "cross_entropy": math.nan})
    record(workspace, trials)
    found = make_report("latest", workspace).to_json()
    assert json.loads(json.dumps(found, allow_nan=False))["sweep_id"] == found["sweep_id"]


def test_examples_are_those_of_the_files_that_trials_keep(
    workspace: Workspace, tmp_path: Path
) -> None:
    trials = [
        Made({"tau": tau, "seed": seed}, {"rouge_l": 10 * tau + seed}, label=label)
        for tau, label in ((1.0, "forward KL, tau 1"), (2.0, None))
        for seed in (0, 1)
    ]
    record(workspace, trials)
    client = MlflowClient(workspace.tracking_uri)
    kept = [[5.0, 1.0, 4.0], [7.0, 1.0, 4.0], [9.0, 1.0, 2.0], [8.0, 1.0, 5.0]]
    for run, scores in zip(runs_of(client, "trial"), kept, strict=True):
        write_columns(tmp_path / EXAMPLES, {"example_id": [7, 8, 9], "rouge_l": scores})
        client.log_artifact(run.info.run_id, str(tmp_path / EXAMPLES))
    tables = {one.name: rows(one) for one in make_report("latest", workspace).page.tables}
    assert tables["example-gains"] == {
        "example 7": {"example": "example 7", "control": 6.0, "best": 8.5, "gain": 2.5}
    }
    assert tables["example-losses"] == {
        "example 9": {"example": "example 9", "control": 4.0, "best": 3.5, "gain": -0.5}
    }
