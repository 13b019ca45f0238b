"""What configs make: shipped for the presets, else built once."""

import json
from pathlib import Path

import pytest
from make_described import built

from trainers.tasks import described
from trainers.trial.facts import ModelFacts


@pytest.mark.slow
def test_what_is_shipped_is_what_the_presets_configs_make(tmp_path: Path) -> None:
    made = built(tmp_path)
    assert len(made) >= 6
    assert json.loads(described.SHIPPED.read_text()) == made, "run make_described.py"


def test_a_config_is_built_once_and_again_for_another_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def build() -> ModelFacts:
        calls.append(1)
        return ModelFacts({"model_type": "x"}, 7, 70, None)

    for _ in range(2):
        found = described.described({"config": {"model_type": "x"}}, tmp_path, build)
        assert found == ({"model_type": "x"}, 7, 70, None)
    assert len(calls) == 1
    monkeypatch.setattr(described, "version", lambda name: f"another {name}")
    described.described({"config": {"model_type": "x"}}, tmp_path, build)
    assert len(calls) == 2


def test_what_is_shipped_is_for_one_version_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {
        "config": {
            "model_type": "gpt2",
            "n_layer": 1,
            "n_embd": 48,
            "n_head": 2,
            "n_positions": 128,
        },
        "entries": 1024,
    }

    def build() -> ModelFacts:
        raise AssertionError("built")

    config, count, products, kept = described.described(known, tmp_path, build)
    assert products is None and kept is None  # parameters and config say it
    assert (config["n_embd"], count) == (48, 1024 * 48 + 128 * 48 + 12 * 48**2 + 13 * 48 + 2 * 48)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(described, "version", lambda name: "5.0.0")
    with pytest.raises(AssertionError, match="built"):
        described.described(known, tmp_path, build)
