"""A driver in a Ray job, with the sweep itself replaced: what it leaves, and how it ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records_support import make_store, plan_of, record_sweep

from service.cluster.drive import drive
from service.cluster.job import JobOrder
from service.driver import driver
from service.driver.place import Place
from service.events import Notice, SweepSummary, TrialAdvanced, from_line
from service.home import home_folder
from service.plan.plan import SweepPlan
from service.record.runs import Runs
from service.workspace import Workspace

ROWS = [({"divergence": "forward_kl", "tau": 1.0}, {"rouge_l": 10.0, "cross_entropy": 2.0})]


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An order of a sweep that only enters the record, as that of a job."""

    def run_at(
        place: Place, plan: SweepPlan, *, on_event: Callable[[Any], None], stop: Any
    ) -> SweepSummary:
        for step in range(1, 101):
            on_event(TrialAdvanced(0, step, 100))
        run = record_sweep(place.tracking_uri, place.home, plan, ROWS)
        return SweepSummary(plan.sweep_id, run, "completed", {}, 0, 10.0, 1.0)

    monkeypatch.setattr(driver, "run_at", run_at)
    monkeypatch.chdir(tmp_path)
    make_store(home_folder())
    path = tmp_path / "order.json"
    path.write_text(JobOrder(plan=plan_of()).model_dump_json())
    return path


def test_what_was_found_is_with_the_sweeps_run(order: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    said: list[str] = []
    assert drive(order, said.append, is_child=False) == 0
    runs = Runs(Workspace(home_folder()).tracking_uri)
    (sweep,) = runs.sweeps()
    report = runs.download(sweep.run_id, "report.md", tmp_path).read_text()
    assert "forward_kl tau=1" in report
    note = MlflowClient(runs.uri).get_run(sweep.run_id).data.tags["mlflow.note.content"]
    assert note == report
    assert runs.has_artifact(sweep.run_id, "report.html")
    assert [from_line(line) for line in said] == [
        TrialAdvanced(0, step, 100) for step in range(10, 101, 10)
    ]


def test_a_sweep_whose_report_cannot_be_kept_has_ended_all_the_same(
    order: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("service.cluster.drive.conclude_and_keep", refuse)
    said: list[str] = []
    assert drive(order, said.append, is_child=False) == 0
    expected = "what was found is not kept with its run: the disk is full"
    assert from_line(said[-1]) == Notice(expected)
