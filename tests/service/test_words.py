"""Numbers and hyperparameters in words."""

import pytest

from service import words


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (words.duration(45), "45 s"),
        (words.duration(600), "10 min"),
        (words.duration(12_000), "3 h 20 min"),
        (words.size(120 * 2**20), "120 MiB"),
        (words.size(3.2 * 2**30), "3.2 GiB"),
        (words.count(12_000), "12,000"),
        (words.count(3_200_000), "3.2 million"),
        (
            words.describe({"tau": 2.0, "divergence": "forward_kl", "beta": None}),
            "forward_kl tau=2",
        ),
        (words.describe({}), "defaults"),
    ],
)
def test_numbers_in_words(shown: str, text: str) -> None:
    assert shown == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("out of memory", "out of memory"),
        ('trial 3: File "a.py", line 1\n  in f\nKeyError: x', "trial 3: KeyError: x"),
        ('File "a.py", line 1\nKeyError: x\n', "KeyError: x"),
        ("", ""),
    ],
)
def test_a_traceback_is_one_line(text: str, line: str) -> None:
    assert words.brief(text) == line
