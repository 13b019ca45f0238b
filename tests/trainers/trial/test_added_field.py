"""A new field of a trial says its section where it is defined: with that, and the line where it
acts, in a copy of the packages, it is searched, shown and trained with."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from added_support import add_points, copy_packages, insert, replace, run_with

SCRIPT = Path(__file__).with_name("use_added_field.py")
FIELD = """    stretch: Annotated[Positive, Field(description="factor on the schedule")] = 1.0
"""
WHERE_IT_ACTS = """    num_steps = round(num_steps * config.stretch)
"""
PEAK, STEPS = 3e-3, 6
ITS_FIELDS = """class PointDataFields(Fields):
    group = Group(section="data", task=TaskName.POINTS)
    jitter: NonNegative = 0.5


"""
WITH_ITS_OWN_FIELDS = """
import json
from service.errors import SpecError
from service.spec.document import SweepSpec
from service.spec.parse import parse_spec
from trainers.trial.config import TrialConfig

def sweep(task, **fields):
    model = {"config": {"model_type": "points"}}
    data = {"train": "a.jsonl", "validation": "b.jsonl"} | fields
    search = {"tau": {"choice": [1, 2]}}
    return parse_spec({"name": "own", "task": task, "teacher": model, "student": model,
                       "data": data, "search": search})

points, text = sweep("points", jitter=2), sweep("causal_lm")
trial = points.trial_config({"tau": 1})
print(json.dumps({
    "trial": trial.model_dump(mode="json"),
    "text": text.trial_config({"tau": 1}).model_dump(mode="json"),
    "data": points.model_dump(mode="json")["data"],
    "data_of_text": text.model_dump(mode="json")["data"],
    "read": TrialConfig.model_validate_json(trial.model_dump_json()) == trial,
    "read_spec": SweepSpec.model_validate_json(points.model_dump_json()).trial_config({"tau": 1})
    == trial,
}))
sweep("points", max_tokens=64)
"""


def cosine(step: int, num_steps: int) -> float:
    """The learning rate of a 0-based step without warm-up (Loshchilov & Hutter 2017)."""
    return PEAK * (1 + math.cos(math.pi * step / num_steps)) / 2


def test_a_field_and_where_it_acts_are_searched_trained_with_and_shown(tmp_path: Path) -> None:
    packages = copy_packages(tmp_path / "packages")
    trainers = packages / "trainers"
    insert(trainers / "trial" / "fields.py", FIELD, before="    warmup: Annotated[")
    schedule = trainers / "training" / "optimizer.py"
    insert(schedule, WHERE_IT_ACTS, before="    warmup = round(config")
    work = tmp_path / "work"
    work.mkdir()
    seen = run_with(packages, SCRIPT, str(work))
    assert seen["searched"] == [1.0, 2.0]
    # A training field that the sweep gives holds for its controls too; a loss field would not.
    assert seen["controls"] == [2.0, 2.0, 2.0, 2.0]
    assert "stretch" in seen["shown"] and "1 to 4" in seen["shown"]
    assert seen["written"] == 2.0
    without, one, two = (seen["trained"][name] for name in ("default", "1.0", "2.0"))
    assert without == one
    assert two["rates"] == pytest.approx([cosine(step, 2 * STEPS) for step in range(STEPS)])
    assert one["rates"] == pytest.approx([cosine(step, STEPS) for step in range(STEPS)])
    assert two["end"] != one["end"]


def run_python(packages: Path, text: str) -> subprocess.CompletedProcess[str]:
    """What a process that has only the copied packages makes of `text`."""
    command = [sys.executable, "-c", text]
    return subprocess.run(command, capture_output=True, text=True, cwd=packages, timeout=60)


def test_a_field_without_a_section_cannot_be_imported(tmp_path: Path) -> None:
    packages = copy_packages(tmp_path / "packages")
    config = packages / "trainers" / "trial" / "config.py"
    insert(config, "    smoothing: float = 0.0\n\n", before='    @model_validator(mode="before")')
    done = run_python(packages, "import trainers.trial.config")
    assert done.returncode == 1
    assert "TypeError: TrialConfig.smoothing: a field must be written in a class" in done.stderr


def test_a_task_brings_its_own_fields_and_has_none_of_another(tmp_path: Path) -> None:
    packages = copy_packages(tmp_path / "packages")
    add_points(packages)
    fields = packages / "trainers" / "trial" / "fields.py"
    insert(fields, ITS_FIELDS, before="class Data(")
    replace(fields, "class Data(", "class Data(PointDataFields, ")
    done = run_python(packages, WITH_ITS_OWN_FIELDS)
    seen = json.loads(done.stdout)
    for of_points, of_text in ((seen["trial"], seen["text"]), (seen["data"], seen["data_of_text"])):
        assert of_points["jitter"] == 2 and "max_tokens" not in of_points
        assert of_text["max_tokens"] == 512 and "jitter" not in of_text
    assert seen["read"] and seen["read_spec"]
    refusal = "data.max_tokens: max_tokens belongs to task 'causal_lm', but got max_tokens=64 with"
    assert f"SpecError: {refusal} task 'points'. Leave it out" in done.stderr
