"""What the report's page says of test sets: scores of chosen trials, and sets that wait for one."""

from collections.abc import Sequence
from dataclasses import replace

from report_support import search, source_of

from service.report.sections import make_page
from service.report.source import Source


def on_test_sets(source: Source) -> Sequence[str]:
    return next(one for one in make_page(source).sections if one.name == "test-sets").text


def test_what_chosen_trials_score_on_test_sets_is_reported_by_set() -> None:
    trials = search(8)
    for number, score in ((2, 21.5), (3, 20.25)):
        trials[number].metrics["test/self_inst/rouge_l"] = score
    trials[2].metrics["test/arc/easy/acc"] = 0.5
    page = make_page(source_of(trials))
    tables = {one.name: one for one in page.tables if one.name.startswith("test-")}
    assert tables.keys() == {"test-self_inst", "test-arc/easy"}
    scores = tables["test-self_inst"]
    at = scores.columns.index("rouge_l")
    assert [row.cells[at].value for row in scores.rows] == [21.5, 20.25]
    assert tables["test-arc/easy"].columns == ("trial", "config", "acc")
    assert all("test/" not in name for one in page.tables for name in one.columns)


def test_test_sets_that_wait_for_a_chosen_trial_are_named() -> None:
    trials = search(8)
    source = replace(source_of(trials), test_sets=("self_inst", "vicuna"))
    (waiting,) = on_test_sets(source)
    assert "No trial was reported on self_inst, vicuna yet: kd-sweep evaluate toy-1a2b" in waiting
    trials[2].metrics["test/self_inst/rouge_l"] = 21.5
    source = replace(source_of(trials), test_sets=("self_inst", "vicuna"))
    _, waiting = on_test_sets(source)
    assert "No trial was reported on vicuna yet" in waiting
