"""A divergence of the user's own against the contract of the shipped ones."""

from pathlib import Path

import pytest

from service.actions.loss import check_loss
from service.errors import SpecError
from service.workspace import Workspace

SOURCE = """
def squares(student_logits, teacher_logits, weight):
    return weight * (student_logits - teacher_logits.detach()).square().sum(-1)

def summed(student_logits, teacher_logits):
    return (student_logits - teacher_logits).sum()
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "my_squares.py").write_text(SOURCE)
    return Workspace(tmp_path / "home", folder=tmp_path)


def test_a_function_is_found_in_the_workspaces_folder(workspace: Workspace) -> None:
    found = check_loss("my_squares:squares", workspace, parameters=["weight=0.5"])
    assert found.is_usable
    assert found.to_json()[0].keys() == {"check", "holds", "required", "detail"}


def test_what_breaks_the_contract_cannot_be_used(workspace: Workspace) -> None:
    found = check_loss("my_squares:summed", workspace)
    assert not found.is_usable
    assert any(row["required"] and not row["holds"] for row in found.rows)


def test_a_parameter_that_it_does_not_take_is_refused(workspace: Workspace) -> None:
    with pytest.raises(SpecError, match="width"):
        check_loss("my_squares:squares", workspace, parameters=["weight=1", "width=2"])
