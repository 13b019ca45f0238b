"""The command line through a service: what it prints is what it prints where the sweeps are, and
what is wrong is said as there, by the same exit code."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from api_support import OTHERS, PLAN, Clock, service
from cli_support import call, document
from client_support import Listening, here, listening, rows, there, waiting

from service.cli.main import COMMANDS, app
from service.driver.lock import sweep_lock
from service.driver.log import driver_log
from service.events import Notice, TrialEnded, TrialStarted
from service.home import sweeps_folder
from service.plan.places import plan_file
from service.states import TrialState

MINE = PLAN.sweep_id
EVENTS = [
    TrialStarted(0, 0, None, {"tau": 1.0}),
    Notice("a slot was replaced: naïve\u2028text"),
    TrialEnded(0, TrialState.COMPLETED, 3.0),
]
OFFERED = {
    *("plan", "run", "submit", "sweeps", "trials", "best", "compare", "report", "status", "logs"),
    *("watch", "stop", "stop-trial", "resume", "extend", "retry", "confirm", "promote"),
}
EVERYWHERE = {"presets", "schema", "init"}  # documents of this version, which no service is asked


@pytest.fixture(scope="module")
def _standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    with service(tmp_path_factory.mktemp("served")) as made, listening(made) as server:
        write_log(server)
        (server.here.folder / "sweep.yaml").write_text(yaml.safe_dump(document()))
        (server.here.folder / "wrong.yaml").write_text(yaml.safe_dump(document(trialz=3)))
        yield server


@pytest.fixture
def served(_standing: Listening, monkeypatch: pytest.MonkeyPatch) -> Listening:
    """A service with data where this test works."""
    _standing.service.clock.now = Clock.now
    monkeypatch.chdir(_standing.here.folder)
    return _standing


def write_log(server: Listening) -> None:
    folder = sweeps_folder(server.here.home) / MINE
    folder.mkdir(parents=True, exist_ok=True)
    plan_file(folder).write_text(PLAN.model_dump_json())
    with sweep_lock(folder), driver_log(folder) as write:
        for one in EVENTS:
            write(one)


QUESTIONS = [
    ("plan", "sweep.yaml", "--set", "trials=2"),
    ("plan", "demo", "--set", "trials=5"),
    ("sweeps",),
    ("trials", MINE),
    ("trials", "latest"),
    ("best", "--sweep", MINE),
    ("best", "--sweep", MINE, "--where", "tau<3", "--top", "1", "--per", "divergence"),
    ("best", "--sweep", MINE, "--metric", "cross_entropy", "--direction", "maximize"),
    ("best", "--sweep", "all", "--top", "1"),
    ("compare", f"{MINE}/0", f"{MINE}/1"),
    ("compare", MINE, "--significance", "--control", f"{MINE}/1", "--metric", "rouge_l"),
    ("status",),
    ("status", MINE),
    ("logs", MINE),
    ("logs", MINE, "--trial", "0"),
    ("watch", MINE),
    ("presets",),
    ("presets", "demo"),
    ("init",),
]


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_a_command_prints_what_it_prints_where_the_sweeps_are(
    served: Listening, question: tuple[str, ...], form: str
) -> None:
    asked = [*question, "--json"] if form == "json" else [*question]
    expected, found = here(served, *asked), there(served, *asked)
    assert expected.exit_code == 0, expected.output
    assert (found.exit_code, found.stdout) == (0, expected.stdout), found.output
    assert found.stdout


def test_a_log_is_followed_to_its_end(served: Listening) -> None:
    assert there(served, "logs", MINE, "--follow").stdout == here(served, "logs", MINE).stdout


def test_a_report_is_the_same_and_written_here(served: Listening, tmp_path: Path) -> None:
    for form in ("--json", "--markdown"):
        expected = here(served, "report", MINE, form)
        assert there(served, "report", MINE, form).stdout == expected.stdout != ""
    page = tmp_path / "page.html"
    assert there(served, "report", MINE, "--output", str(page)).exit_code == 0
    assert "<html" in page.read_text()


ERRORS = [
    ("plan", "wrong.yaml"),
    ("plan", "sweep.yaml", "--set", "trials=-1"),
    ("plan", "no-such-sweep"),
    ("best", "--sweep", MINE, "--metric", "nonsense"),
    ("best", "--sweep", MINE, "--where", "what"),
    ("compare", f"{MINE}/0"),
    ("compare", f"{MINE}/0", f"{MINE}/99"),
    ("compare", f"{MINE}/0", f"{MINE}/1", "--metric", "rouge_l"),
    ("retry", MINE),
    ("extend", MINE, "--seeds", "3"),
    ("stop", MINE),
]


@pytest.mark.parametrize("command", ERRORS, ids=" ".join)
def test_an_error_is_said_as_where_the_sweeps_are(
    served: Listening, command: tuple[str, ...]
) -> None:
    expected, found = here(served, *command), there(served, *command)
    assert expected.exit_code in (2, 3, 4, 5), expected.output
    said = found.stderr.replace(f"kd-sweep --server {served.address} ", "kd-sweep ")
    assert (found.exit_code, found.stdout, said) == (expected.exit_code, "", expected.stderr)


def test_data_is_looked_for_where_the_service_has_it(served: Listening) -> None:
    command = ("plan", "sweep.yaml", "--set", "data.train=none.jsonl")
    expected, found = here(served, *command), there(served, *command)
    assert found.exit_code == expected.exit_code == 3
    assert found.stderr.startswith(expected.stderr.rstrip())


def test_a_sweep_that_is_not_there_has_the_commands_exit_code(served: Listening) -> None:
    for command in (("trials", "none"), ("best", "--sweep", "none"), ("status", "none")):
        found = there(served, *command)
        assert (found.exit_code, here(served, *command).exit_code) == (5, 5)
        assert "sweep 'none': exactly one sweep of yours must be meant" in found.stderr


# -- what a service does not offer


def test_every_command_is_offered_or_refused() -> None:
    names = {command.__name__.replace("_", "-") for command in COMMANDS}
    assert names > OFFERED | EVERYWHERE


ARGUMENTS = {
    "check-loss": ("a:b",),
    "rho-range": ("sweep.yaml",),
    "rerun": ("latest/0",),
    "evaluate": ("latest/0", "--on", "x.jsonl"),
    "export": ("latest/0", "folder"),
    "promote --merge": ("latest/0", "--as", "x@y"),
    "delete": ("latest", "--yes"),
    "cache list": (),
    "users list": (),
    "tokens new": ("anna",),
    "submit --code": ("folder", "sweep.yaml"),
    "submit --max-driver-restarts": ("2", "sweep.yaml"),
    "status --address": ("http://head:8265",),
}


@pytest.mark.parametrize(
    "command",
    sorted(
        {command.__name__.replace("_", "-") for command in COMMANDS} - OFFERED - EVERYWHERE
        | ARGUMENTS.keys()
    ),
)
def test_what_a_service_does_not_offer_is_refused_before_anything(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD_SWEEP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KD_SWEEP_SERVER", "http://127.0.0.1:9")
    monkeypatch.setenv("KD_SWEEP_TOKEN", "secret-token")
    result = call(*command.split(), *ARGUMENTS.get(command, ()))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"error: {command}: must be given where the sweeps are, but")
    assert "http://127.0.0.1:9, which does not offer it. Leave out --server" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not result.stdout
    assert list(tmp_path.iterdir()) == []


# -- submitting and going on


def test_a_sweep_is_planned_shown_and_submitted_once(fresh: Listening) -> None:
    first = there(fresh, "submit", "sweep.yaml", "--yes", "--json", user="anna")
    planned = rows(there(fresh, "plan", "sweep.yaml", "--json", user="anna"))
    made = rows(first)
    assert made == {
        "sweep_id": planned["sweep_id"],
        "job": planned["sweep_id"],
        "state": "pending",
        "message": "is next",
        "is_new": True,
    }
    assert planned["sweep_id"] in first.stderr and "tau" in first.stderr
    again = there(fresh, "submit", "sweep.yaml", "--yes", "--json", user="anna")
    assert (rows(again)["is_new"], waiting(fresh)) == (False, [made["sweep_id"]])
    assert "It was submitted before" in again.stderr
    other = there(fresh, "submit", "sweep.yaml", "--yes", "--again", "--json", user="anna")
    assert len(waiting(fresh)) == 2 and rows(other)["sweep_id"] in waiting(fresh)


def test_a_submit_asks_first(fresh: Listening) -> None:
    refused = there(fresh, "submit", "sweep.yaml", user="anna")  # the end of stdin is no yes
    assert (refused.exit_code, waiting(fresh)) == (1, [])
    assert "Submit it?" in refused.stderr


def test_a_sweep_starts_with_one_that_the_user_sees(fresh: Listening) -> None:
    given = ("plan", "sweep.yaml", "--from")
    expected, found = here(fresh, *given, MINE), there(fresh, *given, MINE, user="anna")
    assert (found.exit_code, found.stderr) == (expected.exit_code, expected.stderr)
    assert f"--from {MINE}: its study must be" in found.stderr
    others = there(fresh, *given, OTHERS.sweep_id, user="anna")
    assert (others.exit_code, "sweep of yours must be meant" in others.stderr) == (5, True)


def test_a_sweep_goes_on_as_a_job(fresh: Listening) -> None:
    done = rows(there(fresh, "extend", MINE, "--trials", "4", "--json", user="anna"))
    assert done == {"sweep_id": MINE, "job": MINE, "state": "pending", "message": "is next"}
    assert waiting(fresh) == [MINE]
    stopped = rows(there(fresh, "stop", MINE, "--json", user="anna"))
    assert (stopped["sweep_id"], waiting(fresh)) == (MINE, [])
    assert rows(there(fresh, "resume", MINE, "--json", user="anna"))["state"] == "pending"


def test_nothing_heavy_is_loaded(served: Listening, tmp_path: Path) -> None:
    lines = [
        ["plan", "sweep.yaml"],
        ["sweeps"],
        ["trials", MINE],
        ["best", "--sweep", MINE],
        ["compare", MINE, "--significance"],
        ["report", MINE, "--output", str(tmp_path / "page.html")],
        ["status"],
        ["logs", MINE],
        ["watch", MINE],
    ]
    code = (
        "import json, sys\nfrom service.cli.main import app\n"
        "for line in json.loads(sys.argv[1]):\n    app(line, standalone_mode=False)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    environment = {
        "PATH": "",
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "KD_SWEEP_HOME": str(tmp_path / "home"),
        "KD_SWEEP_SERVER": served.address,
        "KD_SWEEP_TOKEN": served.service.tokens["root"],
    }
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(lines)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "requests" in loaded
    assert not loaded & {"ray", "mlflow", "torch", "optuna", "sqlalchemy", "transformers"}
    assert not (tmp_path / "home" / "mlflow.db").exists()


def test_no_command_was_forgotten() -> None:
    groups = {group.name for group in app.registered_groups}
    assert {name.split()[0] for name in ARGUMENTS} > groups
