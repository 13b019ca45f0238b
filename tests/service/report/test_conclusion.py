"""What is kept of a sweep's end, and where."""

from pathlib import Path
from typing import cast

from records_support import make_store, plan_of, record_of, record_sweep

from service.plan.places import sweep_folder
from service.record.tracking import Tracker
from service.report.conclusion import Conclusion, conclude, keep
from service.results.best import Best, Row
from service.results.findings import NoResult

METRICS = {"rouge_l": 10.0, "cross_entropy": 2.0}


class Kept:
    """Takes the place of `Tracker`: remembers what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def log_artifact(self, run_id: str, path: Path) -> None:
        self.told.append((run_id, path.name, path.read_text()))

    def log_text(self, run_id: str, text: str, name: str) -> None:
        self.told.append((run_id, name, text))

    def tag(self, run_id: str, found: dict[str, str]) -> None:
        self.told += [(run_id, name, text) for name, text in found.items()]


def test_the_report_it_in_short_and_the_description_go_to_the_sweeps_run(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<!doctype html>")
    row = Row(record_of(3, {"tau": 2.0}, METRICS), "rouge_l", "maximize", None)
    best = Best("rouge_l", "maximize", (row,), {}, (NoResult("rouge_l").sentence(),))
    kept = Kept()
    keep(Conclusion("toy-1", best, report), "r1", cast(Tracker, kept))
    (*_, text) = kept.told[1]
    assert kept.told == [
        ("r1", "report.html", "<!doctype html>"),
        ("r1", "report.md", text),
        ("r1", "mlflow.note.content", text),
    ]
    assert f"* {best.lines[0]}\n" in text
    assert "| tau=2 (stopped early) | 10 | 3 |" in text


def test_a_sweep_is_concluded_from_its_record(tmp_path: Path) -> None:
    uri, plan = make_store(tmp_path), plan_of()
    record_sweep(uri, tmp_path, plan, [({"tau": 2.0}, METRICS)])
    found = conclude(plan, uri=uri, home=tmp_path)
    assert [row.record.trial for row in found.best.rows] == [0]
    assert found.report.parent == sweep_folder(plan, tmp_path)
    assert "rouge_l against temperature tau" in found.report.read_text()
