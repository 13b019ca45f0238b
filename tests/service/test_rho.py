"""The report on rho: rows, proposal and picture, from a teacher's logits."""

import math
from pathlib import Path

import torch
from rich.console import Console

from service.rho import RhoReport, picture
from trainers.losses.rho import rho_range


def report(tmp_path: Path) -> RhoReport:
    logits = 3 * torch.randn(64, 50, generator=torch.Generator().manual_seed(0))
    return RhoReport(rho_range(logits), tmp_path / "rho.html")


def test_rows_hold_both_policies_with_their_own_setting(tmp_path: Path) -> None:
    rows = report(tmp_path).rows()
    cist = [row for row in rows if row["policy"] == "cist"]
    fixed = [row for row in rows if row["policy"] == "fixed"]
    assert all(math.isclose(row["rho"], row["c"] * math.log(50)) for row in cist)
    assert all(row["rho"] is None and row["tau"] > 0 for row in fixed)
    entropies = [row["entropy_mean"] for row in cist]
    assert entropies == sorted(entropies, reverse=True)


def test_the_proposal_is_a_line_for_the_sweep_file(tmp_path: Path) -> None:
    made = report(tmp_path)
    console = Console(record=True, width=120, quiet=False, file=(tmp_path / "out").open("w"))
    with console.file:
        console.print(made.view())
    low, high = made.to_json()["rho_per_log_vocab"]
    line = f"search rho_per_log_vocab: {{float: [{low:g}, {high:g}], log: true}}"
    assert line in console.export_text()


def test_the_picture_needs_no_network(tmp_path: Path) -> None:
    page = picture(report(tmp_path).found, "toy")
    assert "proposed range" in page
    assert "src=" not in page.split("<body")[0]
