"""The document: strict, explained, and its search checked in every branch before any compute."""

import json
import pickle
from typing import Any

import pytest

from service.errors import SpecError
from service.spec.document import Data, Evaluation, Loss, SweepSpec, Text, Training
from service.spec.parse import json_schema, parse_spec
from trainers.trial.adapters import Adapter
from trainers.trial.config import NOT_SEARCHABLE, TrialConfig
from trainers.trial.sources import DataSource

SHORTEST: dict[str, Any] = {
    "name": "short",
    "teacher": {"model": "gpt2-xl"},
    "student": {"model": "gpt2"},
    "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
    "search": {"tau": {"float": [0.5, 8], "log": True}},
}
BOTH_POLICIES = {"choice": ["fixed", "cist"]}
# More corners than a check walks.
MANY: dict[str, Any] = {
    name: {"float": [0.1, 0.9]} for name in ("soft_weight", "weight_decay", "warmup", "clip_norm")
} | {"seed": {"choice": list(range(500))}, "optimizer": {"choice": ["adamw", "sgd"]}}


def spec(**fields: Any) -> SweepSpec:
    return parse_spec(SHORTEST | fields)


def test_the_shortest_spec_has_the_documented_defaults() -> None:
    made = spec()
    assert [(one.metric, one.direction) for one in made.objective] == [("rouge_l", "maximize")]
    assert made.sampler.kind == "tpe"
    assert made.early_stopping.kind == "successive_halving"
    assert made.controls == "default"
    assert made.budget().hard_weight == 0.1
    assert made.budget().soft_weight == 0.9
    assert (made.data.max_tokens, made.data.max_prompt_tokens) == (512, 256)


def test_the_sections_hold_every_field_of_a_trial_once() -> None:
    own_of_data = {*DataSource.model_fields, "test", "teacher_text"}
    sections = [
        *Training.model_fields,
        *Loss.model_fields,
        *Text.model_fields,
        *Evaluation.model_fields,
        *(name for name in Data.model_fields if name not in own_of_data),
        *(f"adapter_{name}" for name in Adapter.model_fields),
        "task",
    ]
    assert sorted(sections) == sorted(TrialConfig.model_fields)


def test_a_trial_gets_section_values_and_hyperparameters() -> None:
    made = spec(training={"epochs": 2, "seed": 7}, loss={"hard_weight": 0.3})
    config = made.trial_config({"tau": 2.5})
    assert (config.tau, config.epochs, config.seed, config.hard_weight) == (2.5, 2, 7, 0.3)
    assert config.max_tokens == 512


def test_a_spec_survives_json_and_pickle() -> None:
    made = spec(training={"epochs": 2}, loss={"hard_weight": 0.3}, sampler={"kind": "random"})
    assert SweepSpec.model_validate_json(made.model_dump_json()) == made
    assert pickle.loads(pickle.dumps(made)) == made


def test_the_search_is_written_as_it_was_read() -> None:
    # 1 and not 1.0, text as text, the order of the file, a default that was written out.
    search = {
        "tau": {"float": [1, 8], "log": False, "when": {"policy": ["fixed"]}},
        "policy": {"choice": ["fixed", "cist"]},
        "learning_rate": {"choice": ["5e-4", 1e-3]},
    }
    made = spec(search=search)
    assert made.search.names == ["policy", "tau", "learning_rate"]
    assert json.dumps(made.model_dump(mode="json")["search"]) == json.dumps(search)
    read = SweepSpec.model_validate_json(made.model_dump_json())
    assert read.search == made.search
    assert read.search.domains["tau"].points(2) == [1.0, 8.0]


def test_an_error_in_the_search_stands_beside_others() -> None:
    with pytest.raises(SpecError, match="^training.batch_size: .*\nsearch.tau: low <= high must"):
        spec(training={"batch_size": 0}, search={"tau": {"float": [2, 1]}})


