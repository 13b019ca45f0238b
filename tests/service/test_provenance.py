"""Where a trial's surroundings are read from, and what happens where they cannot be."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from added_support import copy_packages

from service.provenance import code_version, commit_of, cpu_fact, libraries_hash, provenance


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "file").write_text("1")
    names = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a"}
    environment = os.environ | names | {"GIT_COMMITTER_EMAIL": "a@b"}
    for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", *command], cwd=folder, check=True, env=environment)
    return folder


def test_a_commit_is_named_and_a_change_is_marked(checkout: Path) -> None:
    commit = commit_of(checkout)
    assert len(commit) == 40
    (checkout / "untracked").write_text("2")
    assert commit_of(checkout) == commit
    (checkout / "file").write_text("2")
    assert commit_of(checkout) == f"{commit}-dirty"


def test_a_folder_inside_another_checkout_is_none(checkout: Path, tmp_path: Path) -> None:
    (checkout / "inside").mkdir()
    assert commit_of(checkout / "inside") == ""
    assert commit_of(tmp_path) == ""


def test_without_git_there_is_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(checkout) == ""


def test_facts_that_are_not_known_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    provenance.cache_clear()
    monkeypatch.delenv("KD_SWEEP_IMAGE_DIGEST", raising=False)
    assert "image" not in provenance()
    provenance.cache_clear()
    monkeypatch.setenv("KD_SWEEP_IMAGE_DIGEST", "sha256:1")
    facts = provenance()
    provenance.cache_clear()
    assert facts["image"] == "sha256:1"
    assert all(facts.values())
    assert {"python", "platform", "libraries"} <= facts.keys()


def test_outside_a_checkout_the_commit_is_that_of_the_image(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    provenance.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KD_SWEEP_COMMIT", "0123abc")
    facts = provenance()
    provenance.cache_clear()
    assert facts["commit"] == "0123abc"


def test_what_a_library_adds_to_the_path_is_none_of_the_libraries(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = libraries_hash()
    (tmp_path / "added-1.0.dist-info").mkdir()
    (tmp_path / "added-1.0.dist-info" / "METADATA").write_text("Name: added\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert libraries_hash() == before


def test_the_list_of_cpus_is_read(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: A CPU\nflags\t\t: avx avx2\n")
    assert cpu_fact("model name", file) == "A CPU"
    assert cpu_fact("flags", file) == "avx avx2"
    assert cpu_fact("bogus", file) == cpu_fact("flags", tmp_path / "absent") == ""


def test_the_hash_of_the_libraries_is_stable() -> None:
    assert len(libraries_hash()) == 16
    assert libraries_hash() == libraries_hash()


def test_the_code_version_follows_the_sources() -> None:
    assert re.fullmatch(r"[\w.]+\+[0-9a-f]{12}", code_version())
    assert code_version() == code_version()


CHANGES = """
from pathlib import Path
from service.provenance import code_version

def changed_by(name):
    before = code_version()
    with Path(name).open("a") as file:
        file.write("# a change\\n")
    return code_version() != before

print([changed_by(name) for name in ("service/states.py", "service/presets/demo.yaml")])
print([changed_by(name) for name in ("trainers/world.py", "search_spaces/grid.py")])
before = code_version()
Path("trainers/moved").mkdir()
Path("trainers/world.py").rename("trainers/moved/world.py")
print(code_version() != before)
"""


def test_the_code_version_follows_what_decides_the_numbers(tmp_path: Path) -> None:
    packages = copy_packages(tmp_path / "packages")
    command = [sys.executable, "-c", CHANGES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=packages, check=True)
    assert done.stdout.splitlines() == ["[False, False]", "[True, True]", "True"]
