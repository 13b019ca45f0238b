"""What a plan says a sweep will take: ranges, and where they come from."""

from typing import Any

import pytest

from service.plan.estimates import InputFacts, estimate_sweep
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.spec.document import SweepSpec
from service.spec.parse import parse_spec
from trainers.tasks import table

LAPTOP = Resources(num_cpus=4, disk_free=100 * 1024**3)
KNOWN = InputFacts(
    num_train_examples=1000,
    num_train_tokens=50_000,
    vocab_size=1000,
    teacher_parameters=10_000_000,
    student_parameters=1_000_000,
    teacher_hidden_size=64,
    teacher_entropy_share=0.3,
)
DOCUMENT: dict[str, Any] = {
    "name": "plan",
    "teacher": {"model": "teacher"},
    "student": {"model": "student"},
    "data": {"train": "a", "validation": "b"},
    "search": {"tau": {"float": [0.5, 8], "log": True}},
    "trials": 10,
}


def spec(**fields: Any) -> SweepSpec:
    return parse_spec(DOCUMENT | fields)


def plan(*, facts: InputFacts = KNOWN, **fields: Any) -> SweepPlan:
    return make_plan(spec(**fields), facts, LAPTOP, code_version="1")


def test_tokens_follow_the_budget() -> None:
    assert plan(training={"epochs": 3}).estimate.tokens_per_trial == 150_000
    in_steps = plan(training={"steps": 10, "batch_size": 20}).estimate
    assert in_steps.tokens_per_trial == 10_000
    assert in_steps.tokens == 140_000


def test_trials_of_fewer_examples_take_less_and_fits_do_not() -> None:
    data = DOCUMENT["data"] | {"student_examples": 100}
    whole, some = (plan(data=each, training={"epochs": 3}) for each in (DOCUMENT["data"], data))
    assert some.estimate.tokens_per_trial == 15_000
    assert some.sweep_id != whole.sweep_id
    sizes = [each.estimate.teacher_cache_bytes for each in (whole, some)]
    head = 64 * 1000 * 4
    assert sizes == [50_000 * 64 * 4 + head, 5_000 * 64 * 4 + head]
    fit = {"model": "teacher", "fit": {"epochs": 1000}}
    of_fit = plan(
        data=data, teacher=fit, facts=KNOWN.model_copy(update={"teacher_entropy_share": None})
    )
    # 2 x 6 operations for each of 10 million weights and 50 million tokens, at 4 x the usual rate,
    # but for the output matrix, which prompts do not meet
    least = 6 * (2 * 1e7 - 64_000) * 5e7 / 30e9 / 4
    assert of_fit.estimate.duration_range_s is not None
    assert of_fit.estimate.duration_range_s[0] > least


def test_a_measured_trial_replaces_the_guess() -> None:
    measured = KNOWN.model_copy(update={"trial_s": 30.0})
    estimate = estimate_sweep(spec(), measured, trials=14, slots=2, gpus_per_worker=0)
    assert estimate.duration_s == 14 * 30 / 2
    assert estimate.cpu_hours == pytest.approx(14 * 30 / 3600)
    assert "earlier sweep" in estimate.basis


def time_row(**known: Any) -> tuple[float, float, str]:
    """Low and high of the sweep's time, in whole seconds, and where it comes from."""
    facts = KNOWN.model_copy(update={"start_s": 20.0, "num_validation_examples": 100} | known)
    stopping = {"kind": "successive_halving", "grace": 0.4}
    made = plan(facts=facts, early_stopping=stopping, teacher_cache={"mode": "online"})
    assert made.estimate.duration_range_s is not None
    low, high = made.estimate.duration_range_s
    return round(low), round(high), made.estimate.basis


def test_time_is_a_range_that_says_where_it_comes_from() -> None:
    # Slots: 4. At the least 4 controls and 10 trials that end at the second of five evaluations, so
    # 8 complete ones, 2 in each slot; at the most 14, 4 in one. A start took 20 s: between half as
    # much and half as much again.
    measured = {"trial_s": 30.0, "trial_range_s": (20.0, 60.0), "num_trials_measured": 9}
    low, high, source = time_row(**measured)
    assert (low, high) == (10 + 2 * 20, 30 + 4 * 60)
    assert source == "trials measured here, on 9 that an earlier sweep completed"
    # 1,000 examples at three times 0.01 s, and five evaluations of 4 s: 50 s.
    low, high, source = time_row(forward_s=1.0, evaluation_s=4.0)
    assert (low, high) == (10 + 2 * 25, 30 + 4 * 100)
    assert "measured while preparing, within a factor of 2" in source
    low, high, source = time_row()
    assert (
        "a guess from parameters × response tokens at 30 GFLOP/s a CPU, within a factor of 4"
        in source
    )
    assert high - 30 == pytest.approx(2 * 16 * (low - 10), rel=0.02)


