"""What the command line shows of the best trials, and at the end of a run."""

from io import StringIO
from typing import Any, cast

import pytest
from records_support import record_of
from rich.console import Console, RenderableType

from service.actions.run_result import RunResult
from service.cli import asking
from service.cli.best_table import best_view, run_view, ui_command
from service.record.records import RunRecord
from service.results.best import Best, Row, references
from service.results.evidence import Evidence
from service.results.findings import sentences
from service.results.report import report
from service.results.standings import Standing
from service.states import TrialState


def shown(view: RenderableType) -> str:
    console = Console(record=True, width=160, file=StringIO())
    console.print(view)
    return console.export_text()


def best_of(records: list[RunRecord], **known: Any) -> Best:
    """The answer of one sweep that is given its rows."""
    evidence = Evidence(tuple(records), (("rouge_l", "maximize"),), **known)
    ranked = evidence.ranked("rouge_l")
    rows = [Row(one.typical, "rouge_l", "maximize", one) for one in ranked]
    stopped = [one for one in records if one.state is TrialState.STOPPED_EARLY]
    rows += [Row(one, "rouge_l", "maximize", None) for one in stopped]
    winners = {"rouge_l": ranked[0]} if ranked else {}
    return answer(evidence, tuple(rows), winners)


def answer(evidence: Evidence, rows: tuple[Row, ...], winners: dict[str, Standing]) -> Best:
    return Best(
        "rouge_l",
        "maximize",
        rows,
        winners,
        tuple(sentences(report(evidence))),
        evidence.objectives,
        references(evidence),
    )


WINNER = record_of(1, {"divergence": "reverse_kl", "tau": 2.0}, {"rouge_l": 30.0})


def result(state: TrialState = TrialState.COMPLETED, *, done_before: bool = False) -> RunResult:
    return RunResult("toy-1", state, "sqlite:////x.db", best_of([WINNER]), done_before=done_before)


def line_with(text: str, view: RenderableType) -> str:
    (line,) = [line for line in shown(view).splitlines() if text in line]
    return line


def test_the_end_of_a_run_says_what_was_found_before_its_table() -> None:
    text = shown(run_view(result()))
    told = text.index("reverse_kl tau=2 (trial 1) won: rouge_l 30")
    assert told < text.index("the winner under each metric")
    assert "mlflow ui --backend-store-uri sqlite:///" in text
    assert "go on: " not in text


def test_a_sweep_that_was_finished_says_how_to_run_it_afresh() -> None:
    text = shown(run_view(result(done_before=True)))
    assert "completed already; here is what it found" in text


def test_a_stopped_sweep_says_how_to_go_on() -> None:
    assert "go on: kd-sweep resume " in shown(run_view(result(TrialState.CANCELLED)))


def test_a_server_has_a_page_and_a_file_a_command() -> None:
    assert ui_command("http://host:5000") == "http://host:5000"
    command = "mlflow ui --backend-store-uri sqlite:////x.db"
    assert ui_command("sqlite:////x.db") == command


def test_the_table_has_what_trials_are_compared_with() -> None:
    record = record_of(1, {"tau": 2.0}, {"rouge_l": 30.0, "rouge_l_shuffled": 4.0})
    known = {"teacher": {"rouge_l": 35.5}, "undistilled": {"rouge_l": 10.25}}
    view = best_view(best_of([record], **known))
    assert line_with("undistilled student", view).split() == ["undistilled", "student", "10.25"]
    assert "35.5" in line_with("teacher  ", view)
    assert line_with("floor", view).split()[:2] == ["floor", "4"]


def test_a_config_with_seeds_has_its_mean_interval_and_trials() -> None:
    records = [
        record_of(seed, {"tau": 2.0, "seed": seed}, {"rouge_l": 30.0 + seed}) for seed in range(5)
    ]
    # Student's t with four degrees of freedom: 2.776 standard errors of sqrt(2.5 / 5).
    line = line_with("32 ± 2  ", best_view(best_of(records)))
    assert "tau=2  " in line and "0, 1, 2, 3, …" in line


def test_a_trial_that_early_stopping_ended_is_called_so() -> None:
    stopped = record_of(2, {"tau": 4.0}, {"rouge_l": 99.0}, state=TrialState.STOPPED_EARLY)
    view = best_view(best_of([WINNER, stopped]))
    assert shown(view).index("reverse_kl tau=2  ") < shown(view).index("tau=4 (stopped early)")


def test_groups_and_sweeps_have_a_column() -> None:
    rows = [
        Row(record, metric, "maximize", Standing("x", metric, (record,), 1.0), group=name)
        for name, metric, record in (("a", "rouge_l", WINNER), ("b", "cross_entropy", WINNER))
    ]
    text = shown(best_view(Best("each sweep's objective", "", tuple(rows), {}, grouped_by="sweep")))
    assert "sweep" in text and "metric" in text and "cross_entropy" in text


def test_a_metric_that_ranks_no_trials_says_so() -> None:
    row = Row(WINNER, "loss", "", Standing("x", "loss", (WINNER,), 1.0))
    text = shown(best_view(Best("loss", "", (row,), {})))
    assert "the lowest loss first, which does not say which trial is better" in text


def test_two_objectives_are_both_named() -> None:
    objectives = (("rouge_l", "maximize"), ("cross_entropy", "minimize"))
    record = record_of(1, {"tau": 2.0}, {"rouge_l": 30.0, "cross_entropy": 2.5})
    evidence = Evidence((record,), objectives)
    row = Row(record, "rouge_l", "maximize", evidence.ranked("rouge_l")[0])
    found = answer(evidence, (row,), {})
    lines = shown(best_view(found)).splitlines()
    assert lines[0] == "maximize rouge_l, minimize cross_entropy: the Pareto front"
    assert line_with("run", best_view(found)).split()[:3] == ["what", "rouge_l", "cross_entropy"]


def test_nothing_to_show_is_said() -> None:
    assert "no finished trial has the metric rouge_l" in shown(best_view(best_of([])))


def scaled(trial: int, ratio: float) -> RunRecord:
    """A trial whose student's logits have that scale beside the teacher's."""
    metrics = {"rouge_l": 20.0 + trial, "logit_scale_ratio": ratio}
    return record_of(trial, {"tau": 1.0 + trial}, metrics)


def test_trials_that_are_warned_of_alike_share_a_line() -> None:
    records = [scaled(0, 0.4), scaled(1, 0.21), scaled(2, 1.0), scaled(3, 2.5)]
    warned = [line for line in shown(best_view(best_of(records))).splitlines() if line[:1] == "!"]
    (large, small) = warned[0], warned[1]
    assert large.startswith("! toy-1a2b3c4d/3: the student's logits are 2.5 times as large")
    assert small.startswith(
        "! toy-1a2b3c4d/1, toy-1a2b3c4d/0: the student's logits are 0.21 to 0.4"
    )


def test_json_without_a_row_says_what_was_found_beside_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = record_of(0, {}, {}, state=TrialState.FAILED, tags={"error": "KeyError: x"})
    monkeypatch.setattr(asking, "place_of", lambda context: None)
    monkeypatch.setattr(asking.actions.record, "best_trials", lambda *_, **__: best_of([failed]))
    asking.best(cast(Any, None), as_json=True)
    written = capsys.readouterr()
    assert written.out == "[]\n"
    assert "1 of 1 trials failed; trial 0: KeyError: x" in written.err
