"""What the command line shows of significance."""

from io import StringIO

import pytest
from rich.console import Console

from service.cli.significance_table import significance_view
from service.results.crossovers import CurvePair
from service.results.significance import Significance
from service.statistics.crossover import crossover
from service.statistics.family import Cell, against_control
from service.statistics.ranks import rank_cells

CELLS: dict[str, Cell] = {
    "control": {1: 1.0, 2: 1.5, 3: 1.2, 4: 1.3},
    "up": {1: 3.0, 2: 3.6, 3: 3.1, 4: 3.4},
    "down": {1: 0.1, 2: 0.5, 3: 0.4, 4: 0.3},
    "same": {1: 1.1, 2: 1.3, 3: 1.3, 4: 1.2},
    "pair": {1: 1.1, 2: 1.7},
    "lone": {7: 4.0},
}


def shown(cells: dict[str, Cell], direction: str = "maximize", width: int = 160) -> str:
    curves = ({1.0: {1: 0.0}, 2.0: {1: 0.0}}, {1.0: {1: 1.0}, 2.0: {1: -1.0}})
    crossing = crossover(*curves)
    assert crossing is not None
    found = Significance(
        "rouge_l",
        direction,
        against_control(cells, "control"),
        rank_cells(cells, sign=1),
        (CurvePair("forward_kl", "reverse_kl", "", crossing),),
        {"tau": 0.75, "seed": 0.25},
        ("a note",),
    )
    console = Console(record=True, width=width, file=StringIO())
    console.print(significance_view(found))
    return console.export_text()


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{name} "))


@pytest.mark.parametrize(
    ("direction", "up", "down"),
    [("maximize", "better", "worse"), ("minimize", "worse", "better"), ("", "higher", "lower")],
)
def test_each_config_has_its_verdict(direction: str, up: str, down: str) -> None:
    text = shown(CELLS, direction)
    assert up in line_of(text, "up") and down in line_of(text, "down")
    assert "not told apart" in line_of(text, "same")
    assert "too few seeds" in line_of(text, "pair")
    assert "untested" in line_of(text, "lone")
    assert "against control: 1.25 (95 % interval 0.9188 to 1.581), 4 seeds" in text


def test_what_else_the_seeds_say_stands_below() -> None:
    text = shown(CELLS)
    for part in (
        "mean ranks over 4 seeds: ",
        "not ranked, since they lack more than half of the seeds: pair, lone",
        "whether reverse_kl passes forward_kl",
        "came out best: tau 75%, seed 25%. Of what was tried alone",
        "a note",
        "p is corrected for 4 comparisons",
    ):
        assert part in text


def test_a_narrow_screen_keeps_the_verdict() -> None:
    text = shown(CELLS, width=60)
    assert "better" in line_of(text, "up") and "no room for:" in text


def test_of_many_configs_the_first_are_shown() -> None:
    cells: dict[str, Cell] = {f"c{n}": {1: float(n)} for n in range(100)} | {"control": {1: 0.0}}
    text = shown(cells)
    assert "70 more: --json has all" in text and "one seed, so no interval" in text
    ranked = shown({name: {1: cell[1], 2: cell[1] + 1} for name, cell in cells.items()})
    assert "and 93 more; p that all rank alike: < 0.0001" in ranked
