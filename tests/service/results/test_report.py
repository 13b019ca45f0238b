"""What is found of a sweep, and in which order it is said."""

import math
from typing import Any

import pytest
from findings_support import SPACE, evidence, found
from hypothesis import given, settings
from hypothesis import strategies as st
from records_support import record_of

from search_spaces.space import SearchSpace
from service.record.records import RunRecord
from service.results.evidence import Evidence
from service.results.findings import (
    AllAgree,
    AtFloor,
    Certainty,
    FewExamples,
    Front,
    NoResult,
    Outcome,
    Rivals,
    SeedsDifferAsMuch,
    StoppedAhead,
    TeacherNoBetter,
    sentences,
)
from service.results.report import report
from service.states import TrialState

HARD = {"divergence": "forward_kl", "tau": 1.0, "hard_weight": 1.0, "soft_weight": 0.0}
STOPPED = TrialState.STOPPED_EARLY


def sweep() -> list[RunRecord]:
    return [
        record_of(0, HARD, {"rouge_l": 20.0, "cross_entropy": 3.0}, label="hard loss only"),
        record_of(1, {"tau": 2.0}, {"rouge_l": 25.0, "cross_entropy": 2.0}, label="tau 2"),
        record_of(2, {"divergence": "reverse_kl"}, {"rouge_l": 30.0, "cross_entropy": 2.5}),
        record_of(3, {"tau": 4.0}, {"rouge_l": 28.0, "cross_entropy": 1.5}),
        record_of(4, {"tau": 8.0}, {"rouge_l": math.nan}),
        record_of(5, {"tau": 9.0}, {"rouge_l": 90.0}, state=TrialState.DIVERGED),
    ]


def said(records: list[RunRecord], metric: str = "rouge_l", **known: Any) -> list[str]:
    return sentences(report(evidence(records, metric, **known)))


def repeated(first: int, tau: float, values: list[float], label: str | None = None) -> list[Any]:
    """A config with a trial for each value, seeds from 0."""
    return [
        record_of(first + seed, {"tau": tau, "seed": seed}, {"rouge_l": value}, label=label)
        for seed, value in enumerate(values)
    ]


def test_the_end_says_what_won_how_sure_and_who_objects() -> None:
    assert said(sweep()) == [
        "reverse_kl (trial 2) won: rouge_l 30, 5 better than the best control, tau 2 (trial 1)",
        "one seed each: how much of the difference is luck is not known. Train both again on the "
        "same fresh seeds before you rely on it",
        "other metrics name other winners: tau=4 (trial 3) under cross_entropy",
    ]


def test_a_gain_is_positive_in_both_directions() -> None:
    outcome = found(Outcome, sweep(), metric="cross_entropy")
    assert (outcome.winner.name, outcome.control.name) == ("tau=4", "tau 2")
    assert outcome.gain == pytest.approx(0.5)


def test_a_winner_under_all_metrics_is_called_so() -> None:
    records = [record for record in sweep() if record.trial != 2]
    assert said(records)[-1] == "it also wins under every other metric"


def test_controls_that_are_not_beaten_are_said_so() -> None:
    records = [*sweep()[:2], record_of(2, {"tau": 3.0}, {"rouge_l": 22.0})]
    assert said(records)[0] == (
        "no searched config beat the best control, tau 2 (trial 1) (rouge_l 25); the nearest is "
        "tau=3 (trial 2) with rouge_l 22"
    )


def test_equal_and_missing_controls() -> None:
    equal = [sweep()[1], record_of(2, {"tau": 3.0}, {"rouge_l": 25.0})]
    assert "as good as the best control" in said(equal)[0]
    alone = [record_of(2, {"tau": 3.0}, {"rouge_l": 25.0})]
    assert said(alone) == [
        "tau=3 (trial 2) won: rouge_l 25; there is no control to compare it with"
    ]


def test_a_sweep_without_a_value_says_so() -> None:
    assert report(evidence([])) == (NoResult("rouge_l"),)
    failed = record_of(0, {}, {}, state=TrialState.FAILED, tags={"error": "File a\nKeyError: x"})
    assert said([failed]) == [
        "1 of 1 trials failed; trial 0: KeyError: x",
        "no searched trial completed with a finite rouge_l",
    ]