def test_tokens_are_between_the_first_verdict_and_the_whole_budget() -> None:
    stopping = {"kind": "successive_halving", "grace": 0.4}
    assert plan(early_stopping=stopping).estimate.tokens_range == (8 * 50_000, 14 * 50_000)
    none = plan(early_stopping={"kind": "none"}).estimate
    assert none.tokens_range == (14 * 50_000, 14 * 50_000)
    searched = {"epochs": {"float": [1, 4]}}
    longer = plan(search=searched, early_stopping={"kind": "none"}).estimate
    assert longer.tokens_range == (14 * 50_000, 14 * 200_000)


def test_what_has_to_be_fitted_first_takes_its_time() -> None:
    fit = {"config": {"model_type": "gpt2"}, "fit": {"epochs": 10}}
    new = KNOWN.model_copy(update={"teacher_entropy_share": None})
    _, without = plan(facts=new).estimate.duration_range_s or (0, 0)
    _, fitted = plan(facts=new, teacher=fit).estimate.duration_range_s or (0, 0)
    # Ten million weights, 500,000 tokens, six operations, prompts as much again but for the output
    # matrix of 64 x 1000, off fourfold. 32 steps an epoch, whose fixed costs come on top
    steps_s = 10 * 32 * 0.02
    work = 6 * (2 * 1e7 - 64_000) * 5e5
    assert fitted - without == pytest.approx(4 * (work / 30e9 + steps_s))
    fit["fit"] = {"epochs": 10, "learn": "all"}
    _, whole = plan(facts=new, teacher=fit).estimate.duration_range_s or (0, 0)
    assert whole - fitted == pytest.approx(4 * 6 * 64_000 * 5e5 / 30e9), "logits of prompts, too"
    _, prepared = plan(teacher=fit).estimate.duration_range_s or (0, 0)
    assert prepared == without


def test_the_last_trials_of_a_time_budget_go_on_to_their_ends() -> None:
    known = {"trial_s": 30.0, "trial_range_s": (20.0, 60.0), "start_s": 20.0}
    made = plan(facts=KNOWN.model_copy(update=known), trials=None, time_budget_s=600)
    assert made.is_open_ended and not plan().is_open_ended
    low, high = made.estimate.duration_range_s or (0, 0)
    assert low <= 600 and high == 600 + 30 + 60


def test_a_time_budget_bounds_the_estimate() -> None:
    measured = KNOWN.model_copy(update={"trial_s": 30.0})
    made = plan(facts=measured, trials=None, time_budget_s=60, resources={"slots": 2})
    assert made.estimate.duration_s == 60
    assert made.estimate.tokens == 4 * 50_000


def test_nothing_known_is_said_not_guessed() -> None:
    estimate = plan(facts=InputFacts()).estimate
    assert estimate.duration_s is None
    assert estimate.tokens is None
    assert estimate.disk_bytes == 0


def test_a_model_from_a_config_is_counted_roughly() -> None:
    guess = table.task_named("causal_lm").guess_parameters
    config = {"model_type": "gpt2", "n_layer": 12, "n_embd": 768}
    assert guess(config, 50_257) == pytest.approx(124e6, rel=0.02)
    assert guess({}, 50_257) is None


IMAGES: dict[str, Any] = DOCUMENT | {
    "task": "image_classification",
    "data": {"train": "a", "validation": "b"},
    "training": {"epochs": 10, "batch_size": 50},
}
OF_IMAGES = InputFacts(
    num_train_examples=1000,
    num_train_tokens=1000,
    num_validation_examples=400,
    vocab_size=10,
    teacher_parameters=300_000,
    student_parameters=5_000,
    teacher_products=40_000_000,
    student_products=3_000_000,
    teacher_hidden_size=10,
)


def images(facts: InputFacts = OF_IMAGES, **sections: Any) -> SweepPlan:
    return make_plan(parse_spec(IMAGES | sections), facts, LAPTOP, code_version="1")


def test_images_are_guessed_from_the_products_of_their_models() -> None:
    online = images(teacher_cache={"mode": "online"}).estimate
    # 10,000 views forwards and backwards in the student, forwards in the teacher; 5 evaluations of
    # 400 images; 200 steps of at least 2 ms
    work = 10_000 * (6 * 3e6 + 2 * 4e7) + 5 * 400 * 2 * 3e6
    each_s = work / 30e9 + 200 * 0.002
    assert online.duration_s == pytest.approx(14 * each_s / 4)
    assert "operations × images" in online.basis
    cached = images().estimate
    assert cached.teacher_cache_s == pytest.approx(1400 * 2 * 4e7 / 30e9 / 4)
    assert cached.duration_s is not None and cached.duration_s < 0.5 * online.duration_s


def test_images_of_models_that_are_only_named_are_not_guessed() -> None:
    named = OF_IMAGES.model_copy(update={"student_products": None})
    assert images(named).estimate.duration_range_s is None
