"""`import kd_sweep`: quick, with the parameters of the actions that it hands on, and their results
as tables."""

import inspect
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import Any

import pytest
from cli_support import document, make_folder, write_lines
from fakes import make_sweep_plan
from records_support import make_store, record_sweep

import kd_sweep
from service.actions import (
    cluster,
    confirm,
    evaluate,
    follow,
    go_on,
    plan,
    record,
    report,
    rerun,
    run,
)
from service.errors import SpecError, SweepError, TrackingError
from service.evaluation.evaluate import HowToEvaluate
from service.events import Notice
from service.home import home_folder
from service.rerun.rerun import RerunRequest
from service.workspace import Workspace

SHOWN = {"display", "on_event", "stop"}
# function: the actions that it hands on, its own parameters, theirs that it makes itself
HANDED_ON: dict[str, tuple[tuple[Callable[..., Any], ...], set[str], set[str]]] = {
    "plan": ((plan.plan_sweep,), {"sweep"}, {"reference", "resources"}),
    "run": (
        (run.run_sweep,),
        {"sweep", "overrides", "warm_start", *SHOWN},
        {"plan", *SHOWN - {"display"}},
    ),
    "resume": ((go_on.resume_sweep,), SHOWN, SHOWN - {"display"}),
    "extend": (
        (go_on.extend_sweep,),
        {"seeds", "cells", *SHOWN},
        {"study", *SHOWN - {"display"}},
    ),
    "confirm": ((confirm.confirm_sweep,), SHOWN, SHOWN - {"display"}),
    "retry": ((go_on.retry_trials,), SHOWN, SHOWN - {"display"}),
    "stop": ((follow.stop_sweep,), set(), set()),
    "submit": (
        (cluster.plan_on_cluster, cluster.submit_sweep),
        {"sweep"},
        {"plan", "reference"},
    ),
    "status": ((follow.sweep_status,), set(), set()),
    "watch": ((follow.watch_sweep,), {"on_event"}, {"on_event"}),
    "sweeps": ((record.list_sweeps,), set(), set()),
    "trials": ((record.list_trials,), set(), set()),
    "best": ((record.best_trials,), set(), set()),
    "compare": ((record.compare_trials,), set(), set()),
    "report": ((report.make_report,), {"output"}, set()),
    "rerun": ((RerunRequest, rerun.rerun_trial), set(), {"request"}),
    "evaluate": ((HowToEvaluate, evaluate.evaluate_trials), set(), {"how"}),
    "export": ((rerun.export_trial,), set(), set()),
}
HEAVY = {"torch", "ray", "mlflow", "optuna", "transformers", "pandas", "pydantic", "rich", "typer"}


def parameters(function: Callable[..., Any], without: set[str]) -> set[str]:
    return inspect.signature(function).parameters.keys() - without - {"workspace"}


@pytest.mark.parametrize("name", HANDED_ON)
def test_a_function_has_the_parameters_of_what_it_hands_on(name: str) -> None:
    actions, own, made = HANDED_ON[name]
    theirs = set().union(*(parameters(action, made) for action in actions))
    assert parameters(getattr(kd_sweep, name), own) == theirs


@pytest.mark.parametrize("name", HANDED_ON)
def test_a_function_has_the_defaults_of_what_it_hands_on(name: str) -> None:
    actions, own, made = HANDED_ON[name]
    ours = inspect.signature(getattr(kd_sweep, name)).parameters
    assert ours["workspace"].default is None
    for action in actions:
        for parameter in inspect.signature(action).parameters.values():
            given = parameter.default is not Parameter.empty and parameter.name not in own | made
            if given and isinstance(parameter.default, bool | int | str | tuple | None):
                assert ours[parameter.name].default == parameter.default


def test_every_function_is_handed_on_from_somewhere() -> None:
    functions = {name for name in kd_sweep.__all__ if inspect.isfunction(getattr(kd_sweep, name))}
    assert functions == HANDED_ON.keys() | {"connect", "workspace"}


def test_the_import_is_quick() -> None:
    code = "import json, sys, kd_sweep; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in json.loads(done.stdout)}.isdisjoint(HEAVY)


