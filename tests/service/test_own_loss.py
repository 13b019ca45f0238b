"""A divergence of the user's own, on the command line."""

from pathlib import Path
from typing import Any

import pytest
from cli_support import assert_refused, call, document, make_folder, plan, rows_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_folder(tmp_path, monkeypatch)


OWN = """
import torch

def forward(student_logits, teacher_logits):
    wide = torch.promote_types(student_logits.dtype, torch.float32)
    student = torch.log_softmax(student_logits.to(wide), -1)
    teacher = torch.log_softmax(teacher_logits.detach().to(wide), -1)
    return (teacher.exp() * (teacher - student)).sum(-1)

def summed(student_logits, teacher_logits):
    return (student_logits - teacher_logits).sum()

def weighed(student_logits, teacher_logits, alpha):
    return alpha * forward(student_logits, teacher_logits)
"""


def test_a_loss_of_ones_own_is_held_to_the_contract(folder: Path) -> None:
    (folder / "own_losses.py").write_text(OWN)
    assert all(row["holds"] for row in rows_of("check-loss", "own_losses:forward"))
    broken = call("check-loss", "own_losses:summed")
    assert broken.exit_code == 1
    assert "the teacher's logits got a gradient" in broken.stdout
    assert_refused(call("check-loss", "own_losses:weighed"), 2, "alpha must have a default or be")
    assert all(row["holds"] for row in rows_of("check-loss", "own_losses:weighed", *ALPHA))
    assert_refused(call("check-loss", "own_losses:forward", *ALPHA), 2, "but got alpha=0.3")
    assert_refused(call("check-loss", "own_losses:foward"), 2, "Did you mean 'forward'?")
    assert_refused(call("check-loss", "own_losses"), 2, "must be written module:function")


ALPHA = ("--set", "alpha=0.3")


@pytest.mark.parametrize(
    ("search", "loss", "message"),
    [
        ({"divergence": {"fixed": "forward_kl"}}, {}, None),
        ({"divergence": {"choice": ["forward_kl", "own_losses:forward"]}}, {}, None),
        ({"alpha": {"float": [0, 1]}}, {"divergence": "own_losses:weighed"}, None),
        ({"divergence": {"choice": ["forward_kl", "own_loses:forward"]}}, {}, "No module named"),
        ({"divergence": {"fixed": "own_losses:foward"}}, {}, "Did you mean 'forward'?"),
        ({"divergence": {"fixed": "own_losses:weighed"}}, {}, "alpha must have a default or be"),
        ({"alpha": {"float": [0, 1]}}, {"divergence": "own_losses:forward"}, "but got alpha="),
        ({"divergence": {"fixed": "half_written:forward"}}, {}, "got SyntaxError: "),
    ],
)
def test_a_plan_looks_at_losses_of_ones_own(
    folder: Path, search: dict[str, Any], loss: dict[str, Any], message: str | None
) -> None:
    (folder / "own_losses.py").write_text(OWN)
    (folder / "half_written.py").write_text("def forward(")
    made = plan(folder, document(search=search, loss=loss))
    if message is None:
        assert made.exit_code == 0, made.output
    else:
        assert_refused(made, 2, message)
