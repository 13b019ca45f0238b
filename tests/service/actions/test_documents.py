"""Shipped documents: presets, the starter, the schema."""

import pytest
import yaml

from service.actions.documents import list_presets, read_preset, read_starter, sweep_schema
from service.errors import SpecError


def test_each_preset_is_listed_with_what_it_finds_out() -> None:
    found = {preset.name: preset for preset in list_presets()}
    assert {"demo", "temperature", "cist"} <= set(found)
    text = read_preset("cist").text
    assert text.startswith(f"# {found['cist'].finds_out}")
    assert found["cist"].to_json() == {"name": "cist", "finds out": found["cist"].finds_out}


def test_a_document_is_its_text_and_what_it_holds() -> None:
    document = read_preset("temperature")
    assert document.to_json()["name"] == "temperature"
    assert yaml.safe_load(document.text)["search"].keys() == document.content["search"].keys()
    with pytest.raises(SpecError, match="'temprature'.*Did you mean 'temperature'"):
        read_preset("temprature")


def test_the_starter_has_comments_and_fits_the_schema() -> None:
    document = read_starter()
    assert "#" in document.text
    assert set(document.content) <= set(sweep_schema()["properties"])
