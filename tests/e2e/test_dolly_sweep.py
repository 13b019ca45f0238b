"""The whole way of a user on real data: a sweep file, `run`, `best`, and the winner alone again."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_support import answer_of, run_module

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TRIALS, CONTROLS = 4, 4
TINY = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_positions": 128}
SPEC: dict[str, Any] = {
    "name": "dolly",
    "teacher": {
        "config": TINY | {"n_embd": 64},
        "fit": {"steps": 20, "batch_size": 16, "learning_rate": 3e-3},
    },
    "student": {
        "config": TINY | {"n_embd": 32},
        "fit": {"steps": 5, "batch_size": 16, "learning_rate": 3e-3},
    },
    "tokenizer": {"train": {"vocab_size": 512}},
    "data": {
        "max_train_examples": 200,
        "max_validation_examples": 24,
        "max_tokens": 128,
        "max_prompt_tokens": 96,
        "template": "{instruction}\n{input}\n",
    },
    "training": {"steps": 8, "batch_size": 8},
    "evaluation": {"evaluations": 4, "generation_prompts": 4, "max_new_tokens": 8},
    "search": {
        "divergence": {"choice": ["forward_kl", "reverse_kl"]},
        "policy": {"choice": ["fixed", "cist"]},
        "tau": {"float": [0.5, 4], "log": True, "when": {"policy": "fixed"}},
        "rho_per_log_vocab": {"float": [0.5, 2], "when": {"policy": "cist"}},
    },
    "sampler": {"kind": "tpe", "seed": 0},
    "early_stopping": {"kind": "successive_halving", "grace": 0.25},
    "objective": {"metric": "top1_agreement"},
    "trials": TRIALS,
    "resources": {"slots": min(2, os.cpu_count() or 1)},
}


def test_a_sweep_on_dolly_names_a_winner_that_trains_again_to_the_same_numbers(
    tmp_path: Path, shared_data: Path
) -> None:
    home = tmp_path / "home"
    spec = tmp_path / "dolly.yaml"
    paths = {
        "train": str((shared_data / "train" / "dolly_train.jsonl").resolve()),
        "validation": str((shared_data / "train" / "dolly_validation.jsonl").resolve()),
    }
    spec.write_text(yaml.safe_dump(SPEC | {"data": SPEC["data"] | paths}))

    run_module(home, "service", "run", str(spec))

    rows = answer_of(home, "trials", "latest")
    assert sorted(row["trial"] for row in rows) == list(range(TRIALS + CONTROLS))
    assert {row["state"] for row in rows} <= {"completed", "stopped_early"}

    exported = tmp_path / "trial.json"
    best = json.loads(
        run_module(home, "service", "best", "--top", "1", "--export", str(exported), "--json")
    )
    assert best[0]["objective"] == max(
        row["objective"] for row in rows if row["state"] == "completed"
    )

    again = json.loads(
        run_module(home, "trainers", str(exported), "--output", str(tmp_path / "again"), "--json")
    )
    recorded = best[0]["metrics"]
    compared = {name for name in again["metrics"] if name != "tokens_per_s"}
    assert {"top1_agreement", "cross_entropy", "rouge_l"} <= compared
    assert {name: again["metrics"][name] for name in compared} == {
        name: recorded[name] for name in compared
    }
