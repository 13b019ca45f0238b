"""What docs/images.md shows is a sweep, or goes into the preset that it names."""

import re
from pathlib import Path
from typing import Any

from service.plan.estimates import InputFacts
from service.plan.plan import make_plan
from service.plan.resources import Resources
from service.spec.file import parse_yaml, preset_text
from service.spec.parse import parse_spec

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "images.md").read_text()
BLOCKS = [
    parse_yaml(text, "docs/images.md") for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
]
BASELINES = {"forward_kl": 0.1, "decoupled": 1.0, "multi_level": 1.0}  # each with its hard weight


def test_the_first_example_is_a_sweep() -> None:
    assert make_plan(
        parse_spec(BLOCKS[0]), InputFacts(), Resources(num_cpus=2), code_version="1"
    ).num_trials


def test_cist_goes_on_kd_dkd_and_mlkd_with_the_papers_weights() -> None:
    preset: dict[str, Any] = parse_yaml(preset_text("cifar100"), "cifar100")
    (changed,) = [block for block in BLOCKS if "search" in block and "name" not in block]
    document = preset | {"search": changed["search"], "data": preset["data"] | changed["data"]}
    spec = parse_spec(document)
    plan = make_plan(spec, InputFacts(), Resources(num_cpus=2), code_version="1")
    assert plan.warnings == ()
    found = [spec.trial_config(values) for values in spec.search.enumerate(1)]
    assert {(one.divergence, one.policy.value) for one in found} == {
        (divergence, policy) for divergence in BASELINES for policy in ("fixed", "cist")
    }
    for config in found:
        assert config.hard_weight == BASELINES[config.divergence]
        assert config.soft_weight == 0.9
        assert config.second_view == "rand_augment"
        assert config.tau == (4 if config.policy == "fixed" else None)
