"""YAML without surprises, presets by name, overrides on the raw document."""

import os
from pathlib import Path
from typing import Any

import pytest

from service.errors import SpecError
from service.spec.file import apply_override, load_sweep, parse_yaml, read_document, starter_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 0.0005),
        ("1.5", 1.5),
        ("3", 3),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("null", None),
        ("[1, 2e-3]", [1, 0.002]),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: Any) -> None:
    read = parse_yaml(f"field: {text}", "sweep.yaml")["field"]
    assert read == value
    assert type(read) is type(value)


def test_a_name_written_twice_is_refused_with_both_lines() -> None:
    text = "search:\n  tau: {float: [1, 2]}\n  beta: {float: [0.1, 0.9]}\n  tau: {float: [1, 4]}\n"
    with pytest.raises(SpecError, match=r"sweep.yaml, line 4: .*'tau', at lines 2 and 4. Remove"):
        parse_yaml(text, "sweep.yaml")


def test_broken_yaml_names_the_line() -> None:
    with pytest.raises(SpecError, match="sweep.yaml, line 3: "):
        parse_yaml("name: x\nsearch: [1\n", "sweep.yaml")


@pytest.mark.parametrize("text", ["", "- a\n", "just text"])
def test_a_sweep_is_a_mapping(text: str) -> None:
    with pytest.raises(SpecError, match="sweep.yaml: a sweep must be a mapping .* but got"):
        parse_yaml(text, "sweep.yaml")


def test_yaml_cannot_make_objects() -> None:
    with pytest.raises(SpecError, match="could not determine a constructor"):
        parse_yaml("name: !!python/object/apply:os.system [ls]", "sweep.yaml")


def test_an_unknown_preset_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="but got 'demoo'. Did you mean 'demo'.*temperature"):
        read_document("demoo", tmp_path)


def test_a_file_wins_over_a_preset_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("name: mine")
    assert read_document("demo", tmp_path) == {"name": "mine"}


def test_overrides_reach_into_the_document() -> None:
    document: dict[str, Any] = {"training": {"epochs": 3, "batch_size": 8}}
    apply_override(document, "training.learning_rate=2e-3")
    apply_override(document, "search.tau={float: [1, 2]}")
    assert document == {
        "training": {"epochs": 3, "batch_size": 8, "learning_rate": 0.002},
        "search": {"tau": {"float": [1, 2]}},
    }


def test_naming_an_alternative_replaces_the_other() -> None:
    document = parse_yaml(starter_text(), "starter")
    for override in ("teacher.model=gpt2-xl", "student.model=gpt2", "training.epochs=3"):
        apply_override(document, override)
    assert document["teacher"] == {"model": "gpt2-xl"}
    assert "tokenizer" not in document
    assert document["student"]["model"] == "gpt2"
    assert "config" not in document["student"]
    assert document["student"]["fit"] == {"steps": 100, "batch_size": 16, "learning_rate": 0.003}
    assert "steps" not in document["training"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trials", "--set: must be written a.b=value, but got 'trials'"),
        ("=3", "--set: must be written a.b=value, but got '=3'"),
        ("name.first=x", "--set name.first: name must hold a mapping, but got 'demo'"),
        ("trials=[1", r"--set trials: the value must be YAML, but got '\[1'"),
    ],
)
def test_bad_overrides_are_explained(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        apply_override({"name": "demo"}, override)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("data.train", "./nothing"),
        ("data.validation", "data/trian.txt"),
        ("data.train", "train.parquet"),
        ("teacher.model", "models/gpt2/final"),
        ("student.model", "../student"),
        ("tokenizer.model", "tokenizer.json"),
        ("tokenizer.model", "./tokenizer"),
    ],
)
def test_what_looks_like_a_path_becomes_one(tmp_path: Path, field: str, name: str) -> None:
    spec = load_sweep("temperature", [f"{field}={name}"], tmp_path)
    section, _, key = field.partition(".")
    found = getattr(getattr(spec, section), key)
    assert found == os.path.realpath(tmp_path / name)


@pytest.mark.parametrize("field", ["data.train", "teacher.model", "tokenizer.model"])
@pytest.mark.parametrize("name", ["gpt2", "owner/name-2.5-0.5B"])
def test_a_hub_name_stays_one(tmp_path: Path, field: str, name: str) -> None:
    spec = load_sweep("temperature", [f"{field}={name}"], tmp_path)
    section, _, key = field.partition(".")
    assert getattr(getattr(spec, section), key) == name


@pytest.mark.parametrize(
    ("field", "name", "message"),
    [
        (
            "data.train",
            "~no-such-user/x",
            r"data.train: ~ must be followed by / or the name of a user",
        ),
        ("student.model", "''", r"student.model: must be text that is not empty"),
        ("storage.path", '"a\\0b"', r"storage.path: must have no control characters"),
        ("storage.path", '""', r"storage.path: must be text that is not empty"),
        ("teacher.model", "x" * 5000, r"teacher.model: must have at most 1000 characters"),
        ("teacher_cache.folder", "~no-such-user", r"teacher_cache.folder: ~ must be followed by"),
    ],
)
def test_what_no_file_can_be_called_is_refused(
    tmp_path: Path, field: str, name: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        load_sweep("temperature", [f"{field}={name}"], tmp_path)


def test_local_paths_become_absolute(tmp_path: Path) -> None:
    (tmp_path / "teachers").mkdir()
    overrides = ["teacher.model=teachers", "student.model=gpt2", "data.train=data/a.jsonl"]
    spec = load_sweep("temperature", overrides, tmp_path)
    assert spec.teacher.model == str(tmp_path / "teachers")
    assert spec.student.model == "gpt2"
    assert spec.data.train == str(tmp_path / "data" / "a.jsonl")
    assert spec.data.validation == "builtin:docstrings"
