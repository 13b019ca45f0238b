"""What the command line shows of a proposal of rho."""

from io import StringIO
from pathlib import Path

import pytest
import torch
from records_support import record_of
from rich.console import Console, RenderableType

from service.actions.rho import RhoReport
from service.cli import tables
from service.results.compare import compare
from trainers.losses.rho import rho_range


def shown(view: RenderableType) -> str:
    console = Console(record=True, width=140, file=StringIO())
    console.print(view)
    return console.export_text()


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


def test_a_comparison_leaves_diagnostics_to_json() -> None:
    records = [record_of(n, {"tau": 1.0 + n}, {"rouge_l": 2.0, "probe/rank": 0.5}) for n in (0, 1)]
    found = compare(records)
    text = shown(tables.comparison_view(found))
    assert "rouge_l" in text and "probe/rank" not in text
    assert "left to --json: diagnostics (probe/…), 1" in text
    assert found.to_json()["metrics"]["probe/rank"] == [0.5, 0.5]
