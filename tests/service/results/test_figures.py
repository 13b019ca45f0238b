"""The picture's content, read from the figure itself."""

import math
from html.parser import HTMLParser
from typing import Any

import pytest
from records_support import record_of

from service.record.records import RunRecord
from service.results.evidence import Evidence
from service.results.figures import COLOURS, page, temperature_figure, temperature_page
from service.results.report import report
from service.states import TrialState

HARD = {"tau": 1.0, "hard_weight": 1.0, "soft_weight": 0.0}


def sweep() -> list[RunRecord]:
    return [
        record_of(0, HARD, {"rouge_l": 0.1}, label="hard loss only"),
        record_of(1, {"tau": 4.0}, {"rouge_l": 0.2}),
        record_of(2, {"tau": 1.0}, {"rouge_l": 0.3}, state=TrialState.STOPPED_EARLY),
        record_of(3, {"divergence": "reverse_kl", "tau": 2.0}, {"rouge_l": 0.4}),
        record_of(4, {"tau": 1.0, "seed": 1}, {"rouge_l": 0.5}),
        record_of(5, {"policy": "cist", "rho_per_log_vocab": 1.0}, {"rouge_l": 0.25}),
        record_of(6, {"tau": 8.0}, {"rouge_l": math.nan}),
        record_of(7, {"tau": 8.0}, {}, state=TrialState.DIVERGED),
        record_of(8, {"policy": "fixed_teacher", "tau": 2.0}, {"rouge_l": 0.2}),
    ]


def evidence(records: list[RunRecord], *second: tuple[str, str]) -> Evidence:
    return Evidence(tuple(records), (("rouge_l", "maximize"), *second))


def drawn(records: list[RunRecord], *second: tuple[str, str]) -> dict[str, Any]:
    figure = temperature_figure(evidence(records, *second), title="toy <1>")
    found: dict[str, Any] = figure.to_plotly_json()
    return found


def traces(records: list[RunRecord], mode: str) -> list[tuple[str, str, list[float], list[float]]]:
    return [
        (one["name"], one.get("xaxis", "x"), list(one["x"]), list(one["y"]))
        for one in drawn(records)["data"]
        if one["mode"] == mode and not one["name"].startswith("best")
    ]


def test_a_line_per_divergence_through_completed_trials_with_cist_beside() -> None:
    assert traces(sweep(), "lines+markers") == [
        ("forward_kl", "x", [1.0, 4.0], [0.5, 0.2]),
        ("forward_kl, teacher only", "x", [2.0], [0.2]),
        ("reverse_kl", "x", [2.0], [0.4]),
        ("forward_kl", "x2", [1.0], [0.25]),
    ]


def test_every_finished_trial_is_a_mark_and_the_stopped_ones_are_open() -> None:
    marks = [one for one in drawn(sweep())["data"] if one["mode"] == "markers" and one.get("text")]
    assert sum(len(one["x"]) for one in marks) == 6
    first = marks[0]
    assert sorted(first["marker"]["symbol"]) == ["circle", "circle", "circle-open"]
    assert any("trial 2" in text and "stopped early" in text for text in first["text"])


def test_the_best_the_hard_loss_and_what_is_missing_are_marked() -> None:
    figure = drawn(sweep())
    (best,) = [one for one in figure["data"] if one["name"].startswith("best")]
    assert (best["name"], best["x"], best["y"]) == ("best", [1.0], [0.5])
    levels = figure["layout"]["shapes"]
    assert [(one["y0"], one["y1"]) for one in levels] == [(0.1, 0.1)] * 2
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < 0.1 and high > 0.5
    assert "not shown: 1 diverged, 1 without a value" in figure["layout"]["title"]["text"]


def test_a_stopped_trial_has_neither_star_nor_line() -> None:
    stopped = record_of(1, {"tau": 2.0}, {"rouge_l": 0.9}, state=TrialState.STOPPED_EARLY)
    figure = drawn([stopped, record_of(2, {"tau": 4.0}, {"rouge_l": 0.2})])
    (best,) = [one for one in figure["data"] if one["name"] == "best"]
    assert best["x"] == [4.0]
    (line,) = [one for one in figure["data"] if one["mode"] == "lines+markers"]
    assert list(line["x"]) == [4.0]
    alone = drawn([stopped])["data"]
    assert not [one for one in alone if one["name"] == "best"]
    assert [one["showlegend"] for one in alone if len(one["x"])] == [True], "it is in the legend"


def test_with_two_objectives_the_front_has_the_stars() -> None:
    rows = [(1.0, 0.3, 3.0), (2.0, 0.2, 2.0), (4.0, 0.1, 2.5)]
    records = [
        record_of(n, {"tau": tau}, {"rouge_l": text, "cross_entropy": loss})
        for n, (tau, text, loss) in enumerate(rows)
    ]
    figure = drawn(records, ("cross_entropy", "minimize"))
    (best,) = [one for one in figure["data"] if one["name"] == "best"]
    assert best["x"] == [1.0, 2.0]
    assert "star: on the Pareto front" in figure["layout"]["title"]["text"]


def test_what_was_found_first_stands_under_the_title() -> None:
    known = evidence([record_of(1, {"tau": 2.0}, {"rouge_l": 3.0, "rouge_l_shuffled": 4.0})])
    figure = temperature_figure(known, report(known), title="toy").to_plotly_json()
    title = figure["layout"]["title"]["text"]
    assert title.startswith("toy<br><sup>no text is better than chance")


def test_axes_say_what_they_are() -> None:
    layout = drawn(sweep())["layout"]
    assert layout["xaxis"]["title"]["text"] == "temperature tau (fixed)"
    assert layout["xaxis2"]["title"]["text"] == "CIST ratio rho / ln V"
    assert layout["xaxis"]["type"] == "log"
    assert layout["yaxis"]["title"]["text"] == "rouge_l (higher is better)"


def test_a_divergence_has_one_colour_on_both_sides_and_one_place_in_the_legend() -> None:
    lines = [one for one in drawn(sweep())["data"] if one["mode"] == "lines+markers"]
    forward = [one for one in lines if one["name"] == "forward_kl"]
    assert {one["line"]["color"] for one in forward} == {COLOURS[0]}
    assert [one["showlegend"] for one in forward] == [True, False]


@pytest.mark.parametrize("records", [[], [record_of(0, HARD, {"rouge_l": 0.1}, label="hard")]])
def test_a_sweep_without_temperatures_still_has_a_picture(records: list[RunRecord]) -> None:
    assert traces(records, "lines+markers") == []


class Scripts(HTMLParser):
    """Counts scripts, and those that would need a network."""

    def __init__(self) -> None:
        super().__init__()
        self.inline = 0
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "link", "img") and (found.get("src") or found.get("href")):
            self.fetched.append(tag)
        self.inline += tag == "script"


def test_the_page_needs_no_network_and_escapes_names() -> None:
    told = report(evidence(sweep()))
    text = temperature_page(evidence(sweep()), told, title="toy <1>")
    scripts = Scripts()
    scripts.feed(text)
    assert scripts.fetched == []
    assert text.count("<title>toy &lt;1&gt;</title>") == 1
    assert text == page(
        temperature_figure(evidence(sweep()), told, title="toy <1>"),
        "toy <1>",
    )
