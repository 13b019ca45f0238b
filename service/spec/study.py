"""A controlled study in the words of its document: cells, seeds and tuning, and what its cells may
not differ in. Pure.

A cell is a config whose seed is left open. Each entry of `cells` is a small grid, so that a study
is a union of grids: what one searched space with conditions would have to be taught stays readable.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from search_spaces.domains import Float, Int
from search_spaces.numbers import Scalar
from search_spaces.space import SearchSpace
from trainers.nearest import nearest
from trainers.trial.config import NOT_SEARCHABLE, TrialConfig
from trainers.trial.kinds import Positive, Seed
from trainers.trial.strict import Strict

MOST_CELLS = 10_000
MOST_SEEDS = 1_000
DEFAULT_SEEDS = 5
# Far from the seeds that a study has by count, or is extended by.
TUNING_SEED = 1_000_000

Value = Scalar | None  # None: not given, although a section gives it
Grid = Annotated[dict[str, Value | tuple[Value, ...]], Field(min_length=1)]

_BUDGET = "compared cells share their budget"
_SCHEDULE = "compared cells share their schedule"
_ALIKE = "compared cells are computed and evaluated alike"
# What a sweep may search and cells may not differ in, and why.
HELD: Mapping[str, str] = {
    "epochs": _BUDGET,
    "steps": _BUDGET,
    "batch_size": "compared cells share the order of their data",
    "gradient_accumulation": _BUDGET,
    "schedule": _SCHEDULE,
    "warmup": _SCHEDULE,
    "precision": _ALIKE,
    "gradient_checkpointing": _ALIKE,
    "attention_implementation": _ALIKE,
}
SEED = "seed"


class Tune(Strict):
    """A learning rate for each cell: the best by the objective on a seed that is not compared."""

    learning_rate: Annotated[
        tuple[Positive, ...], Field(min_length=2, max_length=100, description="those to try")
    ]
    seed: Annotated[Seed, Field(description="of the tuning trials, none of `seeds`")] = TUNING_SEED


def _check_shape(raw: Any) -> Any:
    """Says in the file's words what pydantic would say of each member of a union."""
    if not isinstance(raw, list | tuple) or not raw:
        raise ValueError(
            f"must be a list of mappings, but got {raw!r:.80}. Write it as [{{tau: [1, 2]}}]"
        )
    for index, grid in enumerate(raw):
        place = f"cells[{index}]"
        if not isinstance(grid, Mapping) or not grid:
            raise ValueError(
                f"{place}: must be a mapping of a trial's fields to a value or a list of values, "
                f"but got {grid!r:.80}. Write it as {{divergence: forward_kl, tau: [1, 2]}}"
            )
        for name, value in grid.items():
            listed = value if isinstance(value, list | tuple) else [value]
            if not listed or not all(isinstance(one, Value) for one in listed):
                raise ValueError(
                    f"{place}.{name}: must be text, a number, true, false, null, or a list of "
                    f"them, but got {value!r:.80}. Write it as [1, 2, 4]"
                )
    return raw


Cells = Annotated[tuple[Grid, ...], BeforeValidator(_check_shape)]


def _check_seeds(raw: Any) -> Any:
    listed = isinstance(raw, list | tuple)
    is_number = isinstance(raw, int) and not isinstance(raw, bool)
    if not (listed or is_number):
        raise ValueError(f"must be how many, or a list, but got {raw!r:.80}. Write it as 5")
    num = len(raw) if listed else raw
    if not 2 <= num <= MOST_SEEDS:
        raise ValueError(
            f"needs 2 to {MOST_SEEDS:,} seeds, since one alone gives no interval, but got {num}. "
            "Three show a large difference, eight a small one"
        )
    repeated = [one for index, one in enumerate(raw if listed else ()) if one in raw[:index]]
    if repeated:
        raise ValueError(
            f"a seed trained twice is no other measurement, but got {repeated[0]!r:.80} twice. "
            "Remove one"
        )
    return raw


Seeds = Annotated[int | tuple[Seed, ...], BeforeValidator(_check_seeds)]


def seeds_in(seeds: int | Sequence[int] | None) -> tuple[int, ...]:
    """Returns the seeds that a document means: so many from 0 on, those listed, or five."""
    if seeds is None or isinstance(seeds, int):
        return tuple(range(seeds or DEFAULT_SEEDS))
    return tuple(seeds)


def points_of(grids: Sequence[Mapping[str, Any]], space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yields the hyperparameters of each cell: of each grid in its order, the last name's values
    first, then of the full grid of `space` where it has names."""
    for grid in grids:
        values = [value if isinstance(value, tuple) else (value,) for value in grid.values()]
        for point in product(*values):
            yield dict(zip(grid, point, strict=True))
    if space.domains:
        yield from space.enumerate(1)


def check_grids(grids: Sequence[Mapping[str, Any]], space: SearchSpace) -> None:
    """Raises `ValueError` for a name in which cells may not differ, a range where a list is needed,
    or too many cells."""
    for index, grid in enumerate(grids):
        for name, value in grid.items():
            _check_name(f"cells[{index}].{name}", name, value)
    for name, domain in space.domains.items():
        _check_name(f"search.{name}", name, domain.text())
        if isinstance(domain, Float | Int):
            listed = ", ".join(f"{point:.3g}" for point in domain.points(5))
            raise ValueError(
                f"search.{name}: a study trains a list of cells, so that each value must be "
                f"listed, but got {domain.text()}. Write {{choice: [{listed}]}}."
            )
    num = sum(_num_points(grid) for grid in grids) + (space.size(1) or 0 if space.domains else 0)
    if num > MOST_CELLS:
        raise ValueError(
            f"cells: a study may have {MOST_CELLS:,} cells, but got {num:,}. List fewer values."
        )


def _num_points(grid: Mapping[str, Any]) -> int:
    return math.prod(len(value) if isinstance(value, tuple) else 1 for value in grid.values())


def _check_name(place: str, name: str, value: object) -> None:
    got = f"{list(value) if isinstance(value, tuple) else value!r}"[:80]
    if name == SEED:
        raise ValueError(
            f"{place}: every cell is trained on the same seeds, but got a cell with its own "
            f"({got}). Leave it out, and list them under seeds."
        )
    if name not in TrialConfig.model_fields:
        known = [one for one in TrialConfig.model_fields if why_held(one) is None]
        raise ValueError(
            f"{place}: a cell's names must be fields of a trial, but got '{name}'."
            f"{nearest(name, known)} Known: {', '.join(known)}."
        )
    reason = why_held(name)
    if reason is not None:
        raise ValueError(
            f"{place}: cells may not differ in it, since {reason}, but got {got}. Give it one "
            "value in its own section."
        )


def why_held(name: str) -> str | None:
    """Returns why the cells of a study may not differ in a field of a trial; None where they
    may."""
    if name == SEED:
        return "every cell is trained on the same seeds"
    return HELD.get(name) or NOT_SEARCHABLE.get(name)
