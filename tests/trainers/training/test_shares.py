"""Whose text a step is on: coins, decays and DistiLLM's adaptive share by their worked examples."""

from typing import Any

import numpy as np
import pytest

from trainers.training.shares import Kind, Shares, throw
from trainers.trial.config import TrialConfig


def shares(num_steps: int = 1000, **text: Any) -> Shares:
    config = TrialConfig.model_validate({"steps": num_steps, "student_share": 1.0, **text})
    return Shares(config, seed=3, num_steps=num_steps)


def test_coins_hang_on_seed_and_step_alone() -> None:
    drawn = np.array([throw(3, step, 1)[0] for step in range(2000)])
    assert abs((drawn < 0.3).mean() - 0.3) < 0.03
    assert throw(3, 17, 4)[0] == drawn[17] and throw(4, 17, 1)[0] != drawn[17]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 0.5, 0.5]),
        ("linear", [0.0, 0.25, 0.5]),
        # 0.5 (1 - 200^(-t/N)), and 0.5 (1 - 1 / (1 + e^(20 (t/N - 1/2))))
        ("exponential", [0.0, 0.5 * (1 - 0.0707106781), 0.5 * (1 - 0.005)]),
        ("reverse_sigmoid", [0.5 * 4.5397868e-05, 0.25, 0.5 * (1 - 4.5397868e-05)]),
    ],
)
def test_the_students_share_grows_as_the_datas_decays(schedule: str, expected: list[float]) -> None:
    moved = shares(student_share=0.5, share_schedule=schedule)
    found = [moved.student(step) for step in (0, 500, 1000)]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_the_adaptive_share_grows_as_in_the_worked_example() -> None:
    adaptive = shares(share_schedule="adaptive")
    adaptive.evaluated(2.3)
    found = []
    for loss in (2.45, 2.42, 2.41, 2.6, 2.7):
        adaptive.evaluated(loss)
        found.append(adaptive.student(0))
    assert found == pytest.approx([0.1, 0.1, 0.1, 0.2, 0.3])


def test_the_adaptive_share_stays_below_the_students() -> None:
    adaptive = shares(share_schedule="adaptive", student_share=0.15)
    for loss in (1.0, 2.0, 3.0, 4.0):
        adaptive.evaluated(loss)
    assert adaptive.student(0) == 0.15


def test_a_full_buffer_shares_the_students_text_as_in_the_worked_example() -> None:
    adaptive = shares(share_schedule="adaptive")
    adaptive.reached = 0.4
    fresh = adaptive.fresh(250, is_full=True)
    assert fresh == pytest.approx(0.3)
    assert adaptive.student(250) - fresh == pytest.approx(0.1)
    assert adaptive.fresh(250, is_full=False) == 0.4


@pytest.mark.parametrize(
    ("schedule", "parts"),
    [("decreasing", [1, 0.75, 0]), ("constant", [0.5] * 3), ("increasing", [0, 0.25, 1])],
)
def test_the_part_that_is_new_moves_by_its_schedule(schedule: str, parts: list[float]) -> None:
    made = shares(student_share=0.4, fresh_schedule=schedule)
    found = [made.fresh(step, is_full=True) for step in (0, 250, 1000)]
    assert found == pytest.approx([0.4 * part for part in parts])


def test_one_coin_decides_for_a_step_and_each_for_a_sequence() -> None:
    for of, num_kinds in (("steps", 1), ("sequences", 3)):
        made = shares(student_share=0.6, share_of=of)
        kinds = made.kinds(500, 400, is_full=True)
        assert len(set(kinds.tolist())) == num_kinds
    counts = np.bincount(kinds, minlength=3) / 400
    found = counts[[Kind.FRESH, Kind.REPLAYED, Kind.DATA]]
    assert found == pytest.approx([0.3, 0.3, 0.4], abs=0.08)
