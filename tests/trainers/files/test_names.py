"""Which names are paths, and which may be on a hub."""

import os
from pathlib import Path

import pytest

from trainers.files.names import local_path

A_PATH = [
    "./nothing",
    "../up",
    ".hidden",
    "/no/train.parquet",
    "/no/folder",
    "~/data",
    "data/trian.txt",
    "train.jsonl",
    "train.json",
    "a.csv",
    "a.JSONL",
    "a.jsonl.gz",
    "rows.arrow",
    "sweep.yaml",
    "models/gpt2/final",
    "models/gpt2/",
    "with space/x",
    "a--b",
    "x" * 200,
]
ON_A_HUB = [
    "gpt2",
    "Qwen/Qwen2.5-0.5B",
    "meta-llama/Llama-3.2-1B",
    "databricks/databricks-dolly-15k",
    "data/train",
    "s3://bucket/train.jsonl",
]


@pytest.mark.parametrize("name", A_PATH)
def test_what_looks_like_a_path_is_one_whether_it_is_there_or_not(
    tmp_path: Path, name: str
) -> None:
    wanted = os.path.realpath(tmp_path / Path(name).expanduser())
    assert str(local_path(name, tmp_path)) == wanted


@pytest.mark.parametrize("name", ON_A_HUB)
def test_what_may_be_on_a_hub_is_no_path_unless_it_is_there(tmp_path: Path, name: str) -> None:
    assert local_path(name, tmp_path) is None
    if "://" not in name:
        (tmp_path / name).mkdir(parents=True)
        assert local_path(name, tmp_path) == (tmp_path / name).resolve()


@pytest.mark.parametrize("name", ["", "  ", "a\0b"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"a name must have characters, and none of them NUL"):
        local_path(name, tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000, "./" + "x" * 300 + ".jsonl", "a/" * 3000])
def test_a_name_longer_than_any_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"must be shorter .* but got {len(name)} characters"):
        local_path(name, tmp_path)


def test_the_home_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name of a user of this machine, but got '~no-user/x'"):
        local_path("~no-user/x", tmp_path)
