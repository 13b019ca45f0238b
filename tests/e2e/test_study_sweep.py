"""A tuned study, given another seed, and a search that a study confirms, as a user runs them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_support import answer_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SHARED: dict[str, Any] = {
    "task": "image_classification",
    "teacher": {
        "config": {"model_type": "convnet", "architecture": "small_resnet", "width": 8},
        "fit": {"epochs": 4, "batch_size": 32, "learning_rate": 3e-3},
    },
    "student": {"config": {"model_type": "convnet", "architecture": "small_cnn", "width": 4}},
    "data": {
        "train": "builtin:digits",
        "validation": "builtin:digits",
        "max_train_examples": 300,
    },
    "training": {"epochs": 2, "batch_size": 32},
    "resources": {"slots": min(2, os.cpu_count() or 1)},
}
RATES = [1e-3, 1e-2]
STUDY = SHARED | {
    "name": "tuned",
    "kind": "study",
    "cells": [{"divergence": ["forward_kl", "reverse_kl"], "tau": 2}],
    "controls": "none",
    "seeds": 2,
    "tune": {"learning_rate": RATES},
}
SEARCH = SHARED | {
    "name": "searched",
    "search": {"tau": {"float": [1, 4]}},
    "early_stopping": {"kind": "none"},
    "trials": 1,
}


def write(folder: Path, document: Mapping[str, Any]) -> str:
    path = folder / f"{document['name']}.yaml"
    path.write_text(yaml.safe_dump(dict(document)))
    return str(path)


def place(row: Mapping[str, Any]) -> tuple[str, int, float]:
    values = row["hyperparameters"]
    return row["cell"], values["seed"], values["learning_rate"]


def test_a_tuned_study_is_compared_at_its_best_rates_and_given_another_seed(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    answer_of(home, "run", write(tmp_path, STUDY))
    rows = answer_of(home, "trials", "latest")
    tuning = [row for row in rows if row["role"] == "tuning"]
    compared = [row for row in rows if row["role"] == "compared"]
    assert (len(tuning), len(compared)) == (4, 4)
    best: dict[str, tuple[float, float]] = {}
    for row in tuning:
        cell, _, rate = place(row)
        best[cell] = max(best.get(cell, (-1.0, 0.0)), (row["objective"], rate))
    assert sorted(map(place, compared)) == sorted(
        (cell, seed, rate) for cell, (_, rate) in best.items() for seed in (0, 1)
    )
    ranked = answer_of(home, "best")
    assert sorted(len(row["trials"]) for row in ranked) == [2, 2]

    answer_of(home, "extend", "latest", "--seeds", "1")
    longer = answer_of(home, "trials", "latest")
    assert longer[:8] == rows
    assert sorted(map(place, longer[8:])) == sorted(
        (cell, 2, rate) for cell, (_, rate) in best.items()
    )


def test_a_search_is_unconfirmed_until_a_study_has_trained_its_best(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = answer_of(home, "run", write(tmp_path, SEARCH))
    sweep = run["sweep_id"]
    assert any(line.startswith("unconfirmed: tau=") for line in run["verdict"])

    study = answer_of(home, "confirm", sweep, "--top", "1", "--seeds", "2")["sweep_id"]
    rows = answer_of(home, "trials", study)
    assert len(rows) == 4
    assert {row["hyperparameters"]["seed"] for row in rows} == {1, 2}
    (newest, *_) = answer_of(home, "sweeps")
    assert (newest["sweep_id"], newest["confirms"]) == (study, sweep)
    said = answer_of(home, "best", "--sweep", sweep)[0]["verdict"]
    assert any(f"by {study}" in line for line in said)
    again = answer_of(home, "confirm", sweep, "--top", "1", "--seeds", "2")
    assert again["done_before"]
