"""Evaluation sets in a command line's words, and in the tags of a run."""

from pathlib import Path

import pytest

from service.errors import PlanError, SpecError
from service.evaluation.sets import (
    NamedSet,
    metric_name,
    metrics_of,
    named_sets,
    recorded_set,
    sets_of_sweeps,
)
from trainers.trial.facts import SetFacts
from trainers.trial.sources import DataSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("self_inst.jsonl", "a.b.jsonl"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name", "place"),
    [
        ("self_inst.jsonl", "self_inst", "{folder}/self_inst.jsonl"),
        ("test=./self_inst.jsonl", "test", "{folder}/self_inst.jsonl"),
        ("./a.b.jsonl", "a", "{folder}/a.b.jsonl"),
        ("data/", "data", "{folder}/data"),
        ("all=./*.jsonl", "all", "{folder}/*.jsonl"),
        ("MiniLLM/self-inst", "self-inst", "MiniLLM/self-inst"),
        ("builtin:digits", "digits", "builtin:digits"),
    ],
)
def test_a_set_has_a_name_and_a_place(folder: Path, text: str, name: str, place: str) -> None:
    assert named_sets([text], folder) == [NamedSet(name, place.format(folder=folder))]


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["=x.jsonl"], SpecError, "--on: must be PLACE or NAME=PLACE .* but got '=x.jsonl'"),
        (["a/b=./self_inst.jsonl"], SpecError, "letters, digits, _, - and ., but got 'a/b="),
        (["x="], SpecError, "but got 'x='"),
        (["a=./self_inst.jsonl", "a=./a.b.jsonl"], SpecError, "but got 'a' twice"),
        (["gone.jsonl"], PlanError, "--on gone: the file must exist, but .*gone.jsonl is missing"),
    ],
)
def test_what_is_no_set_is_refused(
    folder: Path, texts: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        named_sets(texts, folder)


def test_sets_that_a_sweep_names_are_taken_where_they_are(folder: Path) -> None:
    place = str(folder / "self_inst.jsonl")
    named = {"a-1": {"own": place, "hub": "some/set"}, "b-2": {"hub": "some/set", "own": place}}
    found = sets_of_sweeps(named, folder)
    assert found == [NamedSet("own", place), NamedSet("hub", "some/set")]
    with pytest.raises(SpecError, match=r"for a-1 \(own, hub\) and c-3 \(none\)"):
        sets_of_sweeps(named | {"c-3": {}}, folder)
    with pytest.raises(SpecError, match=r"got none, and data\.test of c-3 has none"):
        sets_of_sweeps({"c-3": {}}, folder)
    with pytest.raises(PlanError, match=r"data\.test\.x: the file must exist, .*gone\.jsonl"):
        sets_of_sweeps({"a-1": {"x": str(folder / "gone.jsonl")}}, folder)


def test_a_set_is_read_as_the_sweeps_data_but_whole() -> None:
    data = DataSource(
        train="t", validation="v", template="Q {instruction}", max_validation_examples=5
    )
    found = NamedSet("x", "/data/x.jsonl").source(data, "test")
    assert (found.validation, found.validation_split) == ("/data/x.jsonl", "test")
    assert (found.template, found.max_validation_examples) == ("Q {instruction}", None)


def test_metrics_of_a_set_are_found_by_its_whole_name() -> None:
    assert metric_name("a", "rouge_l") == "test/a/rouge_l"
    recorded = {"test/a/rouge_l": 1.0, "test/a.b/rouge_l": 2.0, "rouge_l": 3.0}
    assert metrics_of(recorded, "a") == {"rouge_l": 1.0}


def test_a_tag_that_was_edited_is_named() -> None:
    assert recorded_set({}, "a") is None
    with pytest.raises(ValueError, match=r"tag test\.a"):
        recorded_set({"test.a": '{"place": 3}'}, "a")


@pytest.mark.parametrize(
    ("in_train", "in_validation", "caution"),
    [
        (0, 0, ""),
        (0, 9, "it is the validation split, by which trials were selected"),
        (
            2,
            1,
            "of its 9 examples 2 are also in the training split and 1 are also in the "
            "validation split",
        ),
    ],
)
def test_what_speaks_against_a_set_is_said(in_train: int, in_validation: int, caution: str) -> None:
    facts = SetFacts(
        num_examples=9, in_train=in_train, in_validation=in_validation, fingerprint="f"
    )
    assert facts.caution == caution
