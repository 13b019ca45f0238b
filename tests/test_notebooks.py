"""The example notebook in a kernel of its own, as a user runs it: each cell, and what it shows."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "example.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def shown(cell: Any, kind: str) -> list[str]:
    """What the cell shows in the format `kind`, such as text/plain."""
    return ["".join(out.data[kind]) for out in cell.outputs if kind in out.get("data", {})]


def printed(cell: Any) -> str:
    return "".join(out.text for out in cell.outputs if out.get("name") == "stdout")


def test_the_notebook_is_valid_and_kept_without_outputs() -> None:
    notebook = read()
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells if cell.get("outputs")] == []


@pytest.mark.ray
@pytest.mark.slow
def test_the_notebook_runs_and_shows_a_panel_a_table_and_a_picture(tmp_path: Path) -> None:
    notebook = read()
    refused = nbformat.v4.new_code_cell("kd_sweep.plan('demmo')")
    refused.metadata.tags = ["raises-exception"]
    notebook.cells.append(refused)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources)
    client.execute(
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    )
    plan, run, trials, best, compared, picture, error = [
        cell for cell in notebook.cells if cell.cell_type == "code"
    ]
    assert "has 4 trials" in printed(plan)
    assert printed(run)
    # One panel, whose last state is that of the end.
    assert ["4 of 4 done" in text for text in shown(run, "text/plain")] == [True]
    assert shown(run, "text/html")[0].startswith("<pre")
    assert shown(trials, "text/html")[0].count("<tr") == 5
    assert "divergence" in shown(best, "text/plain")[0]
    assert "top1_agreement" in shown(compared, "text/plain")[0]
    assert "plotly" in shown(picture, "text/html")[0]
    assert error.outputs[0].traceback[0].startswith("error: SPEC: ")
    assert "Did you mean 'demo'?" in error.outputs[0].traceback[0]
