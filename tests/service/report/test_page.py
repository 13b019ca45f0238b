"""The report's page: what it says of a study, of a search, and of sweeps with little in them."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from report_support import HARD, SEARCH, Made, metrics_of, search, source_of, study

from service.report.objectives import GAIN, MOST_ROWS
from service.report.page import Chart, Page, Section, Table
from service.report.sections import SECTIONS, make_page
from service.report.source import ExampleScores, TeacherCache
from service.results.evidence import Confirming
from service.states import TrialState


def table_of(page: Page, name: str) -> Table:
    return next(table for table in page.tables if table.name == name)


def column(table: Table, name: str) -> list[Any]:
    at = table.columns.index(name)
    return [row.cells[at].value for row in table.rows]


def texts(table: Table) -> dict[str, str]:
    return {row.cells[0].text: row.cells[1].text for row in table.rows}


def section_of(page: Page, name: str) -> Section:
    return next(section for section in page.sections if section.name == name)


def chart_of(page: Page, name: str) -> Chart:
    return next(chart for chart in page.charts if chart.name == name)


def test_it_reads_top_down() -> None:
    page = make_page(source_of(study()))
    assert [section.name for section in page.sections] == [
        "setting",
        "references",
        "temperature",
        "objectives",
        "entropy",
        "space",
        "curves",
        "cost",
        "failures",
    ]
    assert len(page.sections) == len(SECTIONS) - 3, "nothing looked at, no examples, no test set"
    assert page.subtitle.startswith("toy-1a2b3c4d · completed · 80 trials · maximize rouge_l")


def test_an_answer_that_seeds_confirm_says_so() -> None:
    answer = make_page(source_of(study())).answer
    assert answer.found.startswith("forward_kl policy=fixed tau=0.5 (trials")
    assert "better than the best control, hard loss only" in answer.found
    assert (answer.confidence, answer.verdict) == ("shown", "more than chance")
    assert answer.certainty.startswith("Paired by seed: difference +")
    assert answer.command == "kd-sweep best --sweep toy-1a2b3c4d"


def test_one_seed_is_unconfirmed() -> None:
    page = make_page(source_of(study(seeds=1)))
    assert page.answer.confidence == "unconfirmed"
    assert "was never trained on seeds that the search did not see" in page.answer.certainty
    assert page.answer.certainty.endswith("to find out: kd-sweep confirm toy-1a2b3c4d.")
    assert "nothing here shows luck" in " ".join(section_of(page, "setting").text)
    configs = table_of(page, "configs")
    assert "p" not in configs.columns and "95 % interval" not in configs.columns


def test_what_seeds_do_not_show_is_not_told_from_chance() -> None:
    rows = [
        Made({"tau": tau, "seed": seed}, {"rouge_l": 20.0 + value}, label=label)
        for tau, label, values in ((1.0, "forward KL, tau 1", (0, 1, 2)), (2.0, None, (2, 0, 2.5)))
        for seed, value in enumerate(values)
    ]
    answer = make_page(source_of(rows, scores=False)).answer
    assert (answer.confidence, answer.verdict) == ("chance", "not told from chance")


def test_a_doubt_comes_before_a_test() -> None:
    low = [Made(HARD, {"rouge_l": 9.0, "rouge_l_shuffled": 9.5}, label="hard loss only")]
    low.append(Made({"tau": 2.0}, {"rouge_l": 9.4, "rouge_l_shuffled": 9.5}))
    answer = make_page(source_of(low, scores=False)).answer
    assert answer.confidence == "doubtful"
    assert answer.certainty.startswith("No text is better than chance")


@pytest.mark.parametrize("state", ["running", "completed"])
def test_a_sweep_without_finished_trials_says_so(state: str) -> None:
    page = make_page(source_of([], state=state, scores=False))
    waits = "No trial has finished yet" if state == "running" else "There is no result"
    assert page.answer.found == f"{waits}: no searched trial completed with a finite rouge_l."
    assert (page.answer.confidence, page.charts) == ("none", ())
    assert "No trial is recorded yet." in section_of(page, "setting").text


def test_a_running_sweep_answers_so_far() -> None:
    page = make_page(source_of(search(30), state="running"))
    assert page.answer.found.startswith("So far: ")


def test_what_all_trials_share_is_told_from_what_was_varied() -> None:
    page = make_page(source_of(search(30), search=SEARCH))
    fixed, varied = texts(table_of(page, "fixed")), texts(table_of(page, "varied"))
    assert fixed["teacher"] == "gpt2, n_layer=4"
    assert (fixed["batch_size"], fixed["seed"]) == ("32", "0")
    assert varied.keys() == SEARCH.keys()
    assert not varied.keys() & fixed.keys()
    assert "learning_rate" not in texts(table_of(page, "fixed-more"))


def test_of_a_sweep_that_recorded_no_ranges_the_values_are_told() -> None:
    varied = texts(table_of(make_page(source_of(study())), "varied"))
    assert varied["divergence"] == "forward_kl, jeffreys, reverse_kl"
    assert varied["tau"] == "0.5, 1, 2, 4, 8"
    rates = texts(table_of(make_page(source_of(search(30))), "varied"))["learning_rate"]
    assert rates.endswith(" values") and " to " in rates


def test_teacher_student_controls_and_floor_stand_beside_the_best() -> None:
    page = make_page(source_of(study()))
    table = table_of(page, "references")
    names = [row.cells[0].text for row in table.rows]
    assert [name.partition(":")[0] for name in names] == [
        "teacher",
        "undistilled student",
        "hard loss only",
        "best",
        "floor",
    ]
    assert column(table, "rouge_l")[:2] == [34.0, 17.5]
    assert table.rows[0].cells[table.columns.index("top1_agreement")].text == "–"
    without = make_page(source_of(study(), scores=False))
    assert "are not in the record" in section_of(without, "references").text[0]


def test_each_config_stands_beside_the_control() -> None:
    rows = study(seeds=5)
    page = make_page(source_of(rows))
    table = table_of(page, "configs")
    names = [row.cells[0].text for row in table.rows]
    gains = dict(zip(names, column(table, GAIN), strict=True))
    control = [one.metrics["rouge_l"] for one in rows if one.label is not None]
    for name, values in (
        ("forward_kl policy=fixed tau=8", {"divergence": "forward_kl", "tau": 8.0}),
        ("reverse_kl policy=fixed tau=2", {"divergence": "reverse_kl", "tau": 2.0}),
    ):
        mine = [one.metrics["rouge_l"] for one in rows if values.items() <= one.values.items()]
        expected = sum(mine) / len(mine) - sum(control) / len(control)
        assert gains[name] == pytest.approx(expected)
    assert gains["hard loss only"] is None
    assert [row.role for row in table.rows].count("best") == 1


def test_significance_is_that_of_scipy_after_holm() -> None:
    from scipy.stats import ttest_rel

    rows = study(seeds=4)
    table = table_of(make_page(source_of(rows)), "configs")
    control = [one.metrics["rouge_l"] for one in rows if one.label is not None]
    cells: dict[str, list[float]] = {}
    for one in rows:
        if one.label is None:
            key = json.dumps({k: v for k, v in one.values.items() if k != "seed"})
            cells.setdefault(key, []).append(one.metrics["rouge_l"])
    plain = sorted(ttest_rel(values, control).pvalue for values in cells.values())
    adjusted, highest = [], 0.0
    for step, p_value in enumerate(plain):
        highest = max(highest, min(1.0, (len(plain) - step) * p_value))
        adjusted.append(highest)
    found = sorted(value for value in column(table, "p, corrected") if value is not None)
    assert found == pytest.approx(adjusted)


def test_ranks_over_seeds_are_told() -> None:
    table = table_of(make_page(source_of(study(seeds=4))), "ranks")
    assert table.rows[0].cells[0].text == "forward_kl policy=fixed tau=0.5"
    assert table.rows[-1].cells[1].value == 20.0
    assert "are not told apart" in table.note
    assert [one for one in make_page(source_of(study(seeds=1))).tables if one.name == "ranks"] == []


def test_less_is_better_where_the_objective_says_so() -> None:
    rows = [
        Made(HARD, {"rouge_l": 3.0}, label="hard loss only"),
        Made({"tau": 2.0}, {"rouge_l": 2.0}),
    ]
    source = source_of(rows, scores=False)
    evidence = source.evidence
    turned = type(evidence)(evidence.records, (("rouge_l", "minimize"),))
    page = make_page(type(source)(source.sweep, turned))
    table = table_of(page, "configs")
    assert column(table, GAIN) == [1.0, None]
    assert chart_of(page, "objective-tau").caption == "lower is better"


def test_of_many_configs_the_best_and_all_controls_are_shown() -> None:
    page = make_page(source_of(search(200), search=SEARCH))
    table = table_of(page, "configs")
    roles = [row.role for row in table.rows]
    assert len(table.rows) == MOST_ROWS + 2
    assert roles.count("control") == 2
    assert table.title.startswith(f"The {MOST_ROWS} best of ")
    groups = [row.cells[0].text for row in table_of(page, "divergences").rows]
    assert {"forward_kl", "forward_kl, CIST", "hard loss only"} <= set(groups)
    assert len(groups) == len(set(groups))


def test_failures_say_why_and_their_number() -> None:
    page = make_page(source_of(search(30)))
    table = table_of(page, "failures")
    assert [row.cells[0].value for row in table.rows] == [5, 22]
    assert {row.cells[3].text for row in table.rows} == {"CUDA out of memory"}
    calm = make_page(source_of(study()))
    assert section_of(calm, "failures").text == ("No trial failed, diverged or was cancelled.",)
    many = [Made({"tau": 1.0 + n}, state=TrialState.DIVERGED) for n in range(60)]
    long = table_of(make_page(source_of(many)), "failures")
    assert long.note == f"{60 - len(long.rows)} more are not shown."
    assert long.rows[0].cells[3].text == "the loss became NaN or infinite"


def test_a_drifting_logit_scale_is_warned_of() -> None:
    measured = metrics_of(30.0, 2.0) | {"logit_scale_ratio": 39.0}
    page = make_page(source_of([Made({"tau": 2.0}, measured)]))
    assert "39 times as large" in table_of(page, "warnings").rows[0].cells[3].text


def test_two_objectives_have_a_front_and_no_winner() -> None:
    page = make_page(source_of(search(40), search=SEARCH, second=True))
    assert page.answer.found.startswith("The Pareto front of rouge_l and cross_entropy: ")
    assert "nothing wins" in page.answer.certainty
    rest, front = chart_of(page, "pareto").figure["data"]
    others = list(zip(rest["x"], rest["y"], strict=True))
    members = list(zip(front["x"], front["y"], strict=True))
    assert members
    for text, loss in others:
        assert any(a >= text and b <= loss and (a, b) != (text, loss) for a, b in members)
    for text, loss in members:
        assert not any(a >= text and b <= loss and (a, b) != (text, loss) for a, b in others)


@pytest.mark.parametrize(
    "page",
    [
        make_page(source_of(study(), search=SEARCH)),
        make_page(source_of(search(60), search=SEARCH, second=True)),
        make_page(source_of([])),
    ],
)
def test_every_number_has_the_command_that_makes_it_again(page: Page) -> None:
    assert [one.name for one in (*page.charts, *page.tables) if not one.command] == []
    names = [one.name for one in (*page.charts, *page.tables)]
    assert len(names) == len(set(names))
    json.dumps(page.to_json(), allow_nan=False)


def test_numbers_that_are_none_stay_out() -> None:
    rows = [
        Made({"tau": 1.0}, {"rouge_l": math.nan, "cross_entropy": math.inf}),
        Made({"tau": 2.0}, {"rouge_l": 3.0, "cross_entropy": math.inf}),
        Made({"tau": 0.001}, {"rouge_l": -1e300}),
    ]
    page = make_page(source_of(rows, scores=False))
    json.dumps(page.to_json(), allow_nan=False)
    assert "1 without a value" in " ".join(section_of(page, "temperature").text)


def test_a_study_says_what_it_is_and_compares_no_tuning_trial() -> None:
    cells = [(tau, seed) for tau in (1.0, 2.0) for seed in (0, 1)]
    trials = [Made({"tau": tau, "seed": seed}, {"rouge_l": tau}) for tau, seed in cells]
    trials.append(Made({"tau": 2.0, "seed": 1_000_000}, {"rouge_l": 99.0}))
    source = source_of(trials, scores=False)
    *records, tuning = source.records
    sweep = replace(source.sweep, tags={"study": '{"cells": 2, "seeds": 2}', "confirms": "toy-1"})
    evidence = replace(source.evidence, records=tuple(records), sweep=sweep, tuning=(tuning,))
    page = make_page(replace(source, sweep=sweep, evidence=evidence))
    said = section_of(page, "setting").text[0]
    assert said.startswith("A controlled study: 2 cells on 2 seeds. It trains the best configs of ")
    assert "chosen on seed 1000000" in said
    marks = [one for one in chart_of(page, "objective-tau").figure["data"] if one.get("text")]
    assert 99.0 not in [value for one in marks for value in one["y"]]
    assert column(table_of(page, "configs"), "rouge_l") == [2.0, 1.0]
    assert "5 trials, one after another" in texts(table_of(page, "cost"))


@pytest.mark.parametrize(
    ("fresh", "verdict"),
    [((2.0, 2.1, 2.2), "confirmed"), ((-2.0, -2.1, -2.2), "refuted"), ((2.0, -2.0, 0.1), "chance")],
)
def test_what_fresh_seeds_show_decides_how_sure_a_search_is(
    fresh: tuple[float, ...], verdict: str
) -> None:
    source = source_of(search(20, ("forward_kl",)), search=SEARCH)
    winner, control = source.winner, source.control
    assert winner is not None and control is not None
    again = [
        replace(
            standing.typical,
            config=standing.typical.config | {"seed": 7 + seed},
            metrics={"rouge_l": 20.0 + gain * is_winner},
        )
        for standing, is_winner in ((winner, True), (control, False))
        for seed, gain in enumerate(fresh)
    ]
    evidence = replace(source.evidence, confirming=Confirming("again-1", tuple(again)))
    answer = make_page(replace(source, evidence=evidence)).answer
    assert answer.confidence == verdict
    assert "again-1" in answer.certainty


def test_a_study_that_lacks_trials_says_so_first() -> None:
    trials = study(seeds=3)
    trials[-1] = Made(trials[-1].values, state=TrialState.FAILED, error="memory")
    answer = make_page(source_of(trials)).answer
    assert "the grid is unbalanced" in " ".join(answer.against).lower()


def test_a_gain_is_of_the_seeds_that_both_have() -> None:
    mine = {"divergence": "reverse_kl", "tau": 2.0}
    rows = [
        one
        for one in study(seeds=4)
        if not (one.values["seed"] == 3 and mine.items() <= one.values.items())
    ]
    table = table_of(make_page(source_of(rows)), "configs")
    names = [row.cells[0].text for row in table.rows]
    gains = dict(zip(names, column(table, GAIN), strict=True))
    shared = [one for one in rows if one.values["seed"] < 3]
    ours = [one.metrics["rouge_l"] for one in shared if mine.items() <= one.values.items()]
    control = [one.metrics["rouge_l"] for one in shared if one.label is not None]
    expected = sum(ours) / 3 - sum(control) / 3
    assert gains["reverse_kl policy=fixed tau=2"] == pytest.approx(expected)


def test_what_decided_is_drawn_where_there_are_enough_trials() -> None:
    chart = chart_of(make_page(source_of(search(80), search=SEARCH)), "importance")
    (bars,) = chart.figure["data"]
    assert set(bars["y"]) <= SEARCH.keys()
    assert bars["x"] == sorted(bars["x"]) and sum(bars["x"]) == pytest.approx(1.0)
    few = make_page(source_of(search(12), search=SEARCH))
    assert [one for one in few.charts if one.name == "importance"] == []


def test_the_examples_that_gain_and_lose_most_are_shown_with_their_texts() -> None:
    source = source_of(study())
    gained = [3.0, -1.0, 0.0, 9.0, 1.0, 2.0, 4.0, 5.0, -8.0, -0.5]
    pairs = {100 + n: (20.0, 20.0 + gain) for n, gain in enumerate(gained)}
    texts = {103: "Name three animals. " * 20, 108: "Say no."}
    page = make_page(replace(source, examples=ExampleScores(pairs, texts)))
    said = section_of(page, "examples").text[0]
    assert "means over 4 seeds: of 10 examples" in said
    assert "6 gain, 3 lose and 1 are equal" in said
    ups, downs = table_of(page, "example-gains"), table_of(page, "example-losses")
    assert column(ups, GAIN) == [9.0, 5.0, 4.0, 3.0, 2.0]
    assert column(downs, GAIN) == [-8.0, -1.0, -0.5]
    assert column(downs, "control") == [20.0] * 3 and column(downs, "best") == [12.0, 19.0, 19.5]
    assert ups.rows[0].cells[0].text == (texts[103])[:89] + "…"
    assert [row.cells[0].text for row in downs.rows] == ["Say no.", "example 101", "example 109"]
    assert all(one.command for one in (ups, downs))


def test_an_example_gains_where_it_comes_down_under_a_metric_that_should() -> None:
    source = source_of(study())
    down = replace(source.evidence, objectives=(("rouge_l", "minimize"),))
    scores = ExampleScores({1: (3.0, 2.5), 2: (3.0, 3.1)})
    page = make_page(replace(source, evidence=down, examples=scores))
    assert column(table_of(page, "example-gains"), GAIN) == [0.5]
    assert column(table_of(page, "example-gains"), "example") == ["example 1"]
    assert column(table_of(page, "example-losses"), "example") == ["example 2"]


def test_scores_of_examples_that_no_trial_kept_are_said() -> None:
    page = make_page(replace(source_of(study()), examples=ExampleScores({})))
    assert "not known, since their trials keep none" in section_of(page, "examples").text[0]
    assert [one for one in page.tables if one.name.startswith("example")] == []


def test_cost_counts_what_the_teacher_was_asked_about_by_its_name() -> None:
    images = TeacherCache(build_s=1.0, tokens_held=12_000, tokens_read=120_000, named="images")
    page = make_page(replace(source_of(study()), cache=images))
    cost = section_of(page, "cost")
    assert any("asked once about 12,000 images;" in line for line in cost.text)
    assert any("read from the cache about 10 times" in line for line in cost.text)
