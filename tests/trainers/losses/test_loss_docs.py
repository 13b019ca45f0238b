"""docs/losses.md names every row, parameter, default and scaling, and nothing else."""

import re
from pathlib import Path

import pytest

from trainers.trial.catalogue import DIVERGENCES, OPTIONS, POLICIES
from trainers.trial.traits import DivergenceTraits, OptionTraits, PolicyTraits

PAGE = Path(__file__).resolve().parents[3] / "docs" / "losses.md"


def _tables() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Rows of the three tables by name."""
    losses, _, rest = PAGE.read_text().partition("## Temperature policies")
    policies, _, options = rest.partition("## With any divergence and policy")
    found = []
    for text in (losses, policies, options.partition("\n## ")[0]):
        rows = re.findall(r"^\| `(\w+)` \|(.*)$", text, flags=re.MULTILINE)
        assert len(rows) == len(dict(rows))
        found.append(dict(rows))
    return found[0], found[1], found[2]


def test_tables_are_complete() -> None:
    losses, policies, options = _tables()
    assert set(losses) == set(DIVERGENCES)
    assert set(options) == set(OPTIONS)
    assert set(policies) == {str(policy) for policy in POLICIES}


ROWS = [
    *((0, name, row) for name, row in DIVERGENCES.items()),
    *((1, str(name), row) for name, row in POLICIES.items()),
    *((2, name, row) for name, row in OPTIONS.items()),
]


@pytest.mark.parametrize(
    ("table", "name", "row"), [pytest.param(*r, id=f"{r[0]}-{r[1]}") for r in ROWS]
)
def test_parameters_and_their_defaults_are_told(
    table: int, name: str, row: DivergenceTraits | PolicyTraits | OptionTraits
) -> None:
    text = _tables()[table][name]
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
    text = _tables()[1][str(policy)].split(" | ")[2]
    traits = POLICIES[policy]  # type: ignore[index]
    told = re.findall(r"`(\w+)`", text)
    assert told[0] == traits.default_scaling
    assert set(told) == {str(scaling) for scaling in traits.scalings}