def test_a_config_wins_by_its_mean_over_seeds() -> None:
    control = record_of(9, {"tau": 4.0}, {"rouge_l": 20.0}, label="tau 4")
    steady, lucky = repeated(0, 1.0, [40.0, 41.0, 42.0]), repeated(3, 2.0, [60.0, 20.0, 21.0])
    outcome = found(Outcome, [*steady, *lucky, control])
    assert [one.trial for one in outcome.winner.trials] == [0, 1, 2]
    assert "rouge_l 41 on average over 3 seeds (95 % interval 38.52 to 43.48)" in outcome.sentence()
    assert "21 better than the best control, tau 4 (trial 9)" in outcome.sentence()


def test_a_config_is_never_compared_with_itself() -> None:
    searched = repeated(0, 1.0, [30.0, 31.0, 32.0, 33.0])
    itself = record_of(4, {"tau": 1.0, "seed": 4}, {"rouge_l": 34.0}, label="forward KL, tau 1")
    other = record_of(5, {"tau": 2.0}, {"rouge_l": 20.0}, label="forward KL, tau 2")
    outcome = found(Outcome, [*searched, itself, other])
    assert [one.trial for one in outcome.winner.trials] == [0, 1, 2, 3, 4]
    assert outcome.control.name == "forward KL, tau 2"
    alone = found(Outcome, [*searched, itself])
    assert alone.control is None


def test_winner_and_control_are_paired_by_seed() -> None:
    records = [
        *repeated(0, 1.0, [20.0, 21.0, 22.0], "a control"),
        *repeated(3, 2.0, [25, 26, 27.5]),
    ]
    certainty = found(Certainty, records)
    assert certainty.test.num_pairs == 3
    assert certainty.test.mean_difference == pytest.approx(31 / 6)
    assert "over 3 seeds" in certainty.sentence()
    one = [record_of(0, {"tau": 1.0}, {"rouge_l": 20.0}, label="a control"), *records[3:]]
    assert "share fewer than two seeds" in found(Certainty, one).sentence()


def test_a_control_that_can_be_paired_comes_before_a_lucky_seed() -> None:
    lucky = record_of(9, {"tau": 8.0}, {"rouge_l": 29.0}, label="lucky")
    steady = repeated(0, 1.0, [20.0, 21.0, 22.0], "steady")
    winner = repeated(3, 2.0, [25.0, 26.0, 27.5])
    assert found(Outcome, [lucky, *steady, *winner]).control.name == "steady"
    assert found(Outcome, [lucky, *steady[:1], *winner]).control.name == "lucky"


def test_the_best_of_many_configs_is_held_to_a_corrected_p() -> None:
    """Alone the winner would be more than chance; as the best of ten it is not."""
    control, winner = [20.0, 21.0, 22.0], [22.0, 22.6, 24.4]
    two = [*repeated(0, 1.0, control, "a control"), *repeated(3, 2.0, winner)]
    assert found(Certainty, two).sentence().endswith(": more than chance")
    others = [
        one
        for n in range(9)
        for one in repeated(6 + 3 * n, 3.0 + n, [value + 0.1 * n for value in (19.9, 21.2, 21.8)])
    ]
    certainty = found(Certainty, [*two, *others])
    assert certainty.num_tested == 10
    assert certainty.adjusted == pytest.approx(10 * certainty.test.p_value)
    assert "0.13 after Holm's correction for 10 comparisons: not told" in certainty.sentence()


# -- what speaks against


def text(value: float, floor: float, error: float | None = None, number: int = 1) -> RunRecord:
    metrics = {"rouge_l": value, "rouge_l_shuffled": floor}
    return record_of(number, {"tau": 2.0}, metrics | ({"rouge_l_error": error} if error else {}))


@pytest.mark.parametrize(
    ("value", "floor", "error", "is_said"),
    [(3.9, 4.1, None, True), (4.1, 4.1, None, True), (4.2, 4.1, None, False)]
    + [(4.2, 4.1, 0.06, True), (4.2, 4.1, 0.04, False)],
)
def test_text_at_its_floor_comes_first(
    value: float, floor: float, error: float | None, is_said: bool
) -> None:
    records = [text(value, floor, error), record_of(0, HARD, {"rouge_l": 1.0}, label="hard")]
    first = report(evidence(records))[0]
    assert isinstance(first, AtFloor) is is_said
    if is_said:
        assert f"{floor:g}, what its answers reach against" in first.sentence()
        assert any("(trial 1) came first" in line for line in said(records))
        assert not any("%" in line and "interval" not in line for line in said(records))