def test_a_workspace_is_the_environments_but_for_what_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kd-sweep.toml").write_text('[profiles.lab]\naddress = "http://lab:8265"\n')
    assert kd_sweep.workspace() == Workspace(home_folder())
    assert kd_sweep.workspace(home="sweeps").home == tmp_path / "sweeps"
    assert kd_sweep.workspace(address="http://h:1").require_cluster().address == "http://h:1"
    assert kd_sweep.workspace(profile="lab").require_cluster().address == "http://lab:8265"
    monkeypatch.setenv("KD_SWEEP_PROFILE", "lab")
    assert kd_sweep.workspace().require_cluster().address == "http://lab:8265"
    with pytest.raises(SpecError, match="must hold 'lib', but got: lab. Did you mean 'lab'"):
        kd_sweep.workspace(profile="lib")


def test_a_cluster_may_be_named_by_rays_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = []

    def connect(cluster: Any) -> None:
        addresses.append(cluster.address)
        raise SweepError("no cluster")

    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265")
    monkeypatch.setattr(cluster.dashboard, "connect", connect)
    with pytest.raises(SweepError, match="no cluster"):
        kd_sweep.status("latest")
    assert addresses == ["http://head:8265"]


def test_a_sweep_is_planned_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path, monkeypatch)
    write_lines(folder / "sweep.yaml", [document()])  # JSON is YAML, too
    made = kd_sweep.plan(Path("sweep.yaml"), overrides=["trials=2", "controls=none"])
    assert (made.spec.name, made.num_trials) == ("cli", 2)
    with pytest.raises(SpecError, match="overrides: must be given where the sweep is planned"):
        kd_sweep.run(made, overrides=["trials=3"])


class Runner:
    """Takes the place of a run: says something, and notes what it was given."""

    def __init__(self) -> None:
        self.stop: threading.Event | None = None

    def __call__(self, plan: Any, workspace: Any, *, again: bool, on_event: Any, stop: Any) -> str:
        on_event(run.SweepBegins(plan))
        on_event(Notice("slot 0 was replaced"))
        self.stop = stop
        return "result"


@pytest.mark.parametrize("display", [True, False])
def test_a_run_is_shown_unless_it_is_told_not_to(
    display: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "run_sweep", Runner())
    events: list[Any] = []
    made = make_sweep_plan()
    assert kd_sweep.run(made, display=display, on_event=events.append) == "result"  # type: ignore[comparison-overlap]
    assert events == [run.SweepBegins(made), Notice("slot 0 was replaced")]
    assert capsys.readouterr().out == ("slot 0 was replaced\n" if display else "")


def test_a_run_may_be_stopped_from_elsewhere_and_be_in_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner, stop, results = Runner(), threading.Event(), list[Any]()
    monkeypatch.setattr(run, "run_sweep", runner)

    def work() -> None:
        results.append(kd_sweep.run(make_sweep_plan(), display=False, stop=stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == ["result"]
    assert runner.stop is stop


@pytest.fixture
def sweep_id() -> str:
    """A recorded sweep of two trials in this test's home."""
    home = home_folder()
    made = make_sweep_plan()
    rows = [({"tau": 1.0}, {"rouge_l": 10.0}), ({"tau": 2.0}, {"rouge_l": 30.0})]
    record_sweep(make_store(home), home, made, rows)
    return made.sweep_id


def test_answers_are_tables_of_a_row_a_trial(sweep_id: str) -> None:
    trials = kd_sweep.trials().to_frame()
    assert list(trials["trial"]) == [0, 1]
    assert list(trials["hyperparameters.tau"]) == [1.0, 2.0]
    best = kd_sweep.best(sweep_id, top=1).to_frame()
    assert list(best["metrics.rouge_l"]) == [30.0]
    assert list(kd_sweep.sweeps().to_frame()["sweep_id"]) == [sweep_id]
    both = kd_sweep.compare(["latest/0", "latest/1"]).to_frame()
    assert list(both.index) == [f"{sweep_id}/0", f"{sweep_id}/1"]
    assert list(both["tau"]) == [1.0, 2.0]
    assert list(both["rouge_l"]) == [10.0, 30.0]


def test_an_error_is_the_command_lines(sweep_id: str) -> None:
    with pytest.raises(TrackingError, match="sweep 'nothing'") as raised:
        kd_sweep.trials("nothing")
    assert isinstance(raised.value, kd_sweep.errors.SweepError)
    # What IPython asks an error for.
    assert raised.value._render_traceback_() == [f"error: {raised.value}"]
