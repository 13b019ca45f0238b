"""`kd-sweep report`: what it prints, where it writes, and what it refuses."""

import json
from pathlib import Path

import pytest
from cli_support import assert_refused, call
from records_support import make_store
from report_support import record_trials, search

from service.cli import reporting
from service.home import home_folder
from service.workspace import Workspace


@pytest.fixture(autouse=True)
def sweep(kd_sweep_home: Path) -> str:
    make_store(kd_sweep_home)
    workspace = Workspace(home_folder())
    return record_trials(workspace.tracking_uri, workspace.home, search(8))


def test_the_answer_is_printed_and_the_page_written(sweep: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    shown = call("report", "latest", "--output", str(path)).stdout
    assert " won: rouge_l " in shown and "unconfirmed: " in shown
    assert f"report: {path}" in shown
    assert path.read_text().startswith("<!doctype html>")
    assert f"{sweep}-report.html" in call("report").stdout


def test_markdown_goes_to_the_screen_or_to_a_file(tmp_path: Path) -> None:
    assert call("report", "--markdown").stdout.startswith("# Report on toy\n")
    path = tmp_path / "page.md"
    shown = call("report", "--markdown", "--output", str(path)).stdout
    assert f"report: {path}" in shown
    assert path.read_text() == call("report", "--markdown").stdout


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    found = json.loads(call("report", "--json", "--output", str(path)).stdout)
    assert found["answer"]["confidence"] == "unconfirmed"
    assert path.exists()


def test_a_browser_opens_the_page_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr(reporting.webbrowser, "open", opened.append)
    path = tmp_path / "page.html"
    call("report", "--open", "--output", str(path))
    assert opened == [path.as_uri()]
    for other in ("--markdown", "--json"):
        refused = call("report", "--open", other)
        assert_refused(refused, 2, "--open: must be given for the page alone")
    assert len(opened) == 1


def test_a_sweep_that_is_not_there_is_named() -> None:
    assert_refused(call("report", "dolly"), 5, "sweep 'dolly': must be an id")
