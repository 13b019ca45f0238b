"""The planner: pure, deterministic, and refusing what this machine can never run."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from service.errors import PlanError
from service.plan.estimates import InputFacts
from service.plan.measured import known_times, remember_times
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.plan.search_rows import search_rows
from service.spec.document import SweepSpec
from service.spec.parse import parse_spec
from trainers.trial.config import LOSS_FIELDS

GIB = 1024**3
LAPTOP = Resources(num_cpus=4, disk_free=100 * GIB)
SERVER = Resources(num_cpus=16, num_gpus=4, disk_free=100 * GIB)
KNOWN = InputFacts(
    num_train_examples=1000,
    num_train_tokens=50_000,
    vocab_size=1000,
    teacher_parameters=10_000_000,
    student_parameters=1_000_000,
    teacher_hidden_size=64,
    teacher_entropy_share=0.3,
    fingerprints={"text": "abc", "teacher": "def"},
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


FLAT = KNOWN.model_copy(update={"teacher_entropy_share": 0.61})
ALPHAS = {"alpha": {"choice": [0, 0.1], "when": {"divergence": "skew_forward_kl"}}}


def plan(
    *, facts: InputFacts = KNOWN, cluster: Resources = LAPTOP, code: str = "1", **fields: Any
) -> SweepPlan:
    return make_plan(spec(**fields), facts, cluster, code_version=code)


def rows_of(made: SweepPlan) -> list[dict[str, str]]:
    return search_rows(made.spec, made.facts.vocab_size)


def test_the_same_spec_gives_the_same_plan() -> None:
    assert plan() == plan()
    assert plan().sweep_id.startswith("plan-")


@pytest.mark.parametrize(
    "other",
    [
        {"trials": 11},
        {"search": {"tau": {"float": [0.5, 9], "log": True}}},
        {"training": {"seed": 1}},
        {"resources": {"workers_per_trial": 2}},
        {"code": "2"},
        {"facts": KNOWN.model_copy(update={"fingerprints": {"text": "abd"}})},
    ],
)
def test_what_decides_the_outcome_enters_the_id(other: dict[str, Any]) -> None:
    assert plan(**other).sweep_id != plan().sweep_id


def test_how_workers_share_the_student_enters_the_id() -> None:
    two = {"workers_per_trial": 2}
    ids = [plan(resources=two | more).sweep_id for more in ({}, {"sharding": "fsdp"})]
    assert ids[0] != ids[1] and plan(resources=two | {"sharding": "ddp"}).sweep_id == ids[0]


@pytest.mark.parametrize(
    "other",
    [
        {"cluster": SERVER},
        {"resources": {"slots": 1}},
        {"tracking": {"uri": "http://elsewhere"}},
        {"storage": {"path": "/elsewhere"}},
        {"data": {"train": "/moved/a", "validation": "/moved/b"}},
        {"teacher": {"model": "/moved/teacher"}},
        {"data": {"train": "a", "validation": "b", "test": {"t": "c"}}},
        {"facts": KNOWN.model_copy(update={"teacher_entropy_share": None})},
    ],
)
def test_where_it_runs_does_not_enter_the_id(other: dict[str, Any]) -> None:
    assert plan(**other).sweep_id == plan().sweep_id


def test_test_sets_reach_neither_what_is_prepared_nor_a_trial(tmp_path: Path) -> None:
    without = spec()
    own = spec(data={"train": "a", "validation": "b", "test": {"t": "c"}})
    assert own.data.test == {"t": "c"}
    assert own.prepare_request() == without.prepare_request()
    assert own.trial_config({"tau": 2.0}) == without.trial_config({"tau": 2.0})
    assert "test" not in without.model_dump(mode="json")["data"]
    remember_times(tmp_path, without, [3.0], start_s=None, sweep_id="plan-1")
    assert known_times(tmp_path, own) == known_times(tmp_path, without)


def test_a_plan_survives_json_and_pickle() -> None:
    made = plan(loss={"hard_weight": 0.4}, training={"epochs": 2})
    assert SweepPlan.model_validate_json(made.model_dump_json()) == made
    assert pickle.loads(pickle.dumps(made)) == made


def test_controls_are_named_counted_and_valid() -> None:
    made = plan(loss={"hard_weight": 0.4, "divergence": "generalized_jsd", "beta": 0.3})
    configs = {one.label: made.spec.trial_config(one.values) for one in made.controls}
    assert made.num_trials == 10 + len(configs) == 14
    assert configs["hard loss only"].soft_weight == 0
    assert configs["hard loss only"].hard_weight == 1
    assert [configs[f"forward KL, tau {tau}"].tau for tau in (1, 2, 4)] == [1, 2, 4]
    assert {config.divergence for config in configs.values()} == {"forward_kl"}
    assert configs["forward KL, tau 2"].hard_weight == 0.4
    assert configs["forward KL, tau 2"].beta is None


def test_controls_train_as_the_searched_trials_do() -> None:
    made = plan(training={"epochs": 2, "warmup": 0.05, "learning_rate": 1e-3})
    trial, *controls = (
        made.spec.trial_config(values).model_dump(exclude=set(LOSS_FIELDS))
        for values in ({"tau": 2.0}, *(one.values for one in made.controls))
    )
    assert len(controls) == 4 and all(control == trial for control in controls)


def test_controls_can_be_left_out() -> None:
    assert plan(controls="none").num_trials == 10


@pytest.mark.parametrize(
    ("fields", "searched"),
    [
        ({"trials": None}, 40),
        ({"trials": None, "time_budget_s": 60}, 10_000),
        ({"trials": 7, "time_budget_s": 60}, 7),
        ({"trials": 50, "sampler": {"kind": "grid", "points_per_range": 5}}, 5),
        ({"trials": 3, "sampler": {"kind": "grid", "points_per_range": 5}}, 3),
    ],
)
def test_the_number_of_trials(fields: dict[str, Any], searched: int) -> None:
    assert plan(controls="none", **fields).num_trials == searched


@pytest.mark.parametrize(
    ("cluster", "resources", "slots", "gpus"),
    [
        (LAPTOP, {}, 4, 0),
        (LAPTOP, {"slots": 2}, 2, 0),
        (LAPTOP, {"workers_per_trial": 2}, 2, 0),
        (LAPTOP, {"cpus_per_worker": 3}, 1, 0),
        (SERVER, {}, 4, 1),
        (SERVER, {"gpus_per_worker": 0.5}, 8, 0.5),
        (SERVER, {"gpus_per_worker": 0}, 14, 0),
        (Resources(num_cpus=64), {}, 14, 0),
    ],
)
def test_slots_fill_the_machine_and_no_more(
    cluster: Resources, resources: dict[str, Any], slots: int, gpus: float
) -> None:
    made = plan(cluster=cluster, resources=resources)
    assert (made.slots, made.gpus_per_worker) == (slots, gpus)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"slots": 5}, "slots x workers_per_trial x cpus_per_worker <= 4 .*got 5 x 1 x 1 = 5"),
        ({"workers_per_trial": 8}, "but got 1 x 8 x 1 = 8. Lower one"),
        ({"gpus_per_worker": 1}, "gpus_per_worker <= 0 .* but got 1 x 1 x 1 = 1"),
    ],
)
def test_more_than_the_machine_has_is_refused(resources: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(resources=resources)


def test_a_disk_too_small_is_refused_before_any_compute() -> None:
    small = LAPTOP.model_copy(update={"disk_free": 10**8})
    with pytest.raises(PlanError, match="^storage.path: the free disk must hold .*0.1 GiB free"):
        plan(cluster=small)


def test_what_is_prepared_is_what_the_spec_names() -> None:
    request = plan(teacher={"config": {"model_type": "gpt2"}}).spec.prepare_request()
    assert request.teacher.config == {"model_type": "gpt2"}
    assert (request.data.train, request.max_tokens) == ("a", 512)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"facts": FLAT, "search": {"tau": {"float": [1, 8]}}}, "teacher is flat"),
        ({"facts": FLAT, "search": {"tau": {"float": [0.5, 8]}}}, None),
        ({"loss": {"scaling": "none"}}, "scaling none with a searched tau"),
        ({"loss": {"scaling": "none", "hard_weight": 0}}, None),
        ({"loss": {"scaling": "none"}, "search": {"tau": {"fixed": 2}}}, None),
        ({"loss": {"scaling": "none"}, "search": {"tau": {"choice": [1]}}}, None),
        ({"loss": {"soft_weight": 0}}, "so that searching tau changes nothing"),
        ({"loss": {"soft_weight": 0}, "search": {"learning_rate": {"float": [1e-4, 1e-3]}}}, None),
        (
            {"loss": {"divergence": "alpha_beta", "alpha": -0.5}},
            "alpha_beta with alpha -0.5: a negative power of a small probability can overflow",
        ),
        (
            {
                "loss": {"policy": "cist"},
                "search": {"detach_student_temperature": {"choice": ["yes", "no"]}},
            },
            "logit scale to the hard loss alone",
        ),
        (
            {"search": {"divergence": {"choice": ["reverse_kl", "concrete_score"]}}},
            "concrete_score with weighting student has exactly the gradient of reverse_kl",
        ),
        (
            {
                "search": {
                    "divergence": {"choice": ["reverse_kl", "concrete_score"]},
                    "weighting": {
                        "fixed": "uniform_student",
                        "when": {"divergence": "concrete_score"},
                    },
                }
            },
            None,
        ),
        (
            {"search": {"divergence": {"choice": ["forward_kl", "skew_forward_kl"]}, **ALPHAS}},
            "skew_forward_kl with alpha 0.0 has exactly the gradient of forward_kl",
        ),
        (
            {
                "search": {
                    "divergence": {"choice": ["forward_kl", "skew_forward_kl"]},
                    "alpha": {"float": [0, 0.5], "when": {"divergence": "skew_forward_kl"}},
                }
            },
            None,
        ),
        (
            {
                "search": {
                    "policy": {"choice": ["fixed", "fixed_teacher"]},
                    "scaling": {"fixed": "none", "when": {"policy": "fixed_teacher"}},
                    "tau": {"float": [1, 4]},
                }
            },
            None,
        ),
        (
            {
                "sampler": {"kind": "gp"},
                "search": {
                    "divergence": {"choice": ["forward_kl", "generalized_jsd"]},
                    "beta": {"float": [0.1, 0.9], "when": {"divergence": "generalized_jsd"}},
                },
            },
            "beta would be drawn independently",
        ),
        ({"loss": {"scaling": "none"}, "search": {"policy": {"fixed": "fixed"}}}, None),
        (
            {
                "loss": {"policy": "cist", "detach_student_temperature": True},
                "search": {"rho": {"float": [2, 20]}},
            },
            "logit scale to the hard loss alone",
        ),
    ],
)
def test_what_is_allowed_but_doubtful_is_a_warning(
    fields: dict[str, Any], message: str | None
) -> None:
    warnings = plan(**fields).warnings
    assert len(warnings) == (message is not None)
    assert message is None or message in warnings[0]


@pytest.mark.parametrize(
    ("name", "domain", "shown"),
    [
        ("rho_per_log_vocab", {"float": [0.5, 2]}, "float 0.5 to 2 (rho 3.45 to 13.8)"),
        ("rho_per_log_vocab", {"choice": [0.5, 2]}, "one of 0.5, 2 (rho 3.45, 13.8)"),
        ("rho", {"float": [2, 9]}, "float 2 to 9 (rho_per_log_vocab 0.29 to 1.3)"),
    ],
)
def test_rho_and_its_share_of_the_vocabulary_stand_together(
    name: str, domain: dict[str, Any], shown: str
) -> None:
    (row,) = rows_of(plan(loss={"policy": "cist"}, search={name: domain}))
    assert row["domain"] == shown
    loss = {"policy": "cist", "rho": 7}
    *_, row = rows_of(plan(loss=loss, search={"hard_weight": {"choice": [0.1, 0.5]}}))
    assert (row["name"], row["domain"]) == ("rho", "given: 7.0 (rho_per_log_vocab 1.01)")


@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        ({"loss": {"policy": "cist"}, "search": {"hard_weight": {"choice": [0.1, 0.5]}}}, ""),
        ({"search": {"policy": {"choice": ["fixed", "cist"]}}}, "policy is cist"),
    ],
)
def test_the_rho_that_cist_has_by_default_is_shown(fields: dict[str, Any], condition: str) -> None:
    (row,) = [row for row in rows_of(plan(**fields)) if row["name"] == "rho_per_log_vocab"]
    assert (row["domain"], row["condition"]) == ("default: 1.0 (rho 6.91)", condition)
    (row,) = [
        row
        for row in rows_of(plan(facts=InputFacts(), **fields))
        if row["name"] == "rho_per_log_vocab"
    ]
    assert row["domain"] == "default: 1.0"


TAUS = {"tau": {"choice": [1, 2, 3]}}


@pytest.mark.parametrize(
    ("search", "loss", "repeated"),
    [
        (TAUS, {}, [1, 2]),
        (TAUS, {"hard_weight": 0.3}, [1, 2]),
        (TAUS, {"divergence": "reverse_kl"}, []),
        ({"tau": {"float": [1, 4], "step": 1}, "seed": {"choice": [0, 1]}}, {}, [1, 2, 4]),
        ({"tau": {"float": [0.5, 8]}}, {}, []),
        (TAUS | {"policy": {"fixed": "fixed"}, "divergence": {"fixed": "forward_kl"}}, {}, [1, 2]),
    ],
)
def test_a_control_on_the_grid_is_its_point(
    search: dict[str, Any], loss: dict[str, Any], repeated: list[int]
) -> None:
    made = plan(search=search, loss=loss, trials=None, sampler={"kind": "grid"})
    points = [*made.spec.search.enumerate(5)]
    shared = [control for control in made.controls if control.values in points]
    assert [control.label for control in shared] == [f"forward KL, tau {tau}" for tau in repeated]
    assert made.num_trials == len(points) + 4 - len(repeated)


def test_a_divergence_of_ones_own_is_searched_like_any_other() -> None:
    made = plan(search={"divergence": {"choice": ["forward_kl", "my_losses:mine"]}})
    (row,) = rows_of(made)
    assert "my_losses:mine" in row["domain"]
    assert made.warnings == ()
