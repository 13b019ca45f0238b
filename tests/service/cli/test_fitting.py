"""Tables on screens of any width: no word is broken, nothing is lost without a word."""

from io import StringIO

import pytest
from rich.console import Group, RenderableType
from rich.measure import Measurement
from rich.text import Text

from service.cli.app import Screen
from service.cli.fitting import FittedTable, widths
from service.cli.tables import table

HEADINGS = ("trial", "state", "what", "top1_agreement", "run")
ROWS = [
    (0, "completed", "hard loss only", 0.4213, "244a9886"),
    (11, "stopped_early", "forward_kl policy=cist rho_per_log_vocab=0.6295", 0.5, "320c1220"),
]
WORDS = {word for row in (HEADINGS, *ROWS) for cell in row for word in str(cell).split()}


def lines(view: RenderableType, width: int) -> list[str]:
    file = StringIO()
    Screen(file=file, width=width).print(view, crop=False)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", range(24, 120))
def test_every_word_is_whole_at_every_width(width: int) -> None:
    shown = lines(table("trials", HEADINGS, ROWS), width)
    assert {word for line in shown for word in line.split()} - {"trials"} == WORDS
    if width >= 41:  # the longest word behind its heading
        assert max(map(len, shown)) <= width


def test_columns_that_can_be_spared_go_from_the_last_and_are_named() -> None:
    view = table("", HEADINGS, ROWS, spared=("run", "state"))
    wide, narrow = lines(view, 90), lines(view, 62)
    assert wide[0].split() == list(HEADINGS)
    assert narrow[0].split() == ["trial", "what", "top1_agreement", "run"]
    assert narrow[-1] == "no room for: state"
    assert lines(view, 54)[-1] == "no room for: run, state"


def test_where_no_columns_fit_each_cell_has_a_line() -> None:
    shown = lines(table("", HEADINGS, ROWS), 40)
    assert shown[:5] == [
        "trial  0",
        "  state  completed",
        "  what  hard loss only",
        "  top1_agreement  0.4213",
        "  run  244a9886",
    ]


def test_columns_share_the_room_between_their_longest_word_and_their_longest_cell() -> None:
    needs = [Measurement(2, 4), Measurement(5, 30), Measurement(3, 30)]
    assert widths(needs, 100) == [4, 30, 30]
    assert widths(needs, 24) == [4, 10, 10]
    assert widths(needs, 11) == [3, 5, 3]
    assert widths(needs, 10) == [2, 5, 3]
    assert widths(needs, 9) is None


def test_a_short_value_stays_on_one_line() -> None:
    shown = lines(table("", ("size", "what"), [("1.2 GiB", "one two three four five")]), 20)
    assert shown[1].startswith("1.2 GiB  one two")


def test_a_text_with_a_word_wider_than_the_screen_is_not_wrapped() -> None:
    path = "/a/path/" + 60 * "x"
    shown = lines(Group(Text(f"picture: {path}"), Text("one two three four five six")), 20)
    assert shown == [f"picture: {path}", "one two three four", "five six"]


def test_a_table_says_how_wide_it_is() -> None:
    console = Screen(width=200)
    made = FittedTable(("a", "b"), [(Text("one two"), Text("x" * 20))])
    assert console.measure(made) == Measurement(29, 29)
