"""A new divergence is a function and a row: with these two pieces of text added to a copy of the
packages it is searched, shown and trained with."""

from pathlib import Path

import pytest
from added_support import copy_packages, insert, run_with

SCRIPT = Path(__file__).with_name("use_added_divergence.py")
FUNCTION = '''
def doubled_kl(*, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """2 KL(p‖q), [N]."""
    return 2 * forward_kl(student_logits=student_logits, teacher_logits=teacher_logits)


'''
ROW = """    "doubled_kl": DivergenceTraits("2 KL(p‖q): what the test adds"),
"""


def test_a_function_and_a_row_are_searched_trained_with_and_shown(tmp_path: Path) -> None:
    packages = copy_packages(tmp_path / "packages")
    trainers = packages / "trainers"
    insert(trainers / "losses" / "divergences.py", FUNCTION, before="def total_variation(")
    insert(trainers / "trial" / "catalogue.py", ROW, before='    "total_variation": Diverg')
    work = tmp_path / "work"
    work.mkdir()
    seen = run_with(packages, SCRIPT, "doubled_kl", str(work))
    assert seen["searched"] == ["forward_kl", "doubled_kl"]
    assert "doubled_kl" in seen["shown"]
    plain, doubled = seen["trained"]["forward_kl"], seen["trained"]["doubled_kl"]
    # Both start from the same student and batch, where twice the divergence is just that.
    assert doubled["soft"] == pytest.approx(2 * plain["soft"], rel=1e-6)
    assert doubled["hard"] == plain["hard"] and doubled["steps"] == plain["steps"] == 6
    assert doubled["end"] != plain["end"]
