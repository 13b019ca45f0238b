"""The chart of the objective against the temperature, read from the figure itself."""

import math
from typing import Any

import pytest
from report_support import HARD, Made, search, source_of, study

from service.report.charts import OTHER
from service.report.page import Chart
from service.report.palette import NUM_SERIES
from service.report.temperature import temperature
from service.states import TrialState


def toy() -> list[Made]:
    return [
        Made(HARD, {"rouge_l": 0.1}, label="hard loss only"),
        Made({"tau": 4.0}, {"rouge_l": 0.2}),
        Made({"tau": 1.0}, {"rouge_l": 0.3}, TrialState.STOPPED_EARLY),
        Made({"divergence": "reverse_kl", "tau": 2.0}, {"rouge_l": 0.4}),
        Made({"tau": 1.0, "seed": 1}, {"rouge_l": 0.5}),
        Made({"policy": "cist", "rho_per_log_vocab": 1.0}, {"rouge_l": 0.25}),
        Made({"tau": 8.0}, {"rouge_l": math.nan}),
        Made({"tau": 8.0}, {}, TrialState.DIVERGED),
        Made({"policy": "fixed_teacher", "tau": 2.0}, {"rouge_l": 0.2}),
    ]


def drawn(trials: list[Made], **more: Any) -> dict[str, Chart]:
    section = temperature(source_of(trials, scores=False, **more))
    return {chart.name: chart for chart in section.charts}


def lines(chart: Chart) -> list[tuple[str, list[float], list[float]]]:
    found = [one for one in chart.figure["data"] if one["mode"] == "lines+markers"]
    return [(one["name"], list(one["x"]), list(one["y"])) for one in found]


def test_a_line_per_divergence_through_completed_trials_with_cist_beside() -> None:
    charts = drawn(toy())
    assert lines(charts["objective-tau"]) == [
        ("forward_kl", [1.0, 4.0], [0.5, 0.2]),
        ("forward_kl, teacher only", [2.0], [0.2]),
        ("reverse_kl", [2.0], [0.4]),
    ]
    assert lines(charts["objective-c"]) == [("forward_kl", [1.0], [0.25])]


def test_variants_have_lines_of_their_own_and_no_mean_over_them() -> None:
    cist = {"policy": "cist", "rho_per_log_vocab": 1.0}
    trials = [
        Made({"tau": 2.0}, {"rouge_l": 0.1}),
        Made({"tau": 2.0, "scaling": "none"}, {"rouge_l": 0.3}),
        Made(cist | {"detach_student_temperature": True}, {"rouge_l": 0.5}),
        Made(cist | {"detach_student_temperature": False}, {"rouge_l": 0.7}),
    ]
    charts = drawn(trials)
    assert lines(charts["objective-tau"]) == [
        ("forward_kl", [2.0], [0.1]),
        ("forward_kl, scaling none", [2.0], [0.3]),
    ]
    assert lines(charts["objective-c"]) == [
        ("forward_kl, detach student temperature", [1.0], [0.5]),
        ("forward_kl, not detach student temperature", [1.0], [0.7]),
    ]


def test_seeds_give_a_mean_with_its_interval() -> None:
    trials = [Made({"tau": 2.0, "seed": seed}, {"rouge_l": float(seed)}) for seed in range(4)]
    marks, line, *_ = drawn(trials)["objective-tau"].figure["data"]
    assert sorted(marks["y"]) == [0.0, 1.0, 2.0, 3.0]
    assert (line["x"], line["y"]) == ([2.0], [1.5])
    # Student's t for three degrees of freedom, from a table of it.
    assert line["error_y"]["array"] == [pytest.approx(3.18245 * math.sqrt(5 / 3) / 2, rel=1e-4)]


def test_configs_that_differ_otherwise_have_a_mean_and_no_interval() -> None:
    trials = [
        Made({"tau": 2.0, "learning_rate": rate}, {"rouge_l": value})
        for rate, value in ((1e-3, 1.0), (1e-2, 4.0))
    ]
    _, line, *_ = drawn(trials)["objective-tau"].figure["data"]
    assert (line["y"], "error_y" in line) == ([2.5], False)


