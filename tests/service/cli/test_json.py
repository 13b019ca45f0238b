"""Every command's `--json`, held to the schema that `kd-sweep schema --of` shows. What takes long
is answered by a result as the action returns it."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cli_support import call, document, make_folder
from pydantic import ValidationError
from records_support import make_store, plan_of, record_of, record_sweep
from rich.cells import cell_len
from written_caches import write_cache

from service.actions.accounts import add_user, new_token
from service.actions.json_types import BY_COMMAND, adapter_of
from service.actions.promote import Promoted
from service.actions.rho import RhoReport
from service.actions.run import run_sweep
from service.actions.run_result import SweepBegins
from service.actions.status import SweepStatus
from service.cli.main import COMMANDS, app
from service.cluster.sweep_job import SweepJob
from service.evaluation.evaluate import SetResult
from service.evaluation.sets import Recorded
from service.events import (
    Notice,
    Preparing,
    SlotsUp,
    SweepEnded,
    SweepGoesOn,
    SweepSummary,
    TrialAdvanced,
    TrialEnded,
    TrialEvaluated,
    TrialStarted,
    to_line,
)
from service.home import home_folder
from service.plan.plan import SweepPlan
from service.record.registry import Version
from service.rerun.rerun import RerunResult
from service.rerun.verdict import Numbers, judge
from service.spec.file import preset_text
from service.states import TrialState
from service.workspace import Workspace
from trainers.losses.rho import rho_range
from trainers.trial.facts import SetFacts

LOSS = """
def squares(student_logits, teacher_logits):
    return (student_logits - teacher_logits.detach()).square().sum(-1)
