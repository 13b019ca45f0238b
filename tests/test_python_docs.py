"""What `docs/python.md` shows runs, block after block; every function that it names exists."""

import importlib
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import REAL, MemoryClient, make_document

from service.cli.main import COMMANDS
from service.cluster import job as jobs
from service.plan.resources import Resources

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
SECTIONS = {
    text.partition("\n")[0]: "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    for text in PAGE.split("\n## ")
}
TABLE = PAGE.partition("|---|---|")[2].partition("Errors")[0]
SPEC = make_document(**REAL, training={"steps": 4, "batch_size": 4})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the page's sweep in it."""
    (tmp_path / "my-sweep.yaml").write_text(yaml.safe_dump(SPEC))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*sections: str) -> dict[str, Any]:
    """The names that stand after the code of these sections."""
    names: dict[str, Any] = {}
    for section in sections:
        exec(compile(SECTIONS[section], f"docs/python.md: {section}", "exec"), names)
    return names


@pytest.mark.ray
def test_a_sweep_is_planned_run_asked_and_carried_away(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = takewhile(lambda section: section != "On a cluster", SECTIONS)
    names = run(*here)
    assert names["plan"].num_trials == 2
    assert names["result"].state == "completed"
    assert [trial.state for trial in names["trials"]] == ["completed"] * 2
    assert names["winner"].objective == max(trial.objective for trial in names["trials"])
    assert set(names["both"].differs) == {"tau"}
    assert names["again"].judgement.verdict == "reproduced"
    assert (folder / "winner" / "student" / "config.json").is_file()
    assert "trial 0 completed: " in capsys.readouterr().out


def test_a_sweep_is_planned_for_a_cluster_and_handed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, addresses = MemoryClient(), list[str]()

    def connect(cluster: Any) -> MemoryClient:
        addresses.append(cluster.address)
        return client

    monkeypatch.setattr(jobs, "connect", connect)
    monkeypatch.setattr(jobs, "cluster_resources", lambda cluster: Resources(num_cpus=2))
    monkeypatch.setattr(jobs, "check_workers_fit", lambda plan, cluster: None)
    names = run("Plan", "On a cluster")
    assert set(addresses) == {"http://head:8265"}
    assert [info.status for info in client.infos] == ["STOPPED", "SUCCEEDED"]
    assert names["job"].submission_id == client.infos[0].submission_id


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+\.\w+)`", TABLE))))
def test_every_function_that_is_named_is_an_action(name: str) -> None:
    module, _, function = name.partition(".")
    assert callable(getattr(importlib.import_module(f"service.actions.{module}"), function))


def test_every_command_has_its_function_named() -> None:
    named = set(re.findall(r"`([\w-]+)`", TABLE))
    commands = {command.__name__.replace("_", "-") for command in COMMANDS} | {"cache"}
    assert commands <= named
