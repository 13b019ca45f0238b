"""Every shipped sweep, and the starter, is a valid sweep that says what it finds out."""

import re
import shlex

import pytest

from service.plan.estimates import InputFacts
from service.plan.plan import make_plan
from service.plan.resources import Resources
from service.spec.document import SweepSpec
from service.spec.file import (
    apply_override,
    parse_yaml,
    preset_names,
    preset_summary,
    preset_text,
    starter_text,
)
from service.spec.parse import parse_spec
from trainers.losses import DIVERGENCE_FUNCTIONS

TWO_CORES = Resources(num_cpus=2)
# Studies that have variants in order to compare them with what is advised.
COMPARING = ("temperature-images", "temperature-text")


# An override in a preset's comment: `--set` and what its shell takes as one word.
OVERRIDE = re.compile(r"--set ((?:'[^']*'|[^\s,'])+)")


def suggested(name: str) -> list[list[str]]:
    """The overrides that a preset's comments suggest, those of one suggestion together."""
    found: list[list[str]] = []
    for line in preset_text(name).splitlines():
        overrides = [shlex.split(one)[0] for one in OVERRIDE.findall(line) if line[:1] == "#"]
        if overrides and line.startswith("#   --set"):
            found[-1] += overrides
        elif overrides:
            found.append(overrides)
    return found


def preset(name: str) -> SweepSpec:
    return parse_spec(parse_yaml(preset_text(name), name))


def test_the_presets_of_the_documentation_are_there() -> None:
    assert {
        "demo",
        "temperature",
        "cist",
        "divergence-family",
        "digits",
        "fashion-mnist",
        "cifar100",
        "study-digits",
        "eopd",
        "minillm",
        "on-policy",
        "promptkd",
        "f-distill",
        "distillm2",
        "seqkd",
        *COMPARING,
    } <= set(preset_names())
    assert "_starter" not in preset_names()


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_plans_without_warnings(name: str) -> None:
    spec = preset(name)
    plan = make_plan(spec, InputFacts(), TWO_CORES, code_version="1")
    assert spec.name == name
    assert [one for one in plan.warnings if not _is_compared(one, name)] == []
    assert 20 <= len(preset_summary(name)) <= 100


def _is_compared(warning: str, name: str) -> bool:
    """Whether it is of a variant that the preset has in order to compare it with the other one."""
    variants = ("scaling none", "detach_student_temperature")
    return name in COMPARING and warning.startswith(variants)


def test_the_starter_plans_as_it_is() -> None:
    spec = parse_spec(parse_yaml(starter_text(), "starter"))
    plan = make_plan(spec, InputFacts(), TWO_CORES, code_version="1")
    assert plan.num_trials == 44


def test_the_demo_searches_both_kinds_of_temperature() -> None:
    spec = preset("demo")
    assert spec.trials is not None and spec.trials >= 16
    assert spec.early_stopping.kind != "none"
    assert {"divergence", "policy", "tau", "rho_per_log_vocab"} <= set(spec.search.names)
    assert spec.data.train == "builtin:docstrings"


def test_the_family_tries_each_divergence_at_each_temperature() -> None:
    spec = preset("divergence-family")
    names = set(spec.search.domains["divergence"].points(1))
    assert names == set(DIVERGENCE_FUNCTIONS) - {
        "centred_mse",
        "concrete_score",
        "reverse_cross_entropy",
    }
    assert spec.trials == 3 * len(names) == spec.search.size()
    assert preset_summary("divergence-family").startswith("Thirteen ") and len(names) == 13


def test_the_family_trains_nothing_twice() -> None:
    plan = make_plan(preset("divergence-family"), InputFacts(), TWO_CORES, code_version="1")
    points = [*plan.spec.search.enumerate(1), *(control.values for control in plan.controls)]
    assert plan.num_trials == len({plan.spec.trial_config(values) for values in points}) == 40


@pytest.mark.parametrize(
    ("name", "overrides"), [(name, each) for name in preset_names() for each in suggested(name)]
)
def test_what_a_presets_comments_suggest_is_a_valid_sweep(name: str, overrides: list[str]) -> None:
    document = parse_yaml(preset_text(name), name)
    for override in overrides:
        apply_override(document, override)
    assert parse_spec(document) != preset(name)


@pytest.mark.parametrize(
    "student", [[], ["student.config.width=8", "data.student_examples=5000", "training.epochs=30"]]
)
def test_fashion_mnist_repeats_each_setting_and_none_over_seeds(student: list[str]) -> None:
    document = parse_yaml(preset_text("fashion-mnist"), "fashion-mnist")
    for override in student:
        apply_override(document, override)
    plan = make_plan(parse_spec(document), InputFacts(), TWO_CORES, code_version="1")
    points = plan.spec.search.enumerate(1)
    configs = {plan.spec.trial_config(values) for values in points}
    assert plan.num_trials == len(configs) == 11 * 3
    assert len({config.model_copy(update={"seed": 0}) for config in configs}) == 11
    assert sum(config.soft_weight == 0 for config in configs) == 3
