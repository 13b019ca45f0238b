"""The report on rho: rows, proposal and picture, from a teacher's logits."""

import math
from pathlib import Path

import pytest
import torch

from service.actions.rho import RhoReport
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


@pytest.mark.parametrize(
    ("shape", "is_open"), [("spread", True), ("one far ahead", False)], ids=["open", "closed"]
)
def test_the_range_is_open_where_the_table_ends_inside_it(shape: str, is_open: bool) -> None:
    spread = torch.linspace(0, 1, 50).expand(8, 50)
    spikes = torch.zeros(8, 50).index_fill(1, torch.tensor([7]), 9.0)
    found = rho_range(spread if shape == "spread" else spikes)
    assert (found.by_rho[-1] in found.open_ends()) == is_open
