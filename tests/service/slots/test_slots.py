"""Slots with real training: what a used one computes is what a fresh process computes; and groups
of two workers, of which one fails."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes import REAL, TRAINABLE, make_sweep_plan
from sweep_process import ROOT, SweepProcess

from service.plan.places import sweep_folder
from service.search.study_trials import read_trials
from service.states import TrialState

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BITS: dict[str, Any] = REAL | {
    "name": "bits",
    "teacher": {"config": TRAINABLE | {"n_embd": 32}},
    "training": {"steps": 2, "batch_size": 8},
    "evaluation": REAL["evaluation"] | {"evaluations": 1},
    "search": {"tau": {"choice": [1.0, 4.0]}},
    "teacher_cache": {"mode": "required"},
    "trials": 5,
    "resources": {"slots": 1},
}
PAIRS: dict[str, Any] = {
    "name": "pairs",
    "trials": 3,
    "resources": {"slots": 1, "workers_per_trial": 2},
}


def test_a_used_slot_computes_what_a_fresh_process_computes(tmp_path: Path) -> None:
    with closing(SweepProcess(tmp_path, document=BITS, prepare="real")) as sweep:
        assert sweep.wait() == 0, sweep.output()
    trials = sweep_folder(make_sweep_plan(**BITS), tmp_path) / "trials"
    hashes: dict[float, set[str]] = {}
    for folder in sorted(trials.iterdir()):
        trial = json.loads((folder / "trial.json").read_text())
        assert trial["teacher_source"] == "cache:float32"
        tau = trial["config"]["tau"]
        result = json.loads((folder / "result.json").read_text())
        hashes.setdefault(tau, set()).add(result["weights_sha256"])
    assert hashes.keys() == {1.0, 4.0}, "the draws of this seed visit both"
    assert all(len(same) == 1 for same in hashes.values())
    assert hashes[1.0] != hashes[4.0]
    alone = rerun(trials / "4" / "trial.json", tmp_path / "alone")
    inside = json.loads((trials / "4" / "result.json").read_text())
    assert alone["weights_sha256"] == inside["weights_sha256"]
    assert alone["metrics"] == inside["metrics"]


def rerun(trial: Path, output: Path) -> Any:
    """The result of the trial in a process that knows neither Ray nor slots."""
    command = [sys.executable, "-m", "trainers", str(trial), "--output", str(output), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_one_rank_that_fails_frees_the_other_and_the_slot_lives(tmp_path: Path) -> None:
    faults = {"errors": [1], "error_rank": 1}
    with closing(SweepProcess(tmp_path, document=PAIRS, faults=faults)) as sweep:
        assert sweep.wait() == 0, sweep.output()
    plan = make_sweep_plan(**PAIRS)
    journal = str(sweep_folder(plan, tmp_path) / "study.journal")
    states = {record.number: record.state for record in read_trials(journal, plan.sweep_id)}
    assert states == {
        0: TrialState.COMPLETED,
        1: TrialState.FAILED,
        2: TrialState.COMPLETED,
    }
    (failed,) = [event for event in sweep.events("TrialEnded") if event["trial"] == 1]
    assert "trial 1 is cursed" in failed["error"]
    ups = [event["num_slots"] for event in sweep.events("SlotsUp")]
    assert ups == [1], "the group was never replaced"


@pytest.fixture(scope="module")
def found() -> Any:
    """What a process finds out about slots without a Ray. Imported here, Ray would read its
    settings before the tests that start one have made them."""
    script = """
import json, sys
from ray.train import RunConfig
from service.slots.slots import SlotShape, BoardCallback, _SlotTrainer

shape = SlotShape(1, 1.0, 0.0)
trainer = _SlotTrainer(
    print,
    backend_config=shape.backend(),
    scaling_config=shape.scaling(),
    run_config=RunConfig(callbacks=[BoardCallback(None, "slot-0")]),
)
callbacks = [type(each).__name__ for each in trainer._create_default_callbacks()]
alone_loads_torch = "torch" in sys.modules
asked = [each.scaling() for each in (SlotShape(1, 2.0, 0.25), SlotShape(2, 1.0, 0.0))]
print(json.dumps({
    "callbacks": callbacks,
    "alone_loads_torch": alone_loads_torch,
    "backends": [SlotShape(2, 1.0, gpus).backend().backend for gpus in (0.0, 1.0)],
    "asked": [[each.use_gpu, each.resources_per_worker] for each in asked],
}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_slot_may_ask_for_a_part_of_a_gpu(found: Any) -> None:
    assert found["asked"] == [[True, {"CPU": 2.0, "GPU": 0.25}], [False, {"CPU": 1.0}]]


def test_a_slot_starts_only_what_it_needs(found: Any) -> None:
    assert not {"DatasetsCallback", "PlacementGroupCleanerCallback"} & set(found["callbacks"])
    assert "BoardCallback" in found["callbacks"], "else nobody knew what a killed controller held"
    assert not found["alone_loads_torch"]
    assert found["backends"] == ["gloo", "nccl"]