"""
ROWS: list[tuple[dict[str, Any], dict[str, float]]] = [
    (
        {"divergence": "forward_kl", "seed": 1},
        {"rouge_l": 20.0, "cross_entropy": 2.0, "perplexity": 7.4},
    ),
    ({"divergence": "forward_kl", "seed": 2}, {"rouge_l": 21.0, "cross_entropy": 2.0}),
    ({"divergence": "reverse_kl", "seed": 1}, {"rouge_l": 30.0, "cross_entropy": float("nan")}),
    ({"divergence": "reverse_kl", "seed": 2}, {"rouge_l": 33.0, "cross_entropy": 3.0}),
]
EVENTS = [
    Preparing("data", 0.5),
    SweepGoesOn({"completed": 1}, 0, 3.0, None, {"tau": 1.0}),
    SlotsUp(1, 2),
    TrialStarted(1, 0, "control", {"tau": 2.0}),
    TrialAdvanced(1, 3, 9),
    TrialEvaluated(1, 1, {"rouge_l": 3.0}),
    TrialEnded(1, TrialState.FAILED, None, "memory"),
    Notice("a slot was replaced"),
    SweepEnded(SweepSummary("toy-1", "run", "completed", {"completed": 1}, 0, 3.0, 9.5)),
]
JOB = SweepJob("toy-1", "toy-1-a2", TrialState.RUNNING, name="toy")
STATUS = SweepStatus("toy-1", TrialState.CANCELLED, "process 7 on host", {"completed": 2}, "why")
NUMBERS = Numbers({"rouge_l": 0.3, "kl": float("nan")}, "a", {1: 3.0}, {"versions.torch": "1"})
OTHERS = Numbers({"rouge_l": 0.4}, None, {1: 3.1}, {"versions.torch": "2"})
PROMOTED = Promoted(
    record_of(0, {"tau": 1.0}, {"rouge_l": 1.0}),
    Version("dolly", "1", ("champion",), "run"),
    "models:/dolly@champion",
)

QUESTIONS = {
    "plan": ("plan", "sweep.yaml"),
    "run": ("run", "sweep.yaml"),
    "sweeps": ("sweeps",),
    "trials": ("trials", "latest"),
    "best": ("best", "--sweep", "latest"),
    "compare": ("compare", "latest/0", "latest/1", "latest/2", "latest/3"),
    "confirm": ("confirm", "latest", "--seeds", "2"),
    "report": ("report", "latest"),
    "presets": ("presets",),
    "schema": ("schema",),
    "init": ("init",),
    "doctor": ("doctor",),
    "check-loss": ("check-loss", "my_squares:squares"),
    "rho-range": ("rho-range", "sweep.yaml"),
    "submit": ("submit", "sweep.yaml", "--yes", "--address", "http://head:8265"),
    "status": ("status",),
    "logs": ("logs", "latest"),
    "watch": ("watch", "latest"),
    "stop": ("stop", "latest"),
    "stop-trial": ("stop-trial", "latest", "7"),
    "resume": ("resume", "latest"),
    "extend": ("extend", "latest", "--trials", "2"),
    "retry": ("retry", "latest"),
    "rerun": ("rerun", "latest/0"),
    "evaluate": ("evaluate", "latest/0", "--on", "test.jsonl"),
    "export": ("export", "latest/0", "winner"),
    "promote": ("promote", "latest/0", "--as", "dolly@champion"),
    "delete": ("delete", "latest", "--yes"),
    "prune": ("prune", "--yes"),
    "cache list": ("cache", "list"),
    "cache show": ("cache", "show", "a"),
    "cache verify": ("cache", "verify"),
    "cache prune": ("cache", "prune", "--keep-gib", "0"),
    "serve": ("serve",),
    "users add": ("users", "add", "otto"),
    "users list": ("users", "list"),
    "users remove": ("users", "remove", "anna"),
    "users log": ("users", "log"),
    "users quota": ("users", "quota", "anna"),
    "tokens new": ("tokens", "new", "anna"),
    "tokens list": ("tokens", "list"),
    "tokens revoke": ("tokens", "revoke", "TOKEN"),
}
# The same commands where their answer has another form.
OTHER_FORMS = [
    ("best", ("best", "--sweep", "all", "--per", "divergence")),
    ("best", ("best", "--metric", "perplexity")),
    ("compare", ("compare", "latest", "--significance")),
    ("presets", ("presets", "temperature")),
    ("status", ("status", "latest")),
    ("schema", ("schema", "--of", "best")),
]
TEST_FACTS = SetFacts(num_examples=5, in_train=2, in_validation=0, fingerprint="ab")
TOKEN_OF: dict[str, str] = {}  # user → the id of their token
LINES = ("logs", "watch")  # a document in each line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, a home with a recorded sweep and a cache, and answers for what is slow."""
    home = home_folder()
    made = make_folder(tmp_path, monkeypatch)
    (made / "sweep.yaml").write_text(yaml.safe_dump(document()))
    (made / "my_squares.py").write_text(LOSS)
    plan = plan_of()
    record_sweep(make_store(home), home, plan, ROWS)
    write_cache(home, "a" * 20, "2026-01-01T00:00:00+00:00")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    add_user("anna", Workspace(home))
    monkeypatch.setitem(TOKEN_OF, "anna", new_token("anna", Workspace(home)).token_id)
    answer_at_once(plan, made, monkeypatch)
    return made


def with_token(arguments: tuple[str, ...]) -> list[str]:
    return [TOKEN_OF["anna"] if one == "TOKEN" else one for one in arguments]


