"""What an installation of the project is: names, packages, locked versions, a quick start."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
TOP_LEVEL = ("kd_sweep", "search_spaces", "service", "trainers")
HEAVY = ("torch", "ray", "mlflow", "transformers", "datasets", "optuna")


def normalised(requirement: str) -> str:
    """The distribution's name as indexes compare it, without extras, version or marker."""
    name = re.split(r"[\s\[<>=!~;]", requirement.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normalised(name): version for name, version in pins}


def requirements() -> list[str]:
    extras = PROJECT["optional-dependencies"].values()
    return [*PROJECT["dependencies"], *(entry for extra in extras for entry in extra)]


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_our_names_belong_to_our_distribution_alone(name: str) -> None:
    assert set(packages_distributions()[name]) == {"kd-sweep"}


def test_the_list_of_packages_is_complete() -> None:
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for name in TOP_LEVEL
        for path in (ROOT / name).rglob("*.py")
    }
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(folders)


def test_the_list_of_single_modules_is_complete() -> None:
    listed = PYPROJECT["tool"]["setuptools"]["py-modules"]
    assert sorted(listed) == sorted(path.stem for path in ROOT.glob("*.py"))


def test_the_image_is_made_of_all_of_it() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    copies = [line.split() for line in lines if line.startswith("COPY ") and "--from" not in line]
    copied = {name for _, *names, _ in copies for name in names}
    ours = {name if (ROOT / name).is_dir() else f"{name}.py" for name in TOP_LEVEL}
    assert ours <= copied
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert copied <= kept


def test_every_package_has_its_init_file() -> None:
    packages = PYPROJECT["tool"]["setuptools"]["packages"]
    assert [p for p in packages if not (ROOT / p.replace(".", "/") / "__init__.py").is_file()] == []


def test_an_index_would_refuse_an_upload() -> None:
    assert "Private :: Do Not Upload" in PROJECT["classifiers"]


def test_every_dependency_is_locked() -> None:
    assert [entry for entry in requirements() if normalised(entry) not in locked()] == []


def test_locked_versions_fit_any_build_of_torch() -> None:
    suffixed = [name for name, version in locked().items() if "+" in version]
    of_cuda = [
        name for name in locked() if name.startswith(("nvidia-", "triton", "pytorch-triton"))
    ]
    assert suffixed + of_cuda == []


def test_this_environment_has_the_locked_versions() -> None:
    pins = locked()
    names = [normalised(entry) for entry in PROJECT["dependencies"]]
    different = {
        name: (installed, pins[name])
        for name in names
        if (installed := distribution(name).version.split("+")[0]) != pins[name]
    }
    assert not different


def presets_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.yaml")}


def test_presets_are_shipped() -> None:
    shipped = {entry.name for entry in files("service.presets").iterdir() if entry.is_file()}
    assert presets_in(ROOT / "service" / "presets") <= shipped
    data = PYPROJECT["tool"]["setuptools"]["package-data"]
    assert data == {
        "service.presets": ["*.yaml"],
        "service.report": ["templates/*"],
        "service.web": ["static/*", "templates/*"],
        "trainers.tasks": ["*.json"],
    }


PROBE = """
import json, sys
from service.cli.main import main
code = 0
try:
    main()
except SystemExit as stop:
    code = stop.code
loaded = {name.split(".")[0] for name in sys.modules}
print(json.dumps({"code": code, "loaded": sorted(loaded)}), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"], ["schema"]], ids=" ".join)
def test_the_command_line_answers_without_anything_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    answer = json.loads(done.stderr.splitlines()[-1])
    assert answer["code"] in (0, None)
    assert done.stdout
    assert set(answer["loaded"]).isdisjoint(HEAVY)


def test_the_installed_command_is_ours() -> None:
    entry = {point.name: point.value for point in distribution("kd-sweep").entry_points}
    assert entry == {"kd-sweep": "service.cli.main:main"}
