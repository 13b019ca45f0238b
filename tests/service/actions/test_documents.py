"""Shipped documents: presets, the starter, the schema."""

from pathlib import Path

import pytest
import yaml

from service.actions.documents import list_presets, read_preset, read_starter, sweep_schema
from service.errors import SpecError
from service.workspace import Workspace


def test_each_preset_is_listed_with_what_it_finds_out(tmp_path: Path) -> None:
    found = {preset.name: preset for preset in list_presets()}
    assert {"demo", "temperature", "cist"} <= set(found)
    text = read_preset("cist", Workspace(tmp_path)).text
    assert text.startswith(f"# {found['cist'].finds_out}")
    assert found["cist"].to_json() == {"name": "cist", "finds out": found["cist"].finds_out}


def test_a_document_is_its_text_and_what_it_holds(tmp_path: Path) -> None:
    document = read_preset("temperature", Workspace(tmp_path))
    assert document.to_json()["name"] == "temperature"
    assert yaml.safe_load(document.text)["search"].keys() == document.content["search"].keys()
    with pytest.raises(SpecError, match="'temprature'.*Did you mean 'temperature'"):
        read_preset("temprature", Workspace(tmp_path))


def test_the_starter_has_comments_and_fits_the_schema() -> None:
    document = read_starter()
    assert "#" in document.text
    assert set(document.content) <= set(sweep_schema()["properties"])
