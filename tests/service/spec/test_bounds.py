"""Values outside what any sweep means: each is refused by its place and rule, at once, and what is
only unusual goes on to a plan."""

import time
from typing import Any

import pytest
from fakes import make_document

from service.errors import SpecError
from service.plan.estimates import InputFacts
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.plan.search_rows import search_rows
from service.spec.parse import parse_spec

TAU = {"tau": {"float": [0.5, 8], "log": True}}


def plan_of(**changes: Any) -> SweepPlan:
    """The plan for inputs of which everything is known, made within 5 s."""
    facts = InputFacts(
        num_train_examples=10**6,
        num_train_tokens=10**9,
        num_validation_examples=1000,
        vocab_size=50_000,
        teacher_parameters=10**11,
        student_parameters=10**10,
        teacher_hidden_size=8192,
    )
    started = time.perf_counter()
    spec = parse_spec(make_document(**changes))
    plan = make_plan(spec, facts, Resources(num_cpus=10**6), code_version="test")
    search_rows(spec, 50_000)
    assert time.perf_counter() - started < 5
    return plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"seed": {"int": [1, 3]}, "tau": {"float": [1, 2], "when": {"seed": 1e999}}}},
         r"search\.tau: when must give a value that 'seed' can take .*got inf"),
        ({"search": {"tau": {"float": [1, 2], "step": 1e-300}}},
         r"search\.tau: a range must have at most 1,000,000,000 steps, but got step=1e-300"),
        ({"search": {"seed": {"int": [1, 10**400]}}},
         r"search\.seed: int item 1: .*less than or equal to 9007199254740992"),
        ({"search": {"tau": {"float": [1, 10**400]}}}, r"search\.tau: float item 1"),
        ({"search": {"tau": {"float": [-1e308, 1e308]}}}, r"high - low must be a finite number"),
        ({"resources": {"workers_per_trial": 10**400}},
         r"resources\.workers_per_trial: value <= 10000 must hold"),
        ({"resources": {"cpus_per_worker": 1e-300}},
         r"resources\.cpus_per_worker: value >= 0\.0001 must hold"),
        ({"resources": {"cpus_per_worker": float("inf")}}, r"resources\.cpus_per_worker"),
        ({"resources": {"gpus_per_worker": 1e300}}, r"resources\.gpus_per_worker"),
        ({"resources": {"slots": 10**30}}, r"resources\.slots: value <= 10000 must hold"),
        ({"trials": 10**400}, r"trials: value <= 1000000 must hold"),
        ({"tokenizer": {"train": {"vocab_size": 10**400}}},
         r"tokenizer\.train\.vocab_size: value <= 10000000 must hold"),
        ({"training": {"epochs": 1e300}}, r"training\.epochs: value <= 1000000.0 must hold"),
        ({"training": {"epochs": float("nan")}}, r"training\.epochs"),
        ({"training": {"steps": 10**18}}, r"training\.steps: value <= 1000000000 must hold"),
        ({"training": {"seed": 2**64}}, r"training\.seed"),
        ({"teacher": {"config": {"model_type": "gpt2"}, "fit": {"epochs": 1e300}}},
         r"teacher\.fit\.epochs"),
        ({"teacher": {"config": {"model_type": "gpt2"}, "init_seed": -1}}, r"teacher\.init_seed"),
        ({"evaluation": {"evaluations": 10**400}}, r"evaluation\.evaluations"),
        ({"evaluation": {"generation_seeds": [-1]}},
         r"evaluation\.generation_seeds\[0\]: value >= 0 must hold, but got -1"),
        ({"sampler": {"kind": "grid", "points_per_range": 100_000}},
         r"sampler\.points_per_range: value <= 10000 must hold"),
        ({"sampler": {"kind": "tpe", "num_startup": 10**400}}, r"sampler\.num_startup"),
        ({"sampler": {"kind": "tpe", "seed": 10**400}}, r"sampler\.seed"),
        ({"early_stopping": {"kind": "hyperband", "reduction_factor": 10**400}},
         r"early_stopping\.reduction_factor"),
        ({"time_budget_s": 1e300}, r"time_budget_s: value <= 1000000000.0 must hold"),
        ({"time_budget_s": True}, r"time_budget_s: must be a number, but got True"),
        ({"teacher_cache": {"max_gib": float("inf")}}, r"teacher_cache\.max_gib"),
        ({"search": {"seed": {"choice": list(range(10_001))}}},
         r"search\.seed: choice: .*at most 10000 items"),
        ({"search": {"tau": {"int": [1, 1000]}, "learning_rate": {"float": [1e-5, 1]},
                     "warmup": {"float": [0, 1]}},
          "sampler": {"kind": "grid", "points_per_range": 1000}, "trials": None},
         r"trials: must be given for a grid of more than 1,000,000 points, but got none for "
         r"1,000,000,000 points"),
        ({"training": {"attention_implementation": "sdap"}},
         r"training\.attention_implementation: must be one of .*but got 'sdap'\. "
         r"Did you mean 'sdpa'"),
        ({"storage": {"study_url": "sqlite"}},
         r"storage\.study_url: must be the URL of a database, but got 'sqlite'"),
        ({"storage": {"study_url": "://"}}, r"storage\.study_url: must be the URL of a database"),
        ({"storage": {"study_url": "foo://bar"}}, r"must be the URL of a database, but got 'foo:"),
        ({"storage": {"path": ""}}, r"storage\.path: must be text that is not empty, but got ''"),
        ({"tracking": {"experiment": ""}}, r"tracking\.experiment: must be text that is not empty"),
        ({"tracking": {"experiment": " "}}, r"tracking\.experiment: must be text that is"),
        ({"tracking": {"uri": ""}}, r"tracking\.uri: must be text that is not empty"),
        ({"teacher_cache": {"folder": ""}}, r"teacher_cache\.folder: must be text that is not emp"),
        ({"teacher": {"model": ""}}, r"teacher\.model: must be text that is not empty"),
        ({"student": {"model": "a\0b"}}, r"student\.model: must have no control characters"),
        ({"storage": {"path": "x" * 5000}}, r"storage\.path: must have at most 1000 characters"),
        ({"teacher": {"config": {"model_type": "gpt2", "x": "\ud800"}}},
         r"teacher\.config: must hold values that JSON has, but got: .*surrogates"),
        ({"student": {"config": {"model_type": "gpt2", "x": [float("inf")]}}},
         r"student\.config: must hold values that JSON has, but got: Out of range float"),
        ({"name": "latest"}, r"name: latest and all mean other sweeps .*but got 'latest'"),
        ({"name": "all"}, r"name: latest and all mean other sweeps .*but got 'all'"),
    ],
)  # fmt: skip
def test_it_is_refused_by_its_place(changes: dict[str, Any], message: str) -> None:
    started = time.perf_counter()
    with pytest.raises(SpecError, match=message):
        parse_spec(make_document(**changes))
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "changes",
    [
        {"search": {"clip_norm": {"float": [1e15, 1.7e308], "log": True}}},
        {"search": {"clip_norm": {"float": [5e-324, 1.7e308], "log": True}}},
        {"search": {"learning_rate": {"float": [1e-320, 1e-310], "log": True}}},
        {"search": {"clip_norm": {"float": [0, 1.7e308]}}},
        {"search": {"seed": {"int": [0, 2**53]}}},
        {"search": {"seed": {"int": [1, 2**53], "log": True}}},
        {"loss": {"rho": None}},
        {"loss": {"rho": None, "policy": "cist"}, "search": {"hard_weight": {"float": [0.1, 1]}}},
        {"loss": {"tau": None}, "training": {"steps": None, "epochs": None}},
        {"search": {"learning_rate": {"float": [0.1, 1.1], "step": 1e-9},
                    "tau": {"float": [1, 2], "when": {"learning_rate": 0.5}}}},
        {"search": {"learning_rate": {"float": [0.1, 1.1], "step": 1e-9},
                    "tau": {"float": [1, 2], "when": {"learning_rate": 0.5}}},
         "sampler": {"kind": "grid", "points_per_range": 10_000}, "trials": 7},
        {"search": {"tau": {"float": [0.5, 8]}, "learning_rate": {"float": [1e-5, 1]},
                    "warmup": {"float": [0, 1]}, "weight_decay": {"float": [0, 1]}},
         "sampler": {"kind": "grid", "points_per_range": 10_000}, "trials": 7},
        {"search": {"seed": {"choice": list(range(10_000))}}},
        {"resources": {"workers_per_trial": 10_000, "cpus_per_worker": 1e-4}},
        {"resources": {"gpus_per_worker": 0.0, "cpus_per_worker": 1e-4}, "trials": 10**6},
        {"training": {"epochs": 10**6}, "trials": 10**6, "time_budget_s": 1e-300},
        {"training": {"steps": 10**9, "batch_size": 10**9}, "trials": 10**6,
         "evaluation": {"evaluations": 10**9, "max_new_tokens": 10**7}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("controls", ["default", "none"])
def test_it_is_planned_within_seconds(changes: dict[str, Any], controls: str) -> None:
    plan = plan_of(controls=controls, **changes)
    assert plan.model_validate_json(plan.model_dump_json()) == plan


def test_null_is_not_given() -> None:
    spec = parse_spec(make_document(loss={"rho": None, "beta": None}, training={"steps": None}))
    assert spec.given() == {"task": "causal_lm", "evaluations": 2}
    searched = parse_spec(make_document(loss={"tau": None}))
    assert searched.trial_config({"tau": 2.0}).tau == 2.0


def test_a_large_grid_has_as_many_trials_as_are_asked_for() -> None:
    plan = plan_of(
        search={f: {"float": [0.1, 0.9]} for f in ("tau", "learning_rate", "warmup")},
        sampler={"kind": "grid", "points_per_range": 10_000},
        trials=7,
    )
    assert plan.num_trials == 7


def test_a_wrong_entry_does_not_also_make_its_list_too_short() -> None:
    with pytest.raises(SpecError, match=r"generation_seeds\[0\]: value >= 0") as refusal:
        parse_spec(make_document(evaluation={"generation_seeds": [-1]}))
    assert len(str(refusal.value).splitlines()) == 1
