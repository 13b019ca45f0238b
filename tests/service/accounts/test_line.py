"""Who is next in line: priority, then who had the least lately, then who came first; and quotas."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service.accounts.line import (
    Asked,
    Entry,
    Owner,
    Priority,
    Quota,
    gpu_hours,
    places,
    refusal,
)

NOW = datetime(2026, 12, 2, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR


def entry(name: str, user: str, ago: float, **asked: object) -> Entry:
    """One that waits, and came `ago` seconds before now."""
    return Entry(name, Asked(user=user, project=user, **asked), NOW - ago)  # type: ignore[arg-type]


def run(one: Entry, began: float, ended: float | None = None) -> Entry:
    """It began so many seconds before now, and ended."""
    return replace(one, began_at=NOW - began, ended_at=None if ended is None else NOW - ended)


def order(*entries: Entry) -> str:
    return "".join(one.entry.name for one in places(entries, {}, NOW))


def test_of_one_user_the_first_that_came_is_next() -> None:
    line = [entry("b", "anna", 1), entry("a", "anna", 2), entry("c", "anna", 0)]
    assert order(*line) == "abc"
    assert [one.num_before for one in places(line, {}, NOW)] == [0, 1, 2]
    assert [one.text() for one in places(line, {}, NOW)][:2] == [
        "is next",
        "waits for 1 before it",
    ]


def test_a_higher_priority_goes_first_whoever_had_more() -> None:
    low, high = Priority.LOW, Priority.HIGH
    had = run(entry("x", "otto", 9), 8 * HOUR, 1)
    line = [entry("a", "anna", 3, priority=low), entry("b", "anna", 2)]
    assert order(had, *line, entry("c", "otto", 1, priority=high)) == "cba"


def test_of_two_users_the_one_who_had_less_is_next() -> None:
    waiting = [entry("a", "anna", 9), entry("o", "otto", 1)]
    # Two slots for an hour are more than one for an hour and a half.
    anna = run(entry("x", "anna", 0, trials=2), 3 * HOUR, 2 * HOUR)
    otto = run(entry("y", "otto", 0), 3 * HOUR, 1.5 * HOUR)
    assert order(*waiting, anna, otto) == "oa"
    assert order(*waiting, anna, replace(otto, ended_at=None)) == "ao"  # three hours by now


def test_what_was_used_a_day_ago_counts_no_more() -> None:
    waiting = [entry("a", "anna", 9), entry("o", "otto", 1)]
    anna = run(entry("x", "anna", 0), 3 * DAY, DAY)
    assert order(*waiting, anna) == "ao"
    # Of one that lasted into the last day only that part does: an hour against two.
    otto = run(entry("y", "otto", 0), 2 * HOUR, 0.0)
    assert order(*waiting, replace(anna, ended_at=NOW - DAY + HOUR), otto) == "ao"


def test_who_hands_over_many_does_not_keep_the_others_waiting() -> None:
    many = [entry(str(number), "anna", 10 - number) for number in range(3)]
    assert order(*many, entry("o", "otto", 1), entry("p", "otto", 0)) == "0o1p2"


TWO = {(Owner.USER, "anna"): Quota(trials_at_once=3)}


def test_who_has_as_many_trials_as_they_may_lets_others_pass() -> None:
    running = run(entry("x", "anna", 9, trials=2), HOUR)
    line = [entry("a", "anna", 5, trials=2), entry("b", "anna", 4), entry("o", "otto", 1)]
    found = {one.entry.name: one for one in places([running, *line], TWO, NOW)}
    assert found["o"].held == found["b"].held == ""
    assert found["a"].held == ("until 1 fewer of the trials of user anna train: at most 3 at once")
    assert found["a"].text().startswith("waits for 2 before it; until 1 fewer")
    project = {(Owner.PROJECT, "anna"): Quota(trials_at_once=2)}
    other = replace(line[2], asked=replace(line[2].asked, project="anna"))
    assert "trials of project anna train" in places([running, other], project, NOW)[0].held


def test_a_months_gpu_hours_are_those_since_it_began() -> None:
    asked = Asked("anna", "anna", gpus=4.0)
    # From 30 November, 18:00, to 1 December, 6:00: six hours of four GPUs are this month's.
    over = Entry("a", asked, 0, NOW - 42 * HOUR, NOW - 30 * HOUR)
    going = Entry("b", asked, 0, NOW - 0.5 * HOUR)
    assert gpu_hours([over, going], NOW) == pytest.approx(4 * 6 + 4 * 0.5)
    quotas = {(Owner.USER, "anna"): Quota(gpu_hours=26)}
    waiting = Entry("c", asked, NOW)
    assert places([over, going, waiting], quotas, NOW)[0].text() == (
        "waits for 1 before it; until the next month: at most 26 GPU hours of user anna"
    )
    told = refusal(asked, [over, going], quotas, NOW)
    assert told == (
        "user anna: 26 GPU hours a month at most may be used, but got 26.0 this month. Wait for "
        "the next, or ask an admin."
    )
    assert refusal(replace(asked, gpus=0.0), [over, going], quotas, NOW) == ""
    january = datetime(2027, 1, 1, 1, tzinfo=UTC).timestamp()
    assert refusal(asked, [over], quotas, january) == ""


def test_what_can_never_begin_or_is_too_much_does_not_enter_the_line() -> None:
    anna = Asked("anna", "vision", trials=4)
    assert refusal(anna, [], {(Owner.PROJECT, "vision"): Quota(trials_at_once=3)}, NOW) == (
        "project vision: 3 trials at most may train at once, but got a sweep of 4 at once. Set "
        "resources.slots to fewer."
    )
    open_ones = [run(entry("a", "anna", 9), HOUR), entry("b", "anna", 1)]
    done = run(entry("c", "anna", 9), HOUR, 1)
    quotas = {(Owner.USER, "anna"): Quota(open_sweeps=2)}
    assert refusal(anna, [open_ones[0], done], quotas, NOW) == ""
    assert refusal(anna, open_ones, quotas, NOW).startswith("user anna: 2 sweeps at most may run")
    many = [entry(str(number), "anna", 1) for number in range(20)]
    assert refusal(anna, many[:19], {}, NOW) == ""
    assert "20 sweeps at most" in refusal(anna, many, {}, NOW)
