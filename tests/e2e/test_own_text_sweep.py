"""Who writes x divergence x temperature on real text, in one sweep: data, teacher and student."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from command_support import answer_of, run_module

from trainers.trial.trial_file import TrialFile

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TINY = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_positions": 96}
SPEC: dict[str, Any] = {
    "name": "own-text",
    "teacher": {"config": TINY | {"n_embd": 48}, "fit": {"steps": 20, "learning_rate": 3e-3}},
    "student": {"config": TINY | {"n_embd": 32}, "fit": {"steps": 5, "learning_rate": 3e-3}},
    "tokenizer": {"train": {"vocab_size": 400}},
    "data": {
        "train": "builtin:docstrings",
        "validation": "builtin:docstrings",
        "max_train_examples": 100,
        "max_validation_examples": 12,
        "max_tokens": 96,
        "max_prompt_tokens": 80,
    },
    "training": {"steps": 6, "batch_size": 4},
    "text": {"sampling_temperature": 0.9, "sampling_max_tokens": 8},
    "evaluation": {"evaluations": 2, "generation_prompts": 4, "max_new_tokens": 8},
    "search": {
        "student_share": {"choice": [0, 0.5]},
        "divergence": {"choice": ["forward_kl", "reverse_kl"]},
        "tau": {"choice": [1, 2]},
    },
    "sampler": {"kind": "grid"},
    "early_stopping": {"kind": "none"},
    "controls": "none",
    "teacher_cache": {"mode": "auto"},
    "resources": {"slots": 1},
}


def test_a_sweep_over_who_writes_scores_fresh_text_in_every_trial(tmp_path: Path) -> None:
    home, spec = tmp_path / "home", tmp_path / "own-text.yaml"
    spec.write_text(yaml.safe_dump(SPEC))
    run_module(home, "service", "run", str(spec))
    rows = answer_of(home, "trials", "latest")
    assert len(rows) == 8 and {row["state"] for row in rows} == {"completed"}
    assert all(0 <= row["metrics"]["rouge_l"] <= 100 for row in rows)
    assert len({row["metrics"]["cross_entropy"] for row in rows}) == 8, "each trial is another one"
    for path in home.glob("**/trial.json"):
        trial = TrialFile.read(path)
        # the cache holds the data's text alone
        assert (trial.teacher_source == "online") == (trial.config.student_share > 0)


def test_the_teachers_text_is_beside_the_datas_in_one_sweep(tmp_path: Path) -> None:
    home, spec = tmp_path / "home", tmp_path / "seqkd.yaml"
    data = SPEC["data"] | {"teacher_text": {"temperature": 0.7, "max_tokens": 8}}
    search = {"responses": {"choice": ["data", "teacher"]}}
    document = SPEC | {"data": data, "search": search, "text": {}}
    spec.write_text(yaml.safe_dump(document | {"teacher_cache": {"mode": "required"}}))
    run_module(home, "service", "run", str(spec))
    rows = answer_of(home, "trials", "latest")
    assert {row["state"] for row in rows} == {"completed"}
    trials = map(TrialFile.read, home.glob("**/trial.json"))
    found = {str(one.config.responses): one for one in trials}
    assert found.keys() == {"data", "teacher"}
    for differs in ("data", "teacher_cache"):
        assert len({getattr(trial.paths, differs) for trial in found.values()}) == 2
    prints = [trial.fingerprints for trial in found.values()]
    assert {name for name in prints[0] if prints[0][name] != prints[1][name]} == {"data"}
    # what is needed of both texts is known, and kept
    assert answer_of(home, "prune")["items"] == []
