"""A trial of one's own divergence, trained again and exported where its module is no more."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from records_support import make_sinks, make_store, make_tracker, plan_of
from training_support import Recorder
from training_support import request as training_request
from training_support import trial as tiny_trial

from service.driver.shared_inputs import SharedInputs
from service.errors import PlanError
from service.own_code.sources import KEPT, OwnModules, unpack
from service.record.runs import Runs
from service.rerun.engines import LocalEngine
from service.rerun.export import export
from service.rerun.rerun import RerunRequest, rerun
from service.rerun.verdict import Verdict
from service.states import TrialState
from trainers.numerics import resolve
from trainers.preparing.prepare import prepare
from trainers.training.run import run_trial
from trainers.trial.fields import Precision
from trainers.trial.trial_file import TrialFile

LOSS = """
import torch

def forward(student_logits, teacher_logits):
    student, teacher = student_logits.log_softmax(-1), teacher_logits.detach().log_softmax(-1)
    return (teacher.exp() * (teacher - student)).sum(-1)
"""
REQUEST = RerunRequest("toy/0", local=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one trial, whose divergence lies in the sweep's folder and nowhere else."""
    home = tmp_path_factory.mktemp("home")
    own = OwnModules(kept={"rerun_losses.py": LOSS})
    plan = plan_of()
    facts = plan.facts.model_copy(update={"fingerprints": own.fingerprints()})
    plan = plan.model_copy(update={"own_modules": own.kept, "facts": facts})
    shared = SharedInputs(
        prepare(training_request(home), home), {Precision.AUTO: resolve("cpu", Precision.AUTO, 1)}
    )
    config = tiny_trial(shared.prepared, divergence="rerun_losses:forward").config
    trial = shared.trial(shared.template(plan, unpack(plan.own_modules, home / "sweep")), config)
    trial = trial.model_copy(update={"trial": 0})
    uri = make_store(home)
    tracker, sinks = make_tracker(uri, home), make_sinks(uri, home)
    sweep = tracker.start_sweep(plan)
    run = tracker.start_trial(sweep, trial, hyperparameters={}, label=None)
    sink, output = sinks(run), home / "0"
    result = run_trial(trial, output, reporter=Recorder())
    (output / "result.json").write_text(json.dumps(asdict(result), default=str))
    sink.upload(output / "result.json")
    sink.upload(output / "student", "student")
    assert sink.close(60)
    tracker.finish_trial(run, TrialState.COMPLETED, objective=0.0)
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert tracker.close()
    sys.path.remove(str(home / "sweep" / KEPT))
    del sys.modules["rerun_losses"]
    return home


@pytest.fixture
def runs(home: Path) -> Runs:
    return Runs(f"sqlite:///{home}/mlflow.db")


def silent(line: str) -> None:
    return None


def test_a_rerun_trains_with_the_kept_source(runs: Runs, home: Path) -> None:
    found = runs.get("toy/0")
    assert KEPT in runs.trial_file(found.run_id).fingerprints
    result = rerun(REQUEST, runs, home=home, on_line=silent)
    assert result.judgement.verdict is Verdict.REPRODUCED, result.judgement.sentence()


def test_a_rerun_refuses_another_source(runs: Runs, home: Path, tmp_path: Path) -> None:
    (tmp_path / "rerun_losses.py").write_text(LOSS.replace("exp() *", "exp() * 2 *"))
    changed = replace(REQUEST, mounts={KEPT: tmp_path})
    with pytest.raises(PlanError, match=r"paths.own_modules: it must hold what the trial was made"):
        rerun(changed, runs, home=home, on_line=silent)


def test_a_sweep_that_kept_no_source_is_told_apart(
    runs: Runs, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = runs.trial_file(runs.get("toy/0").run_id)
    paths = trial.paths.model_copy(update={KEPT: None})
    bare = trial.model_copy(update={"paths": paths, "fingerprints": {}})
    monkeypatch.setattr(Runs, "trial_file", lambda *_: bare)
    with pytest.raises(PlanError, match=r"module 'rerun_losses' of .* --mount own_modules=FOLDER"):
        rerun(REQUEST, runs, home=home, on_line=silent)
    readme = (export("toy/0", runs, tmp_path / "bare").folder / "README.md").read_text()
    assert "Python must find the module\n`rerun_losses` where it is trained." in readme


def test_an_export_holds_the_source_and_trains_without_any_other(
    runs: Runs, tmp_path: Path
) -> None:
    made = export("toy/0", runs, tmp_path / "winner")
    kept = made.folder / "inputs" / KEPT
    assert "was not kept" not in (made.folder / "README.md").read_text()
    assert {path.name for path in kept.iterdir()} == {"rerun_losses.py"}
    assert TrialFile.read(made.folder / "trial.json").paths.own_modules == f"inputs/{KEPT}"
    arguments = ["trial.json", "--output", "again"]
    ended = LocalEngine().train(made.folder, arguments, workers=1, on_line=silent)
    assert ended.code == 0, ended.last_lines
    recorded, again = (
        json.loads((made.folder / name).read_text())
        for name in ("recorded.json", "again/result.json")
    )
    assert again["weights_sha256"] == recorded["weights_sha256"]
