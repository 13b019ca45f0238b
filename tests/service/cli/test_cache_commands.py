"""`kd-sweep cache` over caches that were written by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner, Result
from written_caches import SHARD, write_cache

from service.cli.main import app
from service.home import home_folder
from trainers.files import store
from trainers.teachers import cache_copy

NEW, OLD = "b" * 20, "a" * 20


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["cache", *arguments])


@pytest.fixture(autouse=True)
def newest() -> Path:
    write_cache(home_folder(), OLD, "2026-01-01T00:00:00+00:00")
    return write_cache(home_folder(), NEW, "2026-02-01T00:00:00+00:00")


def rows(*arguments: str) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


def test_the_newest_is_listed_first() -> None:
    found = rows("list")
    assert [(one["key"], one["num_positions"]) for one in found] == [(NEW, 10), (OLD, 10)]
    shown = call("list").stdout
    assert shown.index(NEW) < shown.index(OLD)
    assert "exact" in shown


def test_a_cache_is_shown_by_the_beginning_of_its_key() -> None:
    assert rows("show", "bbb")["numerics"] == {"precision": "float32"}
    assert "num shards" in call("show", NEW).stdout


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    result = call("show", "c")
    assert result.exit_code == 3
    assert "names 0" in result.stderr and NEW in result.stderr


def test_caches_elsewhere_are_looked_at_by_folder_and_url(tmp_path: Path, newest: Path) -> None:
    shutil.copytree(newest, tmp_path / NEW)
    url = f"memory://{tmp_path.name}"
    cache_copy.upload(newest, url)
    for place in (str(tmp_path), url):
        (row,) = rows("list", "--folder", place)
        assert (row["key"], row["folder"]) == (NEW, f"{place}/{NEW}")
        assert rows("show", "b", "--folder", place)["num_shards"] == 1
        assert rows("verify", "--folder", place) == [{"key": NEW, "damaged": []}]
    (tmp_path / NEW / SHARD).write_bytes(b"other")
    system = fsspec.filesystem("memory")
    system.pipe_file(f"/{tmp_path.name}/{NEW}/{SHARD}", b"other")
    for place in (str(tmp_path), url):
        assert rows("verify", "--folder", place) == [{"key": NEW, "damaged": [SHARD]}]
        assert [one["key"] for one in rows("prune", "--keep-gib", "0", "--folder", place)] == [NEW]
        assert rows("list", "--folder", place) == []
    assert [one["key"] for one in rows("list")] == [NEW, OLD]


def test_a_damaged_file_is_named(newest: Path) -> None:
    assert call("verify").exit_code == 0
    (newest / SHARD).write_bytes(b"other")
    result = call("verify")
    assert result.exit_code == 1
    assert SHARD in result.stdout
    assert rows("verify") == [{"key": NEW, "damaged": [SHARD]}, {"key": OLD, "damaged": []}]
    assert call("verify", OLD).exit_code == 0


def test_the_oldest_goes_first(newest: Path) -> None:
    size = sum(path.stat().st_size for path in newest.iterdir())
    deleted = rows("prune", "--keep-gib", str(1.5 * size / 1024**3))
    assert [one["key"] for one in deleted] == [OLD]
    assert [one["key"] for one in rows("list")] == [NEW]
    assert "1 caches deleted, 2 KiB freed" in call("prune", "--keep-gib", "0").stdout
    assert rows("list") == []


@pytest.mark.parametrize("command", ["list", "show", "verify", "prune"])
def test_every_command_of_the_group_has_help_with_an_example(command: str) -> None:
    shown = call(command, "--help")
    assert shown.exit_code == 0
    assert f"Example: kd-sweep cache {command}" in " ".join(shown.stdout.split())


def test_what_is_being_built_stays_and_what_a_killed_build_left_goes() -> None:
    building = home_folder() / "caches" / ".c.building"
    building.mkdir()
    with store.locked(building.parent / ".c.train-00000.lock"):
        assert call("prune", "--keep-gib", "1").exit_code == 0
        assert building.is_dir()
    assert call("prune", "--keep-gib", "1").exit_code == 0
    assert not building.exists()
