"""The image as built: its size, its user, what it tells and what it keeps to itself."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from docker_support import ROOT, Builder

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.docker

GB = 1e9
MAX_SIZE_GB = 2.5
MAX_OWN_GB = 0.18  # what neither torch, Ray, MLflow nor anything they need brings along

# Prints the size in bytes of the distributions that those three do not need.
OWN_SIZE = """
import os, re
from importlib.util import cache_from_source
from importlib.metadata import distributions
from packaging.requirements import Requirement

def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()

def needs(entry, extras):
    return entry.marker is None or any(entry.marker.evaluate({"extra": e}) for e in ("", *extras))

found = {plain(d.metadata["Name"]): d for d in distributions()}
seen, waiting = set(), [("torch", ()), ("ray", ("default", "tune", "train")), ("mlflow", ())]
while waiting:
    key = waiting.pop()
    if key in seen or key[0] not in found:
        continue
    seen.add(key)
    entries = map(Requirement, found[key[0]].requires or [])
    waiting += [(plain(e.name), tuple(sorted(e.extras))) for e in entries if needs(e, key[1])]
needed = {name for name, _ in seen}
files = [d.locate_file(f) for n, d in found.items() if n not in needed for f in d.files or []]
paths = {str(path) for path in files}
sources = {path for path in paths if path.endswith(".py")}
paths |= {cache_from_source(path) for path in sources} | {path + "c" for path in sources}
print(sum(os.path.getsize(path) for path in paths if os.path.isfile(path)))
"""


def run(engine: "DockerClient", image: str, *command: str, **options: object) -> str:
    """What `command` printed in a container of `image` without network, with a read-only root."""
    logs = engine.containers.run(
        image,
        list(command),
        network_mode="none",
        read_only=True,
        remove=True,
        tmpfs={"/tmp": ""},
        **options,
    )
    return logs.decode()


def test_the_image_is_small(engine: "DockerClient", image: str) -> None:
    assert engine.images.get(image).attrs["Size"] / GB <= MAX_SIZE_GB


def test_little_of_it_is_neither_torch_nor_ray_nor_mlflow(
    engine: "DockerClient", image: str
) -> None:
    assert int(run(engine, image, "python", "-c", OWN_SIZE)) / GB <= MAX_OWN_GB


def test_it_names_its_version_and_commit(engine: "DockerClient", image: str) -> None:
    labels = engine.images.get(image).labels
    assert labels["org.opencontainers.image.version"] == "1.2.3"
    assert labels["org.opencontainers.image.revision"] == "0123abc"
    assert "KD_SWEEP_COMMIT=0123abc" in engine.images.get(image).attrs["Config"]["Env"]


def test_nobody_is_root_in_it(engine: "DockerClient", image: str) -> None:
    assert run(engine, image, "id", "--user").strip() == "1000"


def test_no_setting_of_the_build_stays_in_it(engine: "DockerClient", image: str) -> None:
    made = engine.images.get(image)
    record = json.dumps([made.attrs["Config"], made.history()])
    assert "127.0.0.1" not in record
    assert "PIP_" not in record
    assert run(engine, image, "pip", "config", "list").strip() == ""


def test_the_command_line_answers_in_it(engine: "DockerClient", image: str) -> None:
    assert "kd-sweep" in run(engine, image, "kd-sweep", "--help")


def test_python_finds_its_module_in_it(engine: "DockerClient", image: str) -> None:
    code = "import kd_sweep; print(kd_sweep.plan('demo').spec.name)"
    home = {"KD_SWEEP_HOME": "/tmp/home"}
    said = run(engine, image, "python", "-c", code, environment=home)
    assert said.splitlines()[-1] == "demo"


def test_the_trainer_answers_in_it_under_any_user(engine: "DockerClient", image: str) -> None:
    said = run(engine, image, "python", "-m", "trainers", "--help", user="4711:4711")
    assert "trial" in said


def test_it_has_the_locked_versions(engine: "DockerClient", image: str) -> None:
    pins = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    installed = run(engine, image, "pip", "freeze").replace("+cpu", "").splitlines()
    ours = [line for line in installed if not line.startswith("kd-sweep")]
    assert [line for line in ours if line not in pins] == []


def test_it_is_healthy_by_its_own_check(engine: "DockerClient", image: str) -> None:
    check = engine.images.get(image).attrs["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    assert run(engine, image, *check[1:])


def test_a_change_of_code_builds_no_dependency_again(
    engine: "DockerClient", builder: Builder, image: str, tmp_path: Path
) -> None:
    context = copy_of_the_context(tmp_path)
    changed = context / "service" / "__init__.py"
    changed.write_text(changed.read_text() + "\nCHANGED = True\n")
    builder.build("kd-sweep:changed", context, COMMIT="0123abc", VERSION="1.2.3")
    before, after = (
        engine.images.get(name).attrs["RootFS"]["Layers"] for name in (image, "kd-sweep:changed")
    )
    engine.images.remove("kd-sweep:changed")
    # What differs is the wheel and its installation.
    assert before[:-2] == after[:-2]
    assert before[-1] != after[-1]


def copy_of_the_context(folder: Path) -> Path:
    """A copy of what the builder gets of this checkout."""
    context = folder / "context"
    for name in ("docker", "service", "trainers", "search_spaces"):
        shutil.copytree(ROOT / name, context / name)
    for name in (".dockerignore", "README.md", "constraints.txt", "kd_sweep.py", "pyproject.toml"):
        shutil.copy(ROOT / name, context / name)
    return context
