"""docs/losses.md names every row, parameter, default and scaling, and nothing else."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trainers.trial.catalogue import DIVERGENCES, OPTIONS, POLICIES
from trainers.trial.sequence_terms import SEQUENCE_TERMS, SequenceTraits
from trainers.trial.traits import DivergenceTraits, OptionTraits, PolicyTraits

PAGE = Path(__file__).resolve().parents[3] / "docs" / "losses.md"


TABLES: dict[str, Mapping[Any, DivergenceTraits | PolicyTraits | OptionTraits | SequenceTraits]] = {
    "Divergences and labelled terms": DIVERGENCES,
    "Temperature policies": POLICIES,
    "With any divergence and policy": OPTIONS,
    "Sequence terms": SEQUENCE_TERMS,
}


def _rows(heading: str) -> dict[str, str]:
    """Rows of the table under that heading by name."""
    _, _, text = PAGE.read_text().partition(f"## {heading}\n")
    rows = re.findall(r"^\| `(\w+)` \|(.*)$", text.partition("\n## ")[0], flags=re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return dict(rows)


@pytest.mark.parametrize("heading", TABLES)
def test_tables_are_complete(heading: str) -> None:
    assert set(_rows(heading)) == {str(name) for name in TABLES[heading]}


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        pytest.param(heading, name, id=f"{heading}-{name}")
        for heading, table in TABLES.items()
        for name in table
    ],
)
def test_parameters_and_their_defaults_are_told(heading: str, name: str) -> None:
    text, row = _rows(heading)[str(name)], TABLES[heading][name]
    for parameter, traits in row.parameters.items():
        assert f"`{parameter}`" in text
        default = traits.default
        if isinstance(default, bool):
            assert re.search(rf"`{parameter}`[^`]*\({str(default).lower()}\)", text)
        elif isinstance(default, float):
            shown = re.search(rf"`{parameter}`[^`(]*\(([\d.e-]+)\)", text)
            assert shown and float(shown[1]) == default


@pytest.mark.parametrize("policy", list(POLICIES), ids=str)
def test_scalings_are_told_with_the_default_first(policy: str) -> None:
    text = _rows("Temperature policies")[str(policy)].split(" | ")[2]
    traits = POLICIES[policy]  # type: ignore[index]
    told = re.findall(r"`(\w+)`", text)
    assert told[0] == traits.default_scaling
    assert set(told) == {str(scaling) for scaling in traits.scalings}
