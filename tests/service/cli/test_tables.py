"""What the command line shows of results: the end of a run, a proposal of rho."""

from io import StringIO
from pathlib import Path

import pytest
import torch
from records_support import record_of
from rich.console import Console, RenderableType

from service.actions.rho import RhoReport
from service.actions.run import RunResult
from service.cli import tables
from service.results.best import Best
from service.states import TrialState
from trainers.losses.rho import rho_range


def shown(view: RenderableType) -> str:
    console = Console(record=True, width=140, file=StringIO())
    console.print(view)
    return console.export_text()


def result(state: TrialState = TrialState.COMPLETED, *, done_before: bool = False) -> RunResult:
    winner = record_of(1, {"divergence": "reverse_kl", "tau": 2.0}, {"rouge_l": 30.0})
    best = Best("rouge_l", "maximize", [winner], {"rouge_l": winner})
    lines = ["reverse_kl tau=2 (trial 1) won: rouge_l 30"]
    return RunResult(
        "toy-1", state, "sqlite:////x.db", best=best, lines=lines, done_before=done_before
    )


def test_the_end_of_a_run_shows_what_won_and_where_to_look() -> None:
    text = shown(tables.run_view(result()))
    assert "reverse_kl tau=2 (trial 1) won: rouge_l 30" in text
    assert "mlflow ui --backend-store-uri sqlite:///" in text
    assert "go on: " not in text


def test_a_sweep_that_was_finished_says_how_to_run_it_afresh() -> None:
    text = shown(tables.run_view(result(done_before=True)))
    assert "completed already; here is what it found" in text


def test_a_stopped_sweep_says_how_to_go_on() -> None:
    assert "go on: the same kd-sweep run" in shown(tables.run_view(result(TrialState.CANCELLED)))


def test_a_server_has_a_page_and_a_file_a_command() -> None:
    assert tables.ui_command("http://host:5000") == "http://host:5000"
    command = "mlflow ui --backend-store-uri sqlite:////x.db"
    assert tables.ui_command("sqlite:////x.db") == command


@pytest.fixture
def report(tmp_path: Path) -> RhoReport:
    logits = 3 * torch.randn(64, 50, generator=torch.Generator().manual_seed(0))
    return RhoReport(rho_range(logits), tmp_path / "rho.html")


def test_the_proposal_is_a_line_for_the_sweep_file(report: RhoReport) -> None:
    low, high = report.to_json()["rho_per_log_vocab"]
    line = f"search rho_per_log_vocab: {{float: [{low:g}, {high:g}], log: true}}"
    assert line in shown(tables.rho_view(report))


def test_an_end_of_the_table_is_not_called_an_end_of_the_range(report: RhoReport) -> None:
    text, found = shown(tables.rho_view(report)), report.found
    assert "on 64 sampled positions" in text and report.to_json()["num_positions"] == 64
    for row, words in ((found.by_rho[0], "open below"), (found.by_rho[-1], "open above")):
        is_open = 0.05 <= row.mean / found.log_vocab <= 0.9
        assert (f"{words}: the table ends at c = {row.setting:g}" in text) == is_open
        assert (row.setting in report.to_json()["open_ends"]) == is_open