def test_of_many_temperatures_the_line_goes_through_half_octaves() -> None:
    charts = drawn(search(300, ("forward_kl",)))
    ((_, places, means),) = lines(charts["objective-tau"])
    assert len(places) <= 9 and places == sorted(places)
    assert max(means) - min(means) < 12
    section = temperature(source_of(search(300)))
    assert "half octave" in section.text[0]


def test_every_finished_trial_is_a_mark_and_the_stopped_ones_are_open() -> None:
    data = drawn(toy())["objective-tau"].figure["data"]
    marks = [one for one in data if one.get("text")]
    assert sum(len(one["x"]) for one in marks) == 5
    assert sorted(marks[0]["marker"]["symbol"]) == ["circle", "circle", "circle-open"]
    assert any("trial 2" in text and "stopped early" in text for text in marks[0]["text"])


def test_the_best_the_hard_loss_and_what_is_missing_are_marked() -> None:
    section = temperature(source_of(toy(), scores=False))
    figure = section.charts[0].figure
    (ring,) = [one for one in figure["data"] if one["name"] == "best"]
    assert (ring["x"], ring["y"]) == ([1.0], [0.5])
    assert [shape["y0"] for shape in figure["layout"]["shapes"]] == [0.1]
    assert [one["text"] for one in figure["layout"]["annotations"]] == ["hard loss only"]
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < 0.1 and high > 0.5
    assert "Not shown: 1 diverged, 1 without a value." in section.text


def test_scores_of_the_models_are_levels_where_they_are_near() -> None:
    section = temperature(source_of(study()))
    names = [one["text"] for one in section.charts[0].figure["layout"]["annotations"]]
    assert names[:2] == ["hard loss only", "undistilled student"]
    assert "Beyond the picture: teacher 34." in section.text


def test_a_crossover_that_seeds_show_is_marked_with_its_interval() -> None:
    section = temperature(source_of(study(seeds=8)))
    figure = section.charts[0].figure
    (band,) = [one for one in figure["layout"]["shapes"] if one["type"] == "rect"]
    assert band["x0"] < 1.7 < band["x1"], "it was planted at 1.7"
    (label,) = [one for one in figure["layout"]["annotations"] if "crossover" in one["text"]]
    assert band["x0"] < 10 ** label["x"] < band["x1"]
    assert section.text[1].startswith("Crossover: reverse_kl is higher than forward_kl above tau ")
    (other,) = [chart.figure["layout"] for chart in section.charts[1:]]
    assert [one for one in other["shapes"] if one["type"] == "rect"] == []


def test_one_seed_shows_no_crossover() -> None:
    section = temperature(source_of(study(seeds=1)))
    assert section.text[1].startswith("Crossover: one seed each: whether reverse_kl passes")
    assert [
        one for one in section.charts[0].figure["layout"]["shapes"] if one["type"] == "rect"
    ] == []


def test_a_divergence_of_which_all_trials_were_stopped_is_in_the_legend() -> None:
    trials = [Made({"tau": tau}, {"rouge_l": tau}, TrialState.STOPPED_EARLY) for tau in (1.0, 2.0)]
    data = drawn(trials)["objective-tau"].figure["data"]
    assert [one["showlegend"] for one in data] == [True, False]


def test_charts_side_by_side_have_one_range() -> None:
    charts = drawn(study())
    ranges = [one.figure["layout"]["yaxis"]["range"] for one in charts.values()]
    assert len(charts) == 2 and ranges[0] == ranges[1]


def test_axes_say_what_they_are() -> None:
    layout = drawn(study())["objective-tau"].figure["layout"]
    assert layout["xaxis"]["title"]["text"] == "temperature tau"
    assert layout["yaxis"]["title"]["text"] == "rouge_l"
    assert layout["xaxis"]["type"] == "log"
    assert [float(text) for text in layout["xaxis"]["ticktext"]] == layout["xaxis"]["tickvals"]


