"""Which sweep a word means, of three that share their beginnings."""

import pytest

from service.which import sweeps_meant

# The newest first. The second one's name is the beginning of the others' ids, and so is its own.
KNOWN = [
    ("demo-wide-11", "demo-wide"),
    ("demo-22", "demo"),
    ("demo-wide-33", "demo-wide"),
    ("demo", "old"),
]


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("latest", ["demo-wide-11"]),
        ("demo-wide-33", ["demo-wide-33"]),
        ("demo-wide", ["demo-wide-11"]),
        ("demo-w", ["demo-wide-11", "demo-wide-33"]),
        ("demo-2", ["demo-22"]),
        ("demo", ["demo"]),
        ("old", ["demo"]),
        ("nothing", []),
        ("de", ["demo-wide-11", "demo-22", "demo-wide-33", "demo"]),
    ],
)
def test_an_exact_word_beats_a_beginning(reference: str, meant: list[str]) -> None:
    assert sweeps_meant(reference, KNOWN) == meant


def test_attempts_of_one_sweep_are_one() -> None:
    assert sweeps_meant("dem", [("demo-22", "demo"), ("demo-22", "demo")]) == ["demo-22"]
    assert sweeps_meant("latest", []) == []
