"""What a shell completes, and what else answers before anything is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import call
from records_support import make_store, plan_of, record_sweep

from service.cli import completing
from service.record.names import sweep_names, trial_names

ROWS = [({"tau": 1.0}, {"rouge_l": 20.0}), ({"tau": 2.0}, {"rouge_l": 30.0})]


@pytest.fixture
def sweeps(kd_sweep_home: Path) -> list[str]:
    """The ids of two recorded sweeps called toy, the newest first, with two trials each."""
    store = make_store(kd_sweep_home)
    plans = [plan_of(code_version=version) for version in ("1", "2")]
    for plan in plans:
        record_sweep(store, kd_sweep_home, plan, ROWS)
    return [plan.sweep_id for plan in reversed(plans)]


def words(items: completing.Items) -> list[str]:
    return [word for word, _ in items]


def in_a_shell(line: str) -> list[str]:
    """What bash gets for the last word of a command line."""
    asked = {
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
        "_KD_SWEEP_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_bash_completes_commands_sweeps_and_trials(sweeps: list[str]) -> None:
    assert in_a_shell("kd-sweep sto") == ["stop", "stop-trial"]
    assert in_a_shell("kd-sweep trials ") == ["latest", "toy", *sweeps]
    assert in_a_shell("kd-sweep compare latest/0 latest/") == ["latest/0", "latest/1"]
    assert in_a_shell("kd-sweep best --sweep al") == ["all"]


def test_trials_are_those_of_the_sweep_that_is_typed(sweeps: list[str]) -> None:
    newest, older = sweeps
    assert words(completing.trials("to")) == ["toy/", f"{newest}/", f"{older}/"]
    assert words(completing.trials(f"{older}/1")) == [f"{older}/1"]
    assert words(completing.trials("toy/")) == ["toy/0", "toy/1"]
    assert completing.trials("other/") == []


def test_documents_are_presets_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    for name in ("demolition.yaml", "demo.txt", "sweeps/one.yml"):
        (tmp_path / name).touch()
    assert words(completing.documents("demo")) == ["demo", "demolition.yaml"]
    assert words(completing.documents("sw")) == ["sweeps/"]
    assert words(completing.documents("sweeps/")) == ["sweeps/one.yml"]
    assert completing.documents("nowhere/") == []


def test_metrics_and_fields_are_those_of_trials() -> None:
    assert completing.metrics("cross") == [("cross_entropy", "minimize")]
    assert words(completing.fields("diverg")) == ["divergence"]
    assert words(completing.conditions("diverg")) == ["divergence="]


def test_where_no_store_can_be_read_there_is_nothing_to_complete(
    kd_sweep_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep_names(tmp_path / "missing.db") == []
    (tmp_path / "text.db").write_text("no database")
    assert trial_names(tmp_path / "text.db", "toy-1") == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    assert words(completing.sweeps("")) == ["latest"]
    monkeypatch.setenv("KD_SWEEP_PROFILE", "none-of-that-name")
    assert words(completing.sweeps("")) == ["latest"]
    assert completing.caches("") == []
    assert not kd_sweep_home.exists()


@pytest.mark.parametrize("arguments", [("--version",), ("-h",), ("best", "-h"), ("cache", "-h")])
def test_version_and_short_help_answer(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.exit_code == 0
    if arguments == ("--version",):
        assert result.stdout.startswith("kd-sweep 0.")
    else:
        assert "Usage: " in result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion_script(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", "--show-completion", shell],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "_KD_SWEEP_COMPLETE" in done.stdout
