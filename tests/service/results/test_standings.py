"""How configs stand: by their means over seeds, and never by a lucky one."""

import math

import pytest
from records_support import record_of

from service.record.records import RunRecord
from service.results.standings import by_config, front, standings, trials_text
from service.states import TrialState


def trial(
    number: int,
    tau: float,
    value: float,
    *,
    seed: int = 0,
    state: TrialState = TrialState.COMPLETED,
) -> RunRecord:
    return record_of(number, {"tau": tau, "seed": seed}, {"rouge_l": value}, state=state)


def names(records: list[RunRecord], direction: str = "maximize") -> list[str]:
    return [one.name for one in standings(by_config(records), "rouge_l", direction)]


def test_the_mean_over_seeds_ranks_not_the_luckiest_seed() -> None:
    lucky = [trial(n, 1.0, value, seed=n) for n, value in enumerate([90.0, 10.0, 11.0])]
    steady = [trial(3 + n, 2.0, value, seed=n) for n, value in enumerate([40.0, 41.0, 42.0])]
    first, second = standings(by_config([*lucky, *steady]), "rouge_l", "maximize")
    assert (first.name, first.mean) == ("tau=2", 41.0)
    assert second.mean == 37.0
    # Student's t with two degrees of freedom: 4.303 standard errors of 1 / sqrt(3).
    assert first.high == pytest.approx(41 + 4.3027 / math.sqrt(3), rel=1e-4)
    assert first.typical.trial == 4
    assert names([*lucky, *steady], "minimize") == ["tau=1", "tau=2"]


def test_a_config_with_few_of_the_seeds_comes_behind() -> None:
    repeated = [trial(n, 1.0, 10.0 + n, seed=n) for n in range(3)]
    assert names([*repeated, trial(3, 2.0, 99.0)]) == ["tau=1", "tau=2"]
    twice = [trial(4, 2.0, 99.0), trial(5, 2.0, 98.0, seed=1)]
    assert names([*repeated, *twice]) == ["tau=2", "tau=1"]


@pytest.mark.parametrize("state", [one for one in TrialState if one is not TrialState.COMPLETED])
def test_only_what_completed_stands(state: TrialState) -> None:
    records = [trial(0, 1.0, 10.0), trial(1, 2.0, 99.0, state=state), trial(2, 3.0, math.nan)]
    assert names(records) == ["tau=1"]


def test_the_same_seed_again_is_no_other_measurement() -> None:
    (found,) = standings(
        by_config([trial(0, 1.0, 10.0), trial(1, 1.0, 10.0)]), "rouge_l", "maximize"
    )
    assert ([one.trial for one in found.trials], found.low) == ([0], None)


def test_of_equals_the_first_is_best() -> None:
    assert names([trial(2, 1.0, 5.0), trial(1, 2.0, 5.0)]) == ["tau=2", "tau=1"]


def test_a_front_holds_what_nothing_beats_in_both() -> None:
    rows = [(10.0, 3.0), (20.0, 4.0), (15.0, 5.0), (20.0, 4.5), (5.0, 2.0)]
    records = [
        record_of(n, {"tau": n + 1.0}, {"rouge_l": text, "cross_entropy": loss})
        for n, (text, loss) in enumerate(rows)
    ]
    ranked = standings(by_config(records), "rouge_l", "maximize")
    objectives = [("rouge_l", "maximize"), ("cross_entropy", "minimize")]
    assert [one.trials[0].trial for one in front(ranked, objectives)] == [1, 0, 4]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([3], "trial 3"),
        ([3, 7], "trials 3 and 7"),
        ([1, 2, 3, 4, 5, 6, 7], "trials 1, 2, 3, 4, 5 and 2 more"),
    ],
)
def test_trials_are_listed_in_words(numbers: list[int], text: str) -> None:
    assert trials_text(numbers) == text
