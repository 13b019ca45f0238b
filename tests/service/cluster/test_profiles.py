"""Profiles of clusters: found, strict, and less than what the environment and the sweep say."""

import json
import os
from pathlib import Path

import pytest
import yaml
from fakes import make_document
from typer.testing import CliRunner

from service.cli.main import app
from service.cluster.profiles import VARIABLES, find_file, variables_of
from service.errors import SpecError
from service.spec import file as sweep_file
from service.spec.parse import parse_spec
from service.workspace import Workspace

LAB = """
[profiles.lab]
address = "http://head:8265"
token_env = "LAB_TOKEN"
home = "/shared/kd-sweep"
storage = "s3://bucket/kd"
study_url = "postgresql://optuna@db/optuna"
tracking = "http://mlflow:5000"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kd-sweep.toml"
    path.write_text(LAB)
    return path


def test_a_profile_stands_for_environment_variables(file: Path) -> None:
    assert variables_of("lab", file, {"LAB_TOKEN": "secret"}) == {
        "KD_SWEEP_ADDRESS": "http://head:8265",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "secret",
        "KD_SWEEP_HOME": "/shared/kd-sweep",
        "KD_SWEEP_STORAGE": "s3://bucket/kd",
        "KD_SWEEP_STUDY_URL": "postgresql://optuna@db/optuna",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    }


@pytest.mark.parametrize("key", VARIABLES)
def test_the_environment_counts_more(file: Path, key: str) -> None:
    for variable in VARIABLES[key]:
        added = variables_of("lab", file, {"LAB_TOKEN": "secret", variable: "mine"})
        assert not set(VARIABLES[key]) & added.keys()
        assert len(added) >= 5


def test_the_nearest_file_above_is_taken_and_the_homes_last(file: Path, tmp_path: Path) -> None:
    below, home = tmp_path / "a" / "b", tmp_path / "home"
    below.mkdir(parents=True)
    home.mkdir()
    (home / "kd-sweep.toml").write_text("")
    assert find_file(below, home) == file
    file.unlink()
    assert find_file(below, home) == home / "kd-sweep.toml"
    assert find_file(below, below) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LAB.replace("address", "adress"), r"lab\.adress: .* address, token_env.*but got 'adress'"),
        (LAB.replace("profiles.lab", "profiles.lap"), r"must hold 'lab', but got: lap\."),
        (LAB.replace("profiles.lab", "profile.lab"), r"must hold tables .* but got 'profile'"),
        (LAB.replace('"http://head:8265"', "8265"), r"lab\.address: must be a text .* got 8265"),
        (LAB.replace("= ", "", 1), r"must be TOML, but got: .*line 3"),
        ("[profiles]\nlab = 3", r"profiles\.lab: must be a table, but got 3"),
        (LAB.replace("LAB_TOKEN", "NONE"), r"lab\.token_env: .* NONE must hold .* is not set"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(file: Path, text: str, problem: str) -> None:
    file.write_text(text)
    with pytest.raises(SpecError, match=f"^{file}: .*{problem}"):
        variables_of("lab", file, {"LAB_TOKEN": "secret"})


def test_without_a_file_the_user_is_told_what_to_write() -> None:
    with pytest.raises(SpecError, match=r"--profile lab: .*\[profiles.lab\]"):
        variables_of("lab", None, {})


@pytest.mark.parametrize("given", ["flag", "variable"])
def test_the_command_line_goes_where_the_profile_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    for variable in ("KD_SWEEP_ADDRESS", "KD_SWEEP_PROFILE"):
        monkeypatch.setenv(variable, "")
    (tmp_path / "kd-sweep.toml").write_text('[profiles.lab]\naddress = "head:8265"')
    monkeypatch.chdir(tmp_path)
    words = ["--profile", "lab"] if given == "flag" else []
    if given == "variable":
        monkeypatch.setenv("KD_SWEEP_PROFILE", "lab")
    result = CliRunner().invoke(app, [*words, "status"])
    assert result.exit_code == 4
    assert "must start with http:// or https://, but got 'head:8265'" in result.stderr


def test_a_profile_is_a_value_and_leaves_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "lab"
    (tmp_path / "kd-sweep.toml").write_text(f'[profiles.lab]\nhome = "{home}"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KD_SWEEP_HOME")
    known = {name for names in VARIABLES.values() for name in names}
    before = {name: os.environ.get(name) for name in known}
    result = CliRunner().invoke(app, ["--profile", "lab", "cache", "prune", "--keep-gib", "1"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ["--profile", "lab", "sweeps", "--json"])
    assert json.loads(result.stdout) == []
    result = CliRunner().invoke(app, ["--profile", "lab", "trials", "latest"])
    assert f"no sweep is recorded in 'sqlite:///{home}/mlflow.db'" in result.stderr
    assert {name: os.environ.get(name) for name in known} == before


def test_a_sweep_that_names_no_storage_takes_the_environments(
    tmp_path: Path,
) -> None:
    variables = {
        "KD_SWEEP_STORAGE": "s3://bucket/kd",
        "KD_SWEEP_STUDY_URL": "postgresql://optuna@db/optuna",
    }
    storage = Workspace.from_environment(variables, tmp_path).storage
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(make_document()))
    spec = sweep_file.load_sweep("sweep.yaml", [], tmp_path, storage).spec
    assert spec.storage.path == "s3://bucket/kd"
    assert spec.storage.study_url == "postgresql://optuna@db/optuna"
    own = sweep_file.load_sweep("sweep.yaml", ["storage.path=there"], tmp_path, storage).spec
    assert own.storage.path == str(tmp_path / "there")


def test_a_url_as_storage_needs_a_database() -> None:
    with pytest.raises(SpecError, match=r"storage.*study_url: must name a database .*got None"):
        parse_spec(make_document(storage={"path": "s3://bucket/kd"}))


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (LAB.encode("utf-16"), r"kd-sweep\.toml, line 1: must be text in UTF-8, .* 0xff"),
        (
            b"[profiles.lab]\nx = '\xe9'\n",
            r"kd-sweep\.toml, line 2: must be text in UTF-8, .* 0xe9",
        ),
        (b"\x00", r"must be TOML, but got: "),
        (b"x = " + b"9" * 5000, r"must be TOML, but got: "),
        (b"x = " + b"[" * 5000, r"must be TOML, but got: "),
        (b"[profiles.lab]\n[profiles.lab]\n", r"must be TOML, but got: .*line 2"),
        (b"#" * 100_000, r"must be TOML, but got: 100,000 bytes"),
        (b"profiles = 3", r"must hold tables \[profiles\.NAME\] alone"),
        (b"[profiles]\nlab = 3", r"profiles\.lab: must be a table, but got 3"),
        (b'[profiles.lab]\nhome = "a\\u0000b"', r"profiles\.lab\.home: .* without control charact"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, raw: bytes, problem: str) -> None:
    path = tmp_path / "kd-sweep.toml"
    path.write_bytes(raw)
    with pytest.raises(SpecError, match=problem):
        variables_of("lab", path, {})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing\.toml: must be a file that can be read"):
        variables_of("lab", tmp_path / "nothing.toml", {})
