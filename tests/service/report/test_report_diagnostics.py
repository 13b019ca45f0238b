"""What the report says of why: the ladder of both KLs, and the last look at the best of each."""

from dataclasses import replace
from typing import Any

import pytest
from report_support import Made, metrics_of, search, source_of

from service.report.diagnostics import diagnostics, first_of_each
from service.report.entropy import entropy

TAUS = (0.5, 1.0, 2.0, 4.0)


def look(step: int, shift: float) -> dict[str, Any]:
    """A look whose shares are tau / 10 + shift; reverse KL's are twice those."""
    ladder = [
        {
            "tau": tau,
            "entropy_mean": tau,
            "entropy_std": 0.1,
            "forward_kl": {"off_top5": tau / 10 + shift, "vanishing": 0.0, "cosine": None},
            "reverse_kl": {"off_top5": tau / 5 + shift, "vanishing": 0.1},
        }
        for tau in TAUS
    ]
    return {"step": step, "num_positions": 512, "metrics": {}, "ladder": ladder}


FOUND = {"format": 1, "looks": [look(0, 0.0), {"step": 5, "metrics": {}}, look(9, 0.01)]}


def looked_at(policy: str, number: int, matched: float) -> Made:
    measured = metrics_of(20.0 + number, 2.0)
    measured |= {"probe/soft_entropy_std": 0.2, "probe/matched_entropy_std": matched}
    measured |= {"probe/off_top5": 0.25, "probe/soft_entropy_mean": 3.0}
    place = {"rho_per_log_vocab": 1.0} if policy == "cist" else {"tau": 2.0}
    return Made({"policy": policy, "seed": number} | place, measured)


def test_both_kls_are_drawn_against_tau_far_and_near() -> None:
    source = replace(source_of(search(20)), diagnostics={})
    best = first_of_each(source)[0].typical.trial
    section = diagnostics(replace(source, diagnostics={best: FOUND}))
    assert section is not None
    charts = {chart.name: chart.figure["data"] for chart in section.charts}
    assert charts.keys() == {"ladder-off_top5", "ladder-vanishing"}
    drawn = {one["name"]: (one["x"], one["y"]) for one in charts["ladder-off_top5"]}
    assert drawn["forward_kl, far"] == (list(TAUS), [tau / 10 for tau in TAUS])
    assert drawn["reverse_kl, near"][1] == [tau / 5 + 0.01 for tau in TAUS]
    assert len(drawn) == 4


@pytest.mark.parametrize("found", [{}, {"looks": []}, {"looks": [{"step": 0}]}])
def test_a_trial_that_was_not_looked_at_has_no_chart(found: dict[str, Any]) -> None:
    source = source_of(search(20))
    best = first_of_each(source)[0].typical.trial
    assert diagnostics(replace(source, diagnostics={best: found})) is None


def test_the_last_look_stands_as_a_mean_over_seeds() -> None:
    section = diagnostics(source_of([looked_at("cist", n, 0.4) for n in range(3)]))
    assert section is not None
    (table,) = section.tables
    assert "probe" == table.name and "hard_to_soft" not in table.columns
    (row,) = table.rows
    assert [cell.value for cell in row.cells[1:]] == pytest.approx([3.0, 0.2, 0.4, 0.25])


def test_the_spread_stands_beside_that_of_one_temperature() -> None:
    trials = [looked_at("cist", 0, 0.4), looked_at("fixed", 1, 0.2)]
    section = entropy(source_of(trials))
    assert section is not None
    chart = next(one for one in section.charts if one.name == "entropy-equal-mean")
    diagonal, cist, fixed = chart.figure["data"]
    assert diagonal["x"] == diagonal["y"] == [0, pytest.approx(0.42)]
    assert (cist["name"], cist["x"], cist["y"]) == ("cist", [0.4], [0.2])
    assert (fixed["x"], fixed["y"]) == ([0.2], [0.2])


def test_one_look_alone_is_far_and_not_near() -> None:
    source = source_of(search(20))
    best = first_of_each(source)[0].typical.trial
    section = diagnostics(replace(source, diagnostics={best: {"looks": [look(0, 0.0)]}}))
    assert section is not None
    assert {one["name"] for one in section.charts[0].figure["data"]} == {
        "forward_kl, far",
        "reverse_kl, far",
    }
