"""A divergence of the user's own, on the command line."""

from pathlib import Path
from typing import Any

import pytest
from cli_support import assert_refused, call, document, make_folder, plan, rows_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_folder(tmp_path, monkeypatch)
    for name, text in SOURCES.items():
        (made / name).write_text(text)
    return made


OWN = """
import torch

def forward(student_logits, teacher_logits):
    wide = torch.promote_types(student_logits.dtype, torch.float32)
    student = torch.log_softmax(student_logits.to(wide), -1)
    teacher = torch.log_softmax(teacher_logits.detach().to(wide), -1)
    return (teacher.exp() * (teacher - student)).sum(-1)

def summed(student_logits, teacher_logits):
    return (student_logits - teacher_logits).sum()

def mean(student_logits, teacher_logits):
    return forward(student_logits, teacher_logits).mean()

def weighed(student_logits, teacher_logits, alpha):
    return alpha * forward(student_logits, teacher_logits)

def softening(student_logits, teacher_logits, tau):
    return forward(student_logits / tau, teacher_logits / tau)

def sharpened(student_logits, teacher_logits, sharpness=1):
    return forward(student_logits, teacher_logits) ** sharpness

def exponent(student_logits, teacher_logits, exponent):
    return forward(student_logits, teacher_logits) ** exponent
"""
SOURCES = {
    "own_losses.py": OWN,
    "half_written.py": "def forward(",
    "needs_more.py": "import torch\nimport no_such_package_here\n",
    "divides.py": "number = 1 / 0\n",
    "leaves.py": "import sys\nsys.exit(0)\n",
    "statistics.py": OWN,
}
ALPHA = ("--set", "alpha=0.3")


def test_a_loss_of_ones_own_is_held_to_the_contract(folder: Path) -> None:
    assert all(row["holds"] for row in rows_of("check-loss", "own_losses:forward"))
    assert all(row["holds"] for row in rows_of("check-loss", "own_losses:weighed", *ALPHA))
    broken = call("check-loss", "own_losses:summed")
    assert broken.exit_code == 1
    assert "the teacher's logits got a gradient" in broken.stdout


def test_a_check_ends_with_its_verdict(folder: Path) -> None:
    *_, meaning, verdict = call("check-loss", "own_losses:forward").stdout.strip().splitlines()
    assert meaning.startswith("required: without it training goes wrong")
    assert verdict.strip() == "own_losses:forward keeps what is required: a sweep can use it."
    last = call("check-loss", "own_losses:mean").stdout.strip().splitlines()[-1]
    assert "own_losses:mean breaks what is required (one value a position, float64 kept; " in last


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("own_losses:weighed",), ("alpha must have a default or be",)),
        (("own_losses:forward", *ALPHA), ("but got alpha=0.3",)),
        (("own_losses:foward",), ("got no such name in it", "Did you mean 'forward'?")),
        (("own_losses",), ("must be written module:function",)),
        (("own-losses:forward",), ("both as Python spells names, but got 'own-losses:forward'",)),
        (
            ("own_losses:sharpened", "--set", "sharpness=2"),
            ("sharpness must be a parameter that a sweep can set", "Known: weight, beta"),
        ),
        (("own_losses:exponent",), ("exponent must have a default", "A sweep cannot set it")),
        (
            ("own_losses:softening",),
            ("tau must have a default", "not passed to divergences: the logits arrive softened"),
        ),
        (("torch:sum",), ("must be a Python function with the keywords student_logits and",)),
        (("statistics:forward",), ("statistics.py), but got no such name", "rename your module")),
        (("needs_more:f",), ("needs_more.py, line 2 imports 'no_such_package_here', which is",)),
        (("divides:f",), ("divides.py, line 1 got ZeroDivisionError",)),
        (("leaves:f",), ("leaves.py, line 2 got SystemExit: 0",)),
        (("half_written:f",), ("half_written.py, line 1 got SyntaxError",)),
    ],
)
def test_what_cannot_be_checked_is_said(
    folder: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    assert_refused(call("check-loss", *arguments), 2, "error: check-loss: ", *parts)


@pytest.mark.parametrize(
    ("search", "loss", "message"),
    [
        ({"divergence": {"fixed": "forward_kl"}}, {}, None),
        ({"divergence": {"choice": ["forward_kl", "own_losses:forward"]}}, {}, None),
        ({"alpha": {"float": [0, 1]}}, {"divergence": "own_losses:weighed"}, None),
        (
            {"divergence": {"choice": ["forward_kl", "own_loses:forward"]}},
            {},
            "search.divergence: 'own_loses:forward': module 'own_loses' must be importable, but "
            "got ModuleNotFoundError: No module named",
        ),
        ({"divergence": {"fixed": "own_losses:foward"}}, {}, "Did you mean 'forward'?"),
        (
            {"tau": {"float": [1, 2]}},
            {"divergence": "own_losses:weighed"},
            "loss.divergence: 'own_losses:weighed': alpha must have a default or be",
        ),
        (
            {"alpha": {"float": [0, 1]}},
            {"divergence": "own_losses:forward"},
            "search.alpha: alpha must be a parameter of divergence 'own_losses:forward', but got",
        ),
        ({"divergence": {"fixed": "half_written:forward"}}, {}, "got SyntaxError: "),
        (
            {"alpha": {"float": [0.2, 1]}, "divergence": {"fixed": "own_losses:mean"}},
            {},
            "search.alpha: alpha must be a parameter",
        ),
        (
            {"divergence": {"fixed": "own_losses:mean"}},
            {},
            "search.divergence: 'own_losses:mean' must keep what is required of every divergence, "
            "but got broken: one value a position, float64 kept; a position's value is its "
            "own (the first: torch.float32 logits [6, 128] must give torch.float32 [6], but got "
            "torch.float32 []). Mend it until this holds: kd-sweep check-loss own_losses:mean.",
        ),
    ],
)
def test_a_plan_looks_at_losses_of_ones_own(
    folder: Path, search: dict[str, Any], loss: dict[str, Any], message: str | None
) -> None:
    made = plan(folder, document(search=search, loss=loss))
    if message is None:
        assert made.exit_code == 0, made.output
    else:
        assert_refused(made, 2, message)