def answer_at_once(plan: SweepPlan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = 3 * torch.randn(16, 50, generator=torch.Generator().manual_seed(0))
    report = RhoReport(rho_range(logits), folder / "rho.html")
    run = run_sweep(plan, Workspace(home_folder()))
    judgement = judge(NUMBERS, OTHERS, tolerances={"rouge_l": 0.2}, tolerance_reason="seeds")
    again = RerunResult(record_of(0, {"tau": 1.0}, {"rouge_l": 1.0}), "run", judgement, 2.5)

    def lines() -> Iterator[str]:
        yield "Ray says something"
        yield from map(to_line, EVENTS)

    def watch(sweep: str, workspace: Workspace, *, on_event: Any) -> SweepStatus:
        for event in [SweepBegins(plan), *EVENTS]:
            on_event(event)
        return SweepStatus("toy-1", TrialState.COMPLETED, None)

    answers = {
        "run.run_sweep": lambda *given, **named: run,
        "rho.propose_rho": lambda *given, **named: report,
        "cluster.plan_on_cluster": lambda *given, **named: plan,
        "cluster.submit_sweep": lambda *given, **named: JOB,
        "follow.read_logs": lambda *given, **named: lines(),
        "follow.watch_sweep": watch,
        "follow.stop_sweep": lambda *given, **named: STATUS,
        "follow.stop_trial": lambda *given, **named: None,
        "go_on.resume_sweep": lambda *given, **named: run,
        "confirm.confirm_sweep": lambda *given, **named: JOB,
        "go_on.extend_sweep": lambda *given, **named: JOB,
        "go_on.retry_trials": lambda *given, **named: run,
        "rerun.rerun_trial": lambda *given, **named: again,
        "evaluate.evaluate_trials": lambda *given, **named: [EVALUATED],
        "rerun.export_trial": export_to(folder),
        "promote.promote_trial": lambda *given, **named: PROMOTED,
    }
    monkeypatch.setattr("service.web.serving.serve", serve_nobody)
    for name, answer in answers.items():
        monkeypatch.setattr(f"service.actions.{name}", answer)


EVALUATED = SetResult(
    record_of(0, {"tau": 1.0}, {"rouge_l": 1.0}),
    "test",
    Recorded("/data/test.jsonl", "2026-01-01T00:00:00+00:00", {}, TEST_FACTS),
    {"rouge_l": 12.5, "perplexity": math.inf},
    is_new=True,
    notices=("of its 5 examples 2 are also in the training split",),
)


def serve_nobody(workspace: Workspace, settings: Any, on_ready: Any) -> None:
    on_ready("http://127.0.0.1:8266", "kds_0123456789ab_shown-once")


def export_to(folder: Path) -> Any:
    from service.rerun.export import Exported

    return lambda *given, **named: Exported(folder / "winner", ("student", "trial.json"))


def test_every_command_has_a_schema_and_a_question() -> None:
    names = {command.__name__.replace("_", "-") for command in COMMANDS}
    for group in app.registered_groups:
        inner = group.typer_instance.registered_commands if group.typer_instance else []
        names |= {
            f"{group.name} {one.name or one.callback.__name__}" for one in inner if one.callback
        }
    assert names == BY_COMMAND.keys() == QUESTIONS.keys()


@pytest.mark.parametrize(("command", "arguments"), [*QUESTIONS.items(), *OTHER_FORMS])
def test_the_answer_is_what_the_schema_says(
    folder: Path, command: str, arguments: tuple[str, ...]
) -> None:
    result = call(*with_token(arguments), "--json")
    assert result.exit_code in (0, 6), result.output
    documents = result.stdout.splitlines() if command in LINES else [result.stdout]
    assert documents
    for text in documents:
        adapter_of(command).validate_json(text)
    assert json.loads(documents[0]), "an empty answer shows nothing"


WRITTEN = ("init", "schema", "logs", "watch")  # what goes into files and pipes is not wrapped


@pytest.mark.parametrize("command", [one for one in QUESTIONS if one not in WRITTEN])
def test_the_answer_fits_a_narrow_terminal(
    folder: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    shown = call(*with_token(QUESTIONS[command])).stdout.splitlines()
    # A word that is wider than the screen, such as a path, is left whole.
    assert [
        line
        for line in shown
        if cell_len(line.rstrip()) > 60 and max(map(cell_len, line.split())) <= 60
    ] == []


def test_a_document_is_written_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = call("init").stdout
    monkeypatch.setenv("COLUMNS", "40")
    assert call("init").stdout == wide
    assert call("presets", "demo").stdout.rstrip() == preset_text("demo").rstrip()


@pytest.mark.parametrize("command", BY_COMMAND)
def test_a_schema_is_printed(command: str) -> None:
    result = call("schema", "--of", command)
    assert result.exit_code == 0, result.output
    assert {"type", "anyOf", "oneOf", "$ref"} & json.loads(result.stdout).keys()


def test_an_unknown_command_is_named() -> None:
    result = call("schema", "--of", "bets")
    assert result.exit_code == 2
    assert "--of: must be a command, but got 'bets'. Did you mean 'best'?" in result.stderr


def test_a_key_that_no_schema_has_is_found() -> None:
    with pytest.raises(ValidationError, match="surprise"):
        adapter_of("stop-trial").validate_python(
            {"sweep": "toy", "trial": 1, "state": "cancelled", "surprise": 1}
        )
