"""Hashes follow content: not names of folders, not the order of keys."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from trainers.files import fingerprints


def test_documents_are_equal_whatever_the_order_of_keys() -> None:
    assert fingerprints.of_document({"a": 1, "b": [2]}) == fingerprints.of_document(
        {"b": [2], "a": 1}
    )
    assert fingerprints.of_document({"a": 1}) != fingerprints.of_document({"a": 2})


def test_a_file_hashes_to_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprints.of_file(tmp_path / "f") == known


def test_a_models_place_plays_no_part_and_its_weights_do(tmp_path: Path) -> None:
    for name, weights in (("one", b"w"), ("two", b"w"), ("three", b"v")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "README.md").write_text(name)
    one, two, three = (fingerprints.of_model(tmp_path / n) for n in ("one", "two", "three"))
    assert one == two != three


CONFIG = {"eos_token_id": 0}
DERIVED = {"_from_model_config": True, "eos_token_id": 0}


def written(folder: Path, files: dict[str, Any]) -> str:
    folder.mkdir()
    for name, content in {"config.json": CONFIG, **files}.items():
        (folder / name).write_text(json.dumps(content))
    return fingerprints.of_model(folder)


def test_code_and_generation_config_are_part_of_a_model(tmp_path: Path) -> None:
    prints = [
        written(tmp_path / str(number), files)
        for number, files in enumerate(
            [
                {},
                {"modeling.py": 1},
                {"modeling.py": 2},
                {"generation_config.json": {"eos_token_id": [0, 1]}},
                {"generation_config.json": {"eos_token_id": [0, 2]}},
                {"generation_config.json": {**DERIVED, "eos_token_id": 3}},
            ]
        )
    ]
    assert len(set(prints)) == len(prints)


def test_a_generation_config_that_says_what_the_config_says_is_not(tmp_path: Path) -> None:
    """save_pretrained writes one into every folder; homes of earlier versions are found again."""
    without = written(tmp_path / "without", {})
    assert written(tmp_path / "with", {"generation_config.json": DERIVED}) == without
    digest = hashlib.sha256(json.dumps(CONFIG).encode()).hexdigest()
    earlier = json.dumps({"config.json": digest}, separators=(",", ":"))
    assert without == hashlib.sha256(earlier.encode()).hexdigest()


def test_a_recorded_model_is_known_in_the_form_of_earlier_versions(tmp_path: Path) -> None:
    earlier = written(tmp_path / "earlier", {})
    files = {"modeling.py": 1, "generation_config.json": {"eos_token_id": [0, 1]}}
    now = written(tmp_path / "model", files)
    found = [fingerprints.of_recorded_model(tmp_path / "model", r) for r in (earlier, now, "x")]
    assert found == [earlier, now, now]


def test_weights_follow_names_types_shapes_and_bits() -> None:
    plain = {"a": torch.ones(2, 3), "b": torch.zeros(2)}
    assert fingerprints.of_weights(plain) == fingerprints.of_weights(dict(reversed(plain.items())))
    others = [
        {**plain, "b": torch.tensor([0.0, -0.0])},
        {**plain, "a": torch.ones(3, 2)},
        {**plain, "a": torch.ones(2, 3, dtype=torch.bfloat16)},
        {"a": plain["a"], "c": plain["b"]},
    ]
    prints = {fingerprints.of_weights(weights) for weights in [plain, *others]}
    assert len(prints) == 5