def test_a_divergence_has_one_colour_everywhere_and_one_place_in_the_legend() -> None:
    charts = drawn(study())
    forward = [
        one
        for chart in charts.values()
        for one in chart.figure["data"]
        if one["name"] == "forward_kl"
    ]
    assert len({one["marker"]["color"] for one in forward}) == 1
    assert [one["showlegend"] for one in forward] == [False, True] * 2


def test_more_divergences_than_colours_are_others() -> None:
    names = [
        *("forward_kl", "reverse_kl", "jeffreys", "generalized_jsd", "skew_forward_kl"),
        *("skew_reverse_kl", "total_variation", "adaptive_kl", "alpha_beta"),
    ]
    data = drawn(study(names, taus=(1.0, 2.0), seeds=2))["objective-tau"].figure["data"]
    found = {one["name"] for one in data} - {"best"}
    assert OTHER in found and len(found) == NUM_SERIES + 1


def test_curves_that_may_cross_and_the_best_on_each_axis_have_colours_however_many_are_better() -> (
    None
):
    better = [
        *("jeffreys", "generalized_jsd", "skew_forward_kl", "skew_reverse_kl"),
        *("total_variation", "adaptive_kl", "alpha_beta", "token_wise"),
    ]
    trials = []
    for seed in range(2):
        for place, name in enumerate([*better, "forward_kl", "reverse_kl"]):
            for tau in (1.0, 2.0):
                given = {"divergence": name, "policy": "fixed", "tau": tau, "seed": seed}
                trials.append(Made(given, {"rouge_l": 0.9 - 0.02 * place - 0.01 * seed}))
        cist = {"policy": "cist", "rho_per_log_vocab": 1.0, "divergence": "concrete_score"}
        trials.append(Made(cist | {"seed": seed}, {"rouge_l": 0.1 + 0.01 * seed}))
    charts = drawn(trials)
    named = {one["name"] for one in charts["objective-tau"].figure["data"]}
    assert {"forward_kl", "reverse_kl", "jeffreys", OTHER} <= named
    assert [name for name, _, _ in lines(charts["objective-c"])] == ["concrete_score"]


def test_with_two_objectives_the_front_has_the_rings() -> None:
    rows = [(1.0, 0.3, 3.0), (2.0, 0.2, 2.0), (4.0, 0.1, 2.5)]
    trials = [
        Made({"tau": tau}, {"rouge_l": text, "cross_entropy": loss}) for tau, text, loss in rows
    ]
    section = temperature(source_of(trials, second=True, scores=False))
    (ring,) = [one for one in section.charts[0].figure["data"] if one["name"] == "best"]
    assert ring["x"] == [1.0, 2.0]
    assert section.text[0].endswith("ring: the Pareto front.")


def test_names_are_escaped_in_what_is_pointed_at() -> None:
    trial = Made({"tau": 1.0}, {"rouge_l": 1.0}, label="a <b> & c")
    marks = drawn([trial])["objective-tau"].figure["data"][0]
    assert "a &lt;b&gt; &amp; c" in marks["text"][0]


@pytest.mark.parametrize("trials", [[], [Made(HARD, {"rouge_l": 0.1}, label="hard")]])
def test_without_temperatures_there_is_a_sentence(trials: list[Made]) -> None:
    section = temperature(source_of(trials))
    assert section.charts == ()
    assert section.text[0] == "No finished trial has a temperature."


def test_a_trial_that_is_far_off_is_told_and_does_not_press_the_others_into_a_line() -> None:
    trials = [Made({"tau": 1.0 + n / 9}, {"rouge_l": 90.0 + n}) for n in range(9)]
    section = temperature(source_of([*trials, Made({"tau": 4.0}, {"rouge_l": 9.0})], scores=False))
    low, high = section.charts[0].figure["layout"]["yaxis"]["range"]
    assert 85 < low < 90 and high > 98
    assert "Beyond the picture: trial 9 9." in section.text
