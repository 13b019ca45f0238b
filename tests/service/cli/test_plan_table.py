"""What a plan shows of time, tokens and scores."""

from io import StringIO
from typing import Any

import pytest
from fakes import make_document, make_study_document
from rich.console import Console

from service.cli.plan_table import plan_view
from service.plan.estimates import InputFacts
from service.plan.plan import make_plan
from service.plan.resources import Resources
from service.spec.parse import parse_spec

KNOWN: dict[str, Any] = {
    "num_train_examples": 1000,
    "num_train_tokens": 50_000,
    "teacher_entropy_share": 0.3,
    "trial_s": 30.0,
    "trial_range_s": (20.0, 60.0),
    "num_trials_measured": 9,
    "start_s": 20.0,
}


def row(name: str, facts: dict[str, Any], *, width: int = 200, **document: Any) -> str:
    """The row of the plan's table that begins with `name`."""
    spec = parse_spec(make_document(**document))
    plan = make_plan(spec, InputFacts(**facts), Resources(num_cpus=2), code_version="test")
    console = Console(record=True, width=width, file=StringIO())
    console.print(plan_view(plan))
    (line,) = [one for one in console.export_text().splitlines() if one.startswith(name)]
    return line.removeprefix(name).strip()


def test_time_and_tokens_are_ranges() -> None:
    stopping = {"kind": "successive_halving", "grace": 0.5}
    shown = {"early_stopping": stopping, "training": {"epochs": 1}}
    time = row("time", KNOWN, **shown)
    # Two slots, four trials: two complete ones at the least, one in each slot.
    assert time == "30 s to 2 min (trials measured here, on 9 that an earlier sweep completed)"
    tokens = row("learned from", KNOWN, **shown)
    assert tokens == "100,000 to 200,000 response tokens, 50,000 a complete trial"
    assert row("time", {}) == "not known yet"


def test_without_early_stopping_the_tokens_are_no_range() -> None:
    tokens = row("learned from", KNOWN, training={"epochs": 1})
    assert tokens.startswith("about 200,000 response tokens")


def test_the_error_of_a_cache_is_shown_or_that_it_is_measured_first() -> None:
    asked = {"teacher_cache": {"top_k": 64, "mode": "required"}, "search": {"tau": {"fixed": 1.0}}}
    bias = [{"policy": "fixed", "at": 1.0, "forward": 0.03, "reverse": 0.02}]
    facts = KNOWN | {"caches": [{"stored": "top64", "bias": bias}]}
    known = row("teacher's signal", facts, width=300, **asked)
    assert "off by at most 0.03 of itself (at tau 1, measured on a sample)" in known
    assert "measured first" not in known
    unknown = row("teacher's signal", KNOWN, width=300, **asked)
    assert unknown.endswith("how far that is off is measured first, and more than 0.05 refused")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("rouge_l", "teacher rouge_l 25.5, undistilled student rouge_l 10"),
        ("top1_agreement", "undistilled student top1_agreement 0.2"),
    ],
)
def test_what_is_scored_before_trials_is_shown(metric: str, expected: str) -> None:
    scores = {"rouge_l": 10.0, "top1_agreement": 0.2}
    facts = KNOWN | {"teacher_scores": {"rouge_l": 25.5}, "undistilled_scores": scores}
    assert row("before trials", facts, objective={"metric": metric}) == expected
    unknown = row("before trials", KNOWN, objective={"metric": metric})
    assert unknown == "teacher and undistilled student are scored once, as trials are"


def test_a_time_budget_alone_has_no_number_of_trials() -> None:
    budget = {"trials": None, "time_budget_s": 600, "controls": "default"}
    assert row("trials", {}, **budget) == "as many as begin within 10 min, and 4 controls"


def shown(**changes: Any) -> str:
    """All that is shown of a study's plan."""
    spec = parse_spec(make_study_document(**changes))
    plan = make_plan(spec, InputFacts(), Resources(num_cpus=2), code_version="test")
    console = Console(record=True, width=300, file=StringIO())
    console.print(plan_view(plan))
    return console.export_text()


def test_a_study_shows_its_cells_its_seeds_and_what_is_held_fixed() -> None:
    text = shown(cells=[{"tau": [2, 3]}], controls="default", seeds=[4, 7])
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0].startswith("study tiny-")
    assert "trials 10: 5 cells x 2 seeds" in lines
    assert "seeds 4, 7" in lines
    assert "1 hard loss only control" in lines
    assert "3 tau=2 control: forward KL, tau 2" in lines
    assert "5 tau=3" in lines
    (held,) = [line for line in lines if line.startswith("held fixed")]
    assert "initial weights, order of the data (by seed), steps 4, batch_size 32" in held
    assert "sampler" not in text


def test_a_tuned_study_shows_what_is_tried_before() -> None:
    text = shown(tune={"learning_rate": [0.001, 0.01], "seed": 9})
    assert "8: 2 cells x 2 rates to tune, then 2 cells x 2 seeds" in text
    assert "tuned for each cell on seed 9, which is not compared: 0.001, 0.01" in text
    given = shown(cells=[{"learning_rate": [0.001, 0.01]}])
    assert "as each cell says" in given


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # 1,000 responses of 20 tokens, 64 beside each other, 10 ms a step
        ({"teacher_parameters": 1}, "written once, about 3 s, and kept for later sweeps"),
        ({"teacher_parameters": 1, "num_teacher_tokens": 9000}, "there already"),
    ],
)
def test_who_writes_and_what_that_costs_is_shown(facts: dict[str, Any], expected: str) -> None:
    data = make_document()["data"] | {"teacher_text": {"max_tokens": 20, "temperature": 0.7}}
    shown = row("teacher's text", KNOWN | facts, data=data, text={"responses": "teacher"})
    assert shown.startswith("1,000 responses of up to 20 tokens to the training prompts")
    assert "at temperature 0.7" in shown and shown.endswith(expected)
