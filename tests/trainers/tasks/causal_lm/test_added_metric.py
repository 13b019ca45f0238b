"""A new metric is one entry: with that piece of text in a copy of the packages it is measured,
ranks trials, and is shown."""

import re
from pathlib import Path

import pytest
from added_support import copy_packages, insert, run_with

SCRIPT = Path(__file__).with_name("use_added_metric.py")
ENTRY = """    PositionMetric(
        name="largest_probability", direction="maximize", of=(lambda at: at.q.amax(-1),)
    ),
"""


def test_an_entry_is_measured_ranked_by_and_shown(tmp_path: Path) -> None:
    packages = copy_packages(tmp_path / "packages")
    table = packages / "trainers" / "tasks" / "causal_lm" / "metrics.py"
    insert(table, ENTRY, before='    PositionMetric(name="perplexity"')
    work = tmp_path / "work"
    work.mkdir()
    seen = run_with(packages, SCRIPT, "largest_probability", str(work))
    values = [one["metrics"]["largest_probability"] for one in seen["trials"]]
    assert values == pytest.approx([one["own"] for one in seen["trials"]], rel=1e-5)
    assert values[0] != values[1]
    assert seen["direction"] == "maximize"
    assert "maximize largest_probability" in seen["planned"]
    assert seen["order"] == sorted((0, 1), key=lambda number: -values[number])
    # beside another ranking, the winner under the new metric is shown with its value
    winner = max((0, 1), key=lambda number: values[number])
    assert re.search(
        rf"maximize largest_probability .*trial {winner}: .*{values[winner]:.4g}", seen["best"]
    )