def test_a_metric_brings_its_direction() -> None:
    (objective,) = spec(objective={"metric": "cross_entropy"}).objective
    assert objective.direction == "minimize"


def test_two_objectives_switch_early_stopping_off() -> None:
    both = [{"metric": "rouge_l"}, {"metric": "cross_entropy"}]
    made = spec(objective=both, sampler={"kind": "nsgaii"})
    assert made.early_stopping.kind == "none"
    assert len(made.objective) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tirals": 3}, r"^tirals: only known fields .* got 'tirals'. Did you mean 'trials'\?"),
        (
            {"training": {"learning_rat": 1}},
            r"^training.learning_rat: .* Did you mean 'learning_rate'\? Known here: epochs, steps",
        ),
        ({"training": {"batch_size": 0}}, "training.batch_size: value >= 1 must hold, but got 0."),
        ({"training": {"batch_size": "x"}}, "training.batch_size: must be a whole number, but got"),
        ({"training": []}, "training: must be a mapping of names to values, but got"),
        ({"data": {"train": "a", "validation": "b", "max_tokens": 3}}, "max_tokens: value >= 8"),
        ({"student": {}}, "student: give exactly one of model and config, but got model=None"),
        ({"teacher": {"model": "x", "fit": {"epochs": 1, "steps": 2}}}, "teacher.fit: give exact"),
        ({"name": "two words"}, "name: must match .* but got 'two words'"),
        ({"trials": 0}, "trials: value >= 1 must hold, but got 0"),
        ({"sampler": {"kind": "tpee"}}, r"sampler: kind must be one of .* Did you mean 'tpe'\?"),
        ({"sampler": {"kind": "tpe", "starts": 2}}, "sampler.starts: only known .*num_startup"),
        ({"early_stopping": {"kind": "median", "grace": 0.1}}, "early_stopping.grace: value >= 0."),
        ({"objective": {"metric": "rouge"}}, r"metric: must be one of .* Did you mean 'rouge_l'\?"),
        (
            {"objective": {"metric": "probe/off_top5"}},
            r"metric: must be a metric of how good a student is \(rouge_l, .*\), but got "
            "'probe/off_top5', a diagnostic: it says what a loss does",
        ),
        ({"objective": [3]}, r"^objective\[0\]: must be a mapping of names to values, but got 3"),
        ({"sampler": {}}, "^sampler: must name its kind, but got {}. Add kind"),
        ({"controls": "all"}, "controls: must be one of 'default' or 'none', but got 'all'"),
        ({"resources": {"slots": 0}}, "resources.slots: value >= 1 must hold, but got 0"),
        (
            {"objective": [{"metric": "rouge_l"}] * 2, "early_stopping": {"kind": "median"}},
            "early_stopping: kind none must hold with two objectives, .* but got median",
        ),
        ({"sampler": {"kind": "nsgaii"}}, "nsgaii must have two objectives or more, but got 1"),
        (
            {"evaluation": {"generation_prompts": 0}},
            "objective: rouge_l needs generated responses, but got .*generation_prompts=0",
        ),
    ],
)
def test_what_is_wrong_is_said_with_place_rule_and_value(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        spec(**fields)


def test_a_missing_part_is_named_and_nothing_else() -> None:
    document = {name: value for name, value in SHORTEST.items() if name != "objective"}
    del document["teacher"]
    with pytest.raises(SpecError, match="^teacher: must be given, but it is missing.") as caught:
        parse_spec(document)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"taux": {"float": [1, 2]}}, r"^search.taux: .* got 'taux'. Did you mean 'tau'\?"),
        ({"tau": {"float": [2, 1]}}, "^search.tau: low <= high must hold, but got low=2.0"),
        ({"tau": {"float": [0, 2], "log": True}}, "^search.tau: low > 0 must hold when log is tr"),
        (
            {"tau": {"float": [0, 2]}},
            "^search.tau: 0.001 <= tau <= 1000.0 must hold, but got tau=0.0",
        ),
        (
            {"policy": {"fixed": "cist"}, "rho": {"float": [-1, 2]}},
            "^search.rho: 0.001 <= rho <= .* must hold, but got rho=-1.0",
        ),
        ({"tau": {"flaot": [1, 2]}}, "^search.tau: .*flaot"),
        ({}, "^search: needs at least 1 entr"),
        (
            {"policy": BOTH_POLICIES, "tau": {"float": [1, 2]}},
            r"^search.tau: tau belongs .* policy 'cist'.* Or write tau: {…, when: {policy: fixed}}",
        ),
        (
            {
                "policy": BOTH_POLICIES,
                "tau": {"float": [1, 2], "when": {"policy": "fixed"}},
                "hard_weight": {"float": [0, 1]},
            },
            "^search.hard_weight: hard_weight > 0 must hold under policy 'cist'",
        ),
        (
            {
                "divergence": {"choice": ["forward_kl", "generalized_jsd"]},
                "beta": {"float": [0.1, 0.9]},
            },
            "^search.beta: beta belongs to generalized_jsd.* when: {divergence: ",
        ),
        (
            {"divergence": {"fixed": "generalized_jsd"}, "beta": {"float": [0.01, 0.9]}},
            r"^search.beta: a searched beta must lie inside \[0.05, 0.95\].* but got 0.01",
        ),
        (
            {"divergence": {"choice": ["forward_kl", "forward_kll"]}},
            r"^search.divergence: .* got 'forward_kll'. Did you mean 'forward_kl'\?",
        ),
        ({"batch_size": {"float": [8.5, 16]}}, "^search.batch_size: must be a whole number, but"),
        (
            {"hard_weight": {"float": [0, 0.5]}, "policy": BOTH_POLICIES, **MANY},
            r"hard_weight > 0 must hold under policy 'cist'",
        ),
        (
            {"divergence": {"fixed": "skew_forward_kl"}, "alpha": {"float": [0, 1]}, **MANY},
            r"alpha <= 0.99 must hold, but got alpha=1.0",
        ),
    ],
)
def test_a_search_that_cannot_work_is_refused(search: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec(search=search)


@pytest.mark.parametrize("name", NOT_SEARCHABLE)
def test_what_must_be_alike_cannot_be_searched(name: str) -> None:
    with pytest.raises(SpecError, match=f"^search.{name}: this field cannot be searched: "):
        spec(search={name: {"choice": [1, 2]}})


def test_a_field_is_searched_or_given() -> None:
    with pytest.raises(SpecError, match=r"^search.seed: .*both places \(given: 3\). Remove one."):
        spec(search={"seed": {"int": [0, 3]}}, training={"seed": 3})


def test_a_given_tau_does_not_reach_cist() -> None:
    with pytest.raises(SpecError, match="^loss.tau: tau belongs to .* policy 'cist'"):
        spec(search={"policy": BOTH_POLICIES}, loss={"tau": 2})


def test_cist_without_a_hard_loss_needs_the_permission() -> None:
    search = {"policy": {"fixed": "cist"}, "rho": {"float": [1, 20]}}
    with pytest.raises(SpecError, match="^loss.hard_weight: hard_weight > 0 must hold"):
        spec(search=search, loss={"hard_weight": 0})
    allowed = spec(search=search, loss={"hard_weight": 0, "allow_free_logit_scale": True})
    assert allowed.trial_config({"policy": "cist", "rho": 3.0}).hard_weight == 0


def test_conditions_make_the_example_of_the_documentation_valid() -> None:
    search = {
        "divergence": {"choice": ["forward_kl", "reverse_kl", "generalized_jsd"]},
        "policy": BOTH_POLICIES,
        "tau": {"float": [0.5, 8], "log": True, "when": {"policy": "fixed"}},
        "rho_per_log_vocab": {"float": [0.5, 2], "when": {"policy": "cist"}},
        "beta": {"float": [0.05, 0.95], "when": {"divergence": "generalized_jsd"}},
    }
    assert spec(search=search).search.has_conditions


def test_a_wide_space_is_sampled_not_enumerated() -> None:
    assert len(spec(search=MANY | {"tau": {"float": [0.1, 0.9]}}).search.names) == 7


def test_a_searched_beta_keeps_to_its_limits_under_a_given_divergence() -> None:
    with pytest.raises(SpecError, match=r"^search.beta: .* inside \[0.05, 0.95\].* but got 0.99"):
        spec(search={"beta": {"float": [0.1, 0.99]}}, loss={"divergence": "generalized_jsd"})
    powers = {"beta": {"float": [0.1, 0.99]}}
    assert spec(search=powers, loss={"divergence": "alpha_beta"}).search.names == ["beta"]


@pytest.mark.parametrize("alpha", [{"float": [-0.5, 1]}, {"choice": [0.5, "1.5"]}])
def test_powers_that_overflow_or_fade_are_not_searched(alpha: dict[str, Any]) -> None:
    loss = {"divergence": "alpha_beta"}
    with pytest.raises(SpecError, match=r"^search.alpha: .* inside \[0.0, 1.0\], below which it"):
        spec(search={"alpha": alpha}, loss=loss)
    assert spec(loss=loss | {"alpha": -0.5}).trial_config({"tau": 2}).alpha == -0.5


def test_a_number_written_as_text_is_checked_as_the_number() -> None:
    half = {"fixed": "generalized_jsd"}
    spec(search={"divergence": half, "beta": {"choice": ["0.5", 0.3]}})
    with pytest.raises(SpecError, match=r"^search.beta: .* inside \[0.05, 0.95\], .* but got 0.01"):
        spec(search={"divergence": half, "beta": {"choice": ["0.01", 0.3]}})


@pytest.mark.parametrize("field", ["tau", "hard_weight", "batch_size"])
def test_true_is_no_number(field: str) -> None:
    with pytest.raises(SpecError, match=f"^search.{field}: must be a number, but got True."):
        spec(search={field: {"choice": [True, 2]}})
    section = "training" if field == "batch_size" else "loss"
    with pytest.raises(SpecError, match=f"^{section}.{field}: must be a number, but got True."):
        spec(search={"seed": {"choice": [1, 2]}}, **{section: {field: True}})


HINTS: list[tuple[dict[str, Any], dict[str, Any], str, dict[str, Any]]] = [
    (
        {"divergence": {"choice": ["forward_kl", "generalized_jsd"]}},
        {"beta": {"float": [0.1, 0.9]}},
        "Or write beta: {…, when: {divergence: generalized_jsd}}.",
        {"divergence": "generalized_jsd"},
    ),
    (
        {"divergence": {"choice": ["forward_kl", "generalized_jsd", "alpha_beta"]}},
        {"beta": {"float": [0.1, 0.9]}},
        "Or write beta: {…, when: {divergence: [generalized_jsd, alpha_beta]}}.",
        {"divergence": ["generalized_jsd", "alpha_beta"]},
    ),
    (
        {"policy": {"choice": ["cist", "fixed"]}},
        {"tau": {"float": [1, 4]}},
        "Or write tau: {…, when: {policy: fixed}}.",
        {"policy": "fixed"},
    ),
    (
        {"divergence": {"choice": ["forward_kl", "centred_mse"]}},
        {"tau": {"float": [1, 4]}},
        "Or write tau: {…, when: {divergence: forward_kl}}.",
        {"divergence": "forward_kl"},
    ),
    (
        {
            "policy": {"choice": ["cist", "fixed"]},
            "divergence": {"choice": ["forward_kl", "reverse_kl"]},
        },
        {"tau": {"float": [1, 4], "when": {"divergence": "reverse_kl"}}},
        "Or write tau: {…, when: {divergence: reverse_kl, policy: fixed}}.",
        {"divergence": "reverse_kl", "policy": "fixed"},
    ),
    (
        {"policy": {"choice": ["cist", "fixed"]}},
        {"tau_max": {"float": [10, 100]}},
        "Or write tau_max: {…, when: {policy: cist}}.",
        {"policy": "cist"},
    ),
]


@pytest.mark.parametrize(("parents", "child", "hint", "condition"), HINTS)
def test_a_hint_works_when_it_is_followed(
    parents: dict[str, Any], child: dict[str, Any], hint: str, condition: dict[str, Any]
) -> None:
    with pytest.raises(SpecError, match="belongs to") as refusal:
        spec(search=parents | child)
    assert str(refusal.value).endswith(f"). {hint}")
    ((name, domain),) = child.items()
    spec(search=parents | {name: domain | {"when": condition}})


def test_a_given_value_is_told_to_move_under_search() -> None:
    parents = {"divergence": {"choice": ["forward_kl", "generalized_jsd"]}}
    moved = "beta: {fixed: 0.3, when: {divergence: generalized_jsd}}"
    with pytest.raises(SpecError, match="^loss.beta: beta belongs to .* Leave it out") as refusal:
        spec(search=parents, loss={"beta": 0.3})
    assert str(refusal.value).endswith(f"). Or move it to search: {moved}.")
    spec(search=parents | {"beta": {"fixed": 0.3, "when": {"divergence": "generalized_jsd"}}})


def test_a_parameter_of_nothing_that_is_searched_can_only_be_left_out() -> None:
    with pytest.raises(SpecError, match=r"Leave it out \(at beta: 0.1\)\.$"):
        spec(search={"beta": {"float": [0.1, 0.9]}})


def test_weights_whose_ends_meet_at_nothing_are_refused() -> None:
    both = {"hard_weight": {"float": [0, 1]}, "soft_weight": {"float": [0, 1]}}
    with pytest.raises(SpecError, match=r"^search.hard_weight: .* > 0 must hold, .* got both 0"):
        spec(search=both)


def test_the_schema_describes_every_searchable_field() -> None:
    schema = json.loads(json.dumps(json_schema()))
    searchable = set(TrialConfig.model_fields) - set(NOT_SEARCHABLE)
    assert set(schema["properties"]["search"]["properties"]) == searchable
    assert schema["$defs"]["Training"]["properties"]["batch_size"]["minimum"] == 1
    assert schema["$defs"]["Training"]["additionalProperties"] is False
    assert schema["$defs"]["Loss"]["properties"]["policy"]["description"]


@pytest.mark.parametrize(
    ("resources", "works"),
    [
        ({"gpus_per_worker": 0.25}, True),
        ({"gpus_per_worker": 2, "workers_per_trial": 2}, True),
        ({"gpus_per_worker": 1.5}, False),
        ({"gpus_per_worker": 0.5, "workers_per_trial": 2}, False),
    ],
)
def test_a_part_of_a_gpu_is_for_one_worker(resources: dict[str, Any], works: bool) -> None:
    if works:
        assert spec(resources=resources).resources.gpus_per_worker == resources["gpus_per_worker"]
        return
    with pytest.raises(SpecError, match=r"gpus_per_worker: must be a whole number .* but got"):
        spec(resources=resources)


def test_one_worker_shares_its_student_with_none() -> None:
    wanted = r"resources: sharding: fsdp .* workers_per_trial must be at least 2, but got 1, .*ddp"
    with pytest.raises(SpecError, match=wanted):
        spec(resources={"sharding": "fsdp"})
    asked = {"sharding": "fsdp", "workers_per_trial": 2}
    assert spec(resources=asked).resources.sharding == "fsdp"
    with pytest.raises(SpecError, match=r"resources\.sharding"):
        spec(resources={"sharding": "zero"})
