"""What `docs/python.md` shows runs, block after block; every function that it names exists."""

import json
import os
import re
import subprocess
import sys
from functools import reduce
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_support import PLAN, service
from client_support import listening
from fakes import REAL, MemoryClient, make_document

from service.cli.main import COMMANDS
from service.cluster import dashboard
from service.plan.resources import Resources

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
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
    """The names that the code of these sections defines."""
    names: dict[str, Any] = {}
    for section in sections:
        exec(compile(SECTIONS[section], f"docs/python.md: {section}", "exec"), names)
    return names


# What stands after the page's code, as the last line of its output.
REPORT = """
import json
print(json.dumps({
    "trials": plan.num_trials,
    "state": result.state,
    "states": [trial.state for trial in trials.trials],
    "objectives": [trial.objective for trial in trials.trials],
    "best": winner.objective,
    "differs": sorted(both.differs),
    "verdict": again.judgement.verdict,
}))
"""


@pytest.mark.ray
def test_a_sweep_is_planned_run_asked_and_carried_away(folder: Path) -> None:
    here = takewhile(lambda section: section != "On a cluster", SECTIONS)
    (folder / "page.py").write_text("\n".join(SECTIONS[section] for section in here) + REPORT)
    # In a process of its own, as a user's: Ray's own warnings end none there.
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *shown, report = done.stdout.splitlines()
    found = json.loads(report)
    assert (found["trials"], found["state"]) == (2, "completed")
    assert found["states"] == ["completed"] * 2
    assert found["best"] == max(found["objectives"])
    assert found["differs"] == ["tau"]
    assert found["verdict"] == "reproduced"
    assert (folder / "winner" / "student" / "config.json").is_file()
    assert any(line.startswith("trial 0 completed: ") for line in shown)


def test_a_sweep_is_planned_for_a_cluster_and_handed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, addresses = MemoryClient(), list[str]()

    def connect(cluster: Any) -> MemoryClient:
        addresses.append(cluster.address)
        return client

    monkeypatch.setattr(dashboard, "connect", connect)
    monkeypatch.setattr(dashboard, "cluster_resources", lambda cluster: Resources(num_cpus=2))
    monkeypatch.setattr(dashboard, "check_workers_fit", lambda plan, cluster: None)
    names = run("On a cluster")
    assert set(addresses) == {"http://head:8265"}
    assert [info.driver_exit_code for info in client.infos] == [130, None]
    assert names["job"].submission_id == client.infos[0].submission_id


def test_a_service_is_asked(folder: Path) -> None:
    with service(folder / "service") as made, listening(made) as served:
        page = SECTIONS["Through a service"].replace("https://sweeps.example.org", served.address)
        names: dict[str, Any] = {"token": made.tokens["anna"]}
        exec(compile(page, "docs/python.md: Through a service", "exec"), names)
        (launch,) = made.hosted.launches.all()
    assert (names["job"].sweep_id, names["sweep"].name) == (launch.sweep_id, PLAN.spec.name)
    assert PLAN.sweep_id in (folder / "report.html").read_text()


def named(name: str) -> Any:
    """What a name of the table means: of the module, or of an action."""
    start, *rest = name.split(".")
    return reduce(
        getattr, rest, import_module("kd_sweep" if start == "kd_sweep" else "service." + start)
    )


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+(?:\.\w+)+)`", TABLE))))
def test_every_function_that_is_named_is_there(name: str) -> None:
    assert callable(named(name))


def test_every_command_has_its_function_named() -> None:
    named = set(re.findall(r"`([\w-]+)`", TABLE))
    commands = {command.__name__.replace("_", "-") for command in COMMANDS} | {"cache"}
    assert commands <= named
