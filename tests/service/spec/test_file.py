"""YAML without surprises, presets by name, overrides on the raw document."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.errors import SpecError
from service.spec.file import (
    LoadedSweep,
    apply_override,
    load_sweep,
    parse_yaml,
    read_document,
    starter_text,
)


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


def test_a_learning_rate_is_given_or_tuned_by_whichever_was_set_last() -> None:
    document: dict[str, Any] = {"training": {"epochs": 3, "learning_rate": 1e-3}}
    apply_override(document, "tune.learning_rate=[1e-3, 1e-2]")
    assert document == {"training": {"epochs": 3}, "tune": {"learning_rate": [1e-3, 1e-2]}}
    apply_override(document, "training.learning_rate=2e-3")
    assert document == {"training": {"epochs": 3, "learning_rate": 2e-3}}


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
    spec = load_sweep("temperature", [f"{field}={name}"], tmp_path).spec
    section, _, key = field.partition(".")
    found = getattr(getattr(spec, section), key)
    assert found == os.path.realpath(tmp_path / name)


@pytest.mark.parametrize("field", ["data.train", "teacher.model", "tokenizer.model"])
@pytest.mark.parametrize("name", ["gpt2", "owner/name-2.5-0.5B"])
def test_a_hub_name_stays_one(tmp_path: Path, field: str, name: str) -> None:
    spec = load_sweep("temperature", [f"{field}={name}"], tmp_path).spec
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
    overrides += ["data.test.own=data/t.jsonl", "data.test.hub=some/set"]
    spec = load_sweep("temperature", overrides, tmp_path).spec
    assert spec.teacher.model == str(tmp_path / "teachers")
    assert spec.student.model == "gpt2"
    assert spec.data.train == str(tmp_path / "data" / "a.jsonl")
    assert spec.data.validation == "builtin:docstrings"
    assert spec.data.test == {"own": str(tmp_path / "data" / "t.jsonl"), "hub": "some/set"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A working folder with a sweep in `configs`, and names that are in one of them or both."""
    files = ["configs/beside.jsonl", "working.jsonl", "configs/both.jsonl", "both.jsonl"]
    for name in ["configs/models/x", "models/x", *files]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def loaded(project: Path, *overrides: str, **sections: object) -> LoadedSweep:
    document = read_document("temperature", project) | sections
    (project / "configs" / "sweep.yaml").write_text(yaml.safe_dump(document))
    return load_sweep("configs/sweep.yaml", overrides, project)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("beside.jsonl", "configs/beside.jsonl"),
        ("working.jsonl", "working.jsonl"),
        ("both.jsonl", "configs/both.jsonl"),
        ("../both.jsonl", "both.jsonl"),
        ("nowhere.jsonl", "nowhere.jsonl"),
    ],
)
def test_a_sweeps_paths_are_looked_for_beside_its_file_first(
    project: Path, name: str, found: str
) -> None:
    there = {"train": name, "validation": "owner/hub-name"}
    got = loaded(project, data=there)
    assert got.spec.data.train == str(project / found)
    assert got.spec.data.validation == "owner/hub-name"
    assert got.folders == (project / "configs", project)
    both = f"data.train: {project}/configs/both.jsonl was taken; there is {project}/both.jsonl, too"
    assert got.notes == ((both,) if name == "both.jsonl" else ())


def test_models_and_places_of_storage_are_looked_for_there_too(project: Path) -> None:
    teacher, storage = {"model": "models"}, {"path": "models"}
    got = loaded(project, teacher=teacher, storage=storage, teacher_cache={"folder": "new"})
    assert got.spec.teacher.model == got.spec.storage.path == str(project / "configs/models")
    assert got.spec.teacher_cache.folder == str(project / "new")
    assert [note.partition(":")[0] for note in got.notes] == ["teacher.model", "storage.path"]


def test_what_the_command_line_or_the_environment_names_is_in_the_working_folder(
    project: Path,
) -> None:
    assert loaded(project, "data.train=both.jsonl").spec.data.train == str(project / "both.jsonl")
    document = "data={train: both.jsonl, validation: both.jsonl}"
    assert loaded(project, document).spec.data.validation == str(project / "both.jsonl")
    with_storage = load_sweep("configs/sweep.yaml", [], project, {"path": "models"})
    assert with_storage.spec.storage.path == str(project / "models")


def test_a_preset_has_no_folder_of_its_own(tmp_path: Path) -> None:
    assert load_sweep("temperature", [], tmp_path).folders == (tmp_path,)


def test_a_name_that_no_file_can_have_is_said_in_one_line(tmp_path: Path) -> None:
    for name in ("x" * 5000, "~nobody-of-this-name", "a\0b"):
        with pytest.raises(SpecError, match=r"^SPEC: must be a ") as refusal:
            read_document(name, tmp_path)
        assert len(str(refusal.value)) < 400 and ".." not in str(refusal.value)