def test_the_floor_of_text_is_said_whatever_is_optimised() -> None:
    record = record_of(
        1, {"tau": 2.0}, {"top1_agreement": 0.4, "rouge_l": 3, "rouge_l_shuffled": 4}
    )
    kinds = [type(one) for one in report(evidence([record], "top1_agreement"))]
    assert kinds[:2] == [AtFloor, Outcome]


@pytest.mark.parametrize(
    ("teacher", "undistilled", "is_said"),
    [
        ({"rouge_l": 20.0}, {"rouge_l": 10.0}, False),
        ({"rouge_l": 20.0}, {"rouge_l": 20.0}, True),
        ({"rouge_l": 19.0}, {"rouge_l": 20.0}, True),
        ({"rouge_l": 20.3}, {"rouge_l": 20.0}, True),
        ({"rouge_l": 25.0, "rouge_l_error": 2.0}, {"rouge_l": 20.0, "rouge_l_error": 2.0}, True),
        ({"rouge_l": 25.0, "rouge_l_error": 1.0}, {"rouge_l": 20.0, "rouge_l_error": 1.0}, False),
        ({}, {"rouge_l": 20.0}, False),
    ],
)
def test_a_teacher_that_is_hardly_better_is_said(
    teacher: dict[str, float], undistilled: dict[str, float], is_said: bool
) -> None:
    known = {"teacher": teacher, "undistilled": undistilled}
    assert (found(TeacherNoBetter, sweep(), **known) is not None) is is_said


def test_the_noise_of_the_teachers_lead_is_named() -> None:
    scores = [{"rouge_l": value, "rouge_l_error": 1.5} for value in (5.5, 3.5)]
    told = found(TeacherNoBetter, sweep(), teacher=scores[0], undistilled=scores[1])
    assert "(rouge_l 5.5 against 3.5, of which 4.243 may be noise)" in told.sentence()


def test_what_compares_with_the_teacher_does_not_judge_it() -> None:
    """A student agrees less with the teacher than the teacher itself does, however bad that is."""
    records = [record_of(1, {"tau": 2.0}, {"top1_agreement": 0.4})]
    known: dict[str, Any] = {"undistilled": {"top1_agreement": 0.1, "cross_entropy": 3.0}}
    worse = found(
        TeacherNoBetter, records, metric="top1_agreement", teacher={"cross_entropy": 3.5}, **known
    )
    assert worse.metric == "cross_entropy"
    better = {"cross_entropy": 2.0}
    assert not found(TeacherNoBetter, records, metric="top1_agreement", teacher=better, **known)


@pytest.mark.parametrize(("lowest", "is_said"), [(0.995, True), (0.98, False)])
def test_trials_that_all_agree_with_the_teacher_are_said(lowest: float, is_said: bool) -> None:
    records = [
        record_of(n, {"tau": n + 1.0}, {"rouge_l": 30.0 + n, "top1_agreement": value})
        for n, value in enumerate([lowest, 1.0])
    ]
    assert (found(AllAgree, records) is not None) is is_said


def test_configs_that_differ_by_no_more_than_seeds_are_said() -> None:
    noise = [*repeated(0, 1.0, [30.0, 34.0, 38.0]), *repeated(3, 2.0, [31.0, 35.0, 39.0])]
    told = found(SeedsDifferAsMuch, noise)
    assert (told.spread.within, told.spread.between) == (4.0, pytest.approx(0.5**0.5))
    clear = [*repeated(0, 1.0, [30.0, 31.0, 32.0]), *repeated(3, 2.0, [50.0, 51.0, 52.0])]
    assert found(SeedsDifferAsMuch, clear) is None
    assert found(SeedsDifferAsMuch, sweep()) is None, "no config was repeated"


@pytest.mark.parametrize(
    ("error", "prompts", "examples", "is_said"),
    [
        (1.0, 24, None, False),  # the lead is 5
        (2.0, 1000, None, True),
        (None, 24, None, True),
        (None, 100, None, False),
        (None, 500, 40, True),
    ],
)
def test_few_prompts_are_said(
    error: float | None, prompts: int, examples: int | None, is_said: bool
) -> None:
    records = sweep()
    records[2].config["generation_prompts"] = prompts
    if error:
        records[2].metrics["rouge_l_error"] = error
    told = found(FewExamples, records, num_examples=examples)
    assert (told is not None) is is_said
    if told is not None:
        assert f"{min(prompts, examples or prompts)} prompts are few" in told.sentence()


