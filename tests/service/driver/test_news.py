"""What is told of a sweep, from its events alone."""

import re
from pathlib import Path
from typing import Any

from fakes import make_sweep_plan

from service.driver.news import Happened, News, Newsroom
from service.events import (
    DriverEvent,
    SweepEnded,
    SweepGoesOn,
    SweepSummary,
    TrialEnded,
    TrialStarted,
)
from service.states import TrialState

DONE = TrialState.COMPLETED


def news_of(*events: DriverEvent, **plan: Any) -> list[News]:
    newsroom = Newsroom(make_sweep_plan(**plan))
    return [news for event in events if (news := newsroom.take(event)) is not None]


def trial(number: int, value: float | None, state: TrialState = DONE) -> tuple[DriverEvent, ...]:
    values = {"divergence": "forward_kl", "tau": 2.0 + number}
    return TrialStarted(number, 0, None, values), TrialEnded(number, state, value)


def ended(state: TrialState, **counts: int) -> SweepEnded:
    return SweepEnded(SweepSummary("tiny-1", "run", state, counts, 0, 3.0, 9.0))


def test_a_new_best_is_told_and_a_worse_trial_is_not() -> None:
    events = (*trial(0, 3.0), *trial(1, 2.0), *trial(2, 3.0), *trial(3, 4.0))
    told = news_of(*events)
    assert [news.best.trial for news in told if news.best] == [0, 3]
    assert {news.event for news in told} == {Happened.NEW_BEST}
    assert told[1].title().endswith(": new best, rouge_l 4")
    lower = news_of(*events, objective={"metric": "cross_entropy"})
    assert [news.best.trial for news in lower if news.best] == [0, 1]


def test_a_sweep_that_goes_on_remembers_its_best() -> None:
    before = SweepGoesOn({"completed": 3}, 7, 3.5, None, {"divergence": "reverse_kl", "tau": 1.0})
    *told, _ = news_of(before, *trial(8, 3.0), *trial(9, 4.0), ended(DONE, completed=5))
    assert [news.best.trial for news in told if news.best] == [9]
    [stopped] = news_of(before, ended(TrialState.CANCELLED, completed=3))
    assert "best: rouge_l 3.5, trial 7: reverse_kl tau=1" in stopped.text()


def test_with_seeds_the_best_trial_is_not_called_the_best_config() -> None:
    before = SweepGoesOn({"completed": 3}, 7, 3.5, None, {"tau": 1.0, "seed": 2})
    [stopped] = news_of(before, ended(TrialState.CANCELLED, completed=3))
    assert "best trial, of one seed: rouge_l 3.5, trial 7" in stopped.text()


def test_a_trial_without_a_full_training_is_no_best() -> None:
    states = (TrialState.STOPPED_EARLY, TrialState.FAILED, TrialState.CANCELLED)
    assert news_of(*trial(0, 3.0, states[0]), *trial(1, None, states[1])) == []


def test_the_end_tells_config_score_states_and_how_to_go_on() -> None:
    *_, completed = news_of(*trial(0, 3.0), ended(DONE, completed=1, failed=2))
    sweep = completed.sweep_id
    assert completed.title() == f"{sweep}: completed"
    assert completed.text().splitlines() == [
        "best: rouge_l 3, trial 0: forward_kl tau=2",
        "trials: 1 completed, 2 failed",
        f"next: kd-sweep best --sweep {sweep}",
    ]
    [stopped] = news_of(ended(TrialState.CANCELLED, cancelled=1))
    assert (stopped.event, stopped.state) == (Happened.ENDED, TrialState.CANCELLED)
    assert stopped.text() == f"trials: 1 cancelled\nnext: kd-sweep resume {sweep}"


def test_a_failure_tells_its_reason_without_what_is_secret() -> None:
    error = 'Traceback:\n  File "a.py"\nOSError: no answer from https://me:hunter2@host'
    news = Newsroom(make_sweep_plan()).failed(error)
    assert news.title().endswith(": failed")
    assert "OSError: no answer from https://me:***@host\nnext: kd-sweep resume" in news.text()


def test_with_two_objectives_no_trial_is_best() -> None:
    two = {
        "objective": [{"metric": "rouge_l"}, {"metric": "cross_entropy"}],
        "sampler": {"kind": "nsgaii"},
    }
    [end] = news_of(*trial(0, 3.0), ended(DONE, completed=1), **two)
    assert (end.best, end.metric) == (None, "rouge_l, cross_entropy")


def test_the_plain_facts_are_environment_variables() -> None:
    [news] = news_of(*trial(0, 3.0))
    variables = news.variables()
    assert variables["KD_SWEEP_NEWS_EVENT"] == "new_best"
    assert variables["KD_SWEEP_NEWS_OBJECTIVE"] == "3.0"
    assert variables["KD_SWEEP_NEWS_TEXT"] == news.text()
    assert "KD_SWEEP_NEWS_ERROR" not in variables
    assert news.facts()["hyperparameters"] == {"divergence": "forward_kl", "tau": 2.0}


def test_the_documentation_names_every_fact_and_variable() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "notifications.md").read_text()
    [best] = news_of(*trial(0, 3.0))
    failed = Newsroom(make_sweep_plan()).failed("why")
    assert [name for name in best.facts() if f"`{name}`" not in page] == []
    written = set(re.findall(r"`(KD_SWEEP_NEWS_\w+)`", page))
    assert written == best.variables().keys() | failed.variables().keys()
    assert [event for event in Happened if f"`{event}`" not in page] == []