def test_few_examples_count_for_metrics_without_text_too() -> None:
    few = found(FewExamples, sweep(), metric="cross_entropy", num_examples=8)
    assert "8 validation examples are few" in few.sentence()
    assert found(FewExamples, sweep(), metric="cross_entropy", num_examples=200) is None


def test_a_trial_that_early_stopping_ended_never_wins() -> None:
    records = [*sweep(), record_of(6, {"tau": 3.0}, {"rouge_l": 99.0}, state=STOPPED)]
    assert found(Outcome, records).winner.trials[0].trial == 2
    assert found(StoppedAhead, records) == StoppedAhead(6, "rouge_l", 99.0)
    assert (
        found(StoppedAhead, [*sweep(), record_of(6, {}, {"rouge_l": 9.0}, state=STOPPED)]) is None
    )


def test_two_objectives_end_with_their_front() -> None:
    objectives = (("rouge_l", "maximize"), ("cross_entropy", "minimize"))
    told = report(Evidence(tuple(sweep()), objectives))
    (front,) = [one for one in told if isinstance(one, Front)]
    assert front.sentence() == (
        "the Pareto front of rouge_l and cross_entropy: reverse_kl (trial 2), rouge_l 30, "
        "cross_entropy 2.5; tau=4 (trial 3), rouge_l 28, cross_entropy 1.5"
    )
    assert not any(isinstance(one, Outcome | Rivals | Certainty) for one in told)


# -- whatever was recorded

VALUES = st.one_of(
    st.floats(0, 100),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0]),
    st.floats(-1e38, 1e38),
)
NAMES = ("rouge_l", "rouge_l_shuffled", "rouge_l_error", "top1_agreement", "cross_entropy")
METRICS = st.dictionaries(st.sampled_from(NAMES), VALUES)


@st.composite
def recorded(draw: st.DrawFn) -> list[RunRecord]:
    records = []
    for number in range(draw(st.integers(0, 12))):
        values: dict[str, Any] = {"tau": draw(st.sampled_from([0.5, 1.0, 2.0, 8.0]))}
        values["seed"] = draw(st.integers(0, 3))
        records.append(
            record_of(
                number,
                values,
                draw(METRICS),
                state=draw(st.sampled_from(TrialState)),
                label=draw(st.sampled_from([None, None, "a control"])),
            )
        )
    return records


@settings(max_examples=200, deadline=None)
@given(
    recorded(),
    st.sampled_from(["rouge_l", "cross_entropy", "loss"]),
    METRICS,
    METRICS,
    st.booleans(),
)
def test_whatever_was_recorded_has_an_end_that_is_true(
    records: list[RunRecord],
    metric: str,
    teacher: dict[str, float],
    undistilled: dict[str, float],
    has_two: bool,
) -> None:
    domains = SearchSpace.parse(SPACE).domains
    finite = [{k: v for k, v in one.items() if math.isfinite(v)} for one in (teacher, undistilled)]
    objectives = ((metric, "maximize"), *([("top1_agreement", "maximize")] if has_two else []))
    told = report(Evidence(tuple(records), objectives, *finite, domains, 200))
    assert told and all(one.sentence() for one in told)
    ends = [one for one in told if isinstance(one, Outcome | Front | NoResult)]
    assert len(ends) == 1, "one of them ends every sweep"
    if isinstance(ends[0], Outcome):
        check_outcome(ends[0], records, metric)


def check_outcome(outcome: Outcome, records: list[RunRecord], metric: str) -> None:
    """The winner completed, is another config than its control, and no config with as many seeds
    has a better mean."""
    winner, control = outcome.winner, outcome.control
    assert all(one.state is TrialState.COMPLETED for one in winner.trials)
    assert any(one.label is None for one in winner.trials)
    if control is not None:
        assert control.trials[0].config["tau"] != winner.trials[0].config["tau"]
    groups: dict[float, dict[int, tuple[float, str | None]]] = {}
    for one in records:
        value = one.metric(metric)
        if one.state is TrialState.COMPLETED and value is not None:
            groups.setdefault(one.config["tau"], {}).setdefault(one.seed, (value, one.label))
    for seeds in groups.values():
        if len(seeds) >= len(winner.trials) and any(label is None for _, label in seeds.values()):
            mean = math.fsum(value for value, _ in seeds.values()) / len(seeds)
            assert mean <= winner.mean or math.isclose(
                mean, winner.mean, rel_tol=1e-9, abs_tol=1e-9
            )
