"""A trial that trained an adapter, recorded as a slot records it: trained again, given out beside
its base and whole."""

import json
from dataclasses import asdict
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from models_support import FACTS
from peft import PeftModel
from records_support import make_sinks, make_store, make_tracker, plan_of
from training_support import request as training_request
from training_support import trial as tiny_trial
from transformers import AutoModelForCausalLM, AutoTokenizer

from service.actions.promote import promote_trial
from service.errors import PlanError
from service.record.runs import Runs
from service.record.sink import SinkFactory
from service.rerun.export import export
from service.rerun.rerun import RerunRequest, rerun
from service.rerun.verdict import Verdict
from service.states import TrialState
from service.workspace import Workspace
from trainers.numerics import resolve
from trainers.preparing.prepare import prepare
from trainers.training.run import run_trial
from trainers.trial.reporting import SilentReporter

IDS = torch.arange(20).view(2, 10)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one completed trial, whose student is an adapter."""
    home = tmp_path_factory.mktemp("home")
    prepared = prepare(training_request(home), home)
    uri, plan = make_store(home), plan_of()
    tracker = make_tracker(uri, home)
    sinks = SinkFactory(uri, make_sinks(uri, home).spool, model=FACTS)
    sweep = tracker.start_sweep(plan)
    values = {"adapter_kind": "lora", "adapter_rank": 4, "learning_rate": 1e-2}
    trial = tiny_trial(prepared, **values, evaluations=1, generation_prompts=0)
    numerics = resolve("cpu", trial.config.precision, 1)
    update = {"trial": 0, "sweep_id": plan.sweep_id, "numerics": numerics}
    trial = trial.model_copy(update=update)
    run = tracker.start_trial(sweep, trial, hyperparameters=values, label=None)
    sink, output = sinks(run), home / "0"
    result = run_trial(trial, output, reporter=SilentReporter())
    (output / "result.json").write_text(json.dumps(asdict(result), default=str))
    sink.log(result.steps, result.metrics)
    sink.upload(output / "result.json")
    sink.keep_student(output / "student")
    assert sink.close(60)
    tracker.finish_trial(run, TrialState.COMPLETED, objective=0.0)
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert tracker.close()
    return home


@pytest.fixture
def runs(home: Path) -> Runs:
    return Runs(f"sqlite:///{home}/mlflow.db")


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


def test_it_is_reproduced_to_the_bit(runs: Runs, home: Path) -> None:
    result = rerun(RerunRequest("toy/0", local=True), runs, home=home, on_line=lambda _: None)
    assert result.judgement.verdict is Verdict.REPRODUCED, result.judgement.sentence()
    assert result.judgement.weights_equal


def test_an_export_is_opened_beside_its_base_or_whole(runs: Runs, tmp_path: Path) -> None:
    beside = export("toy/0", runs, tmp_path / "beside").folder
    assert "an adapter, which PEFT opens beside the model" in (beside / "README.md").read_text()
    base = AutoModelForCausalLM.from_pretrained(beside / "inputs" / "student")
    opened = logits(PeftModel.from_pretrained(base, beside / "student"))
    made = export("toy/0", runs, tmp_path / "whole", merge=True)
    assert made.names == ("README.md", "inputs", "recorded.json", "student", "trial.json")
    whole = AutoModelForCausalLM.from_pretrained(made.folder / "student")
    torch.testing.assert_close(logits(whole), opened, atol=1e-5, rtol=1e-5)
    assert AutoTokenizer.from_pretrained(made.folder / "student")("The cat")["input_ids"]
    assert not list(made.folder.rglob("adapter_*"))
    assert "a Hugging Face folder with its card" in (made.folder / "README.md").read_text()


def test_another_base_than_the_trials_is_not_merged(
    runs: Runs, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = runs.trial_file(runs.get("toy/0").run_id)
    assert trial.paths.teacher is not None
    paths = trial.paths.model_copy(update={"student": trial.paths.teacher})
    moved = trial.model_copy(update={"paths": paths})
    monkeypatch.setattr(Runs, "trial_file", lambda *_: moved)
    with pytest.raises(PlanError, match=r"^export: student: an adapter's base must be the model"):
        export("toy/0", runs, tmp_path / "whole", merge=True)
    with pytest.raises(PlanError, match=r"^promote: student: an adapter's base must be the model"):
        promote_trial("toy/0", Workspace(home), name="never", merge=True)


@pytest.mark.filterwarnings("ignore")  # what MLflow's loader and transformers say of each other
def test_mlflow_loads_it_beside_its_base_and_registered_whole(runs: Runs, home: Path) -> None:
    workspace = Workspace(home)
    promote_trial("toy/0", workspace, name="student")
    made = promote_trial("toy/0", workspace, name="student@whole", merge=True)
    again = promote_trial("toy/0", workspace, name="student", merge=True)
    assert (made.version.version, again.version.version) == ("2", "2")
    before = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(runs.uri)
        beside = mlflow.transformers.load_model("models:/student/1").model
        whole = mlflow.transformers.load_model(made.uri).model
    finally:
        mlflow.set_tracking_uri(before)
    names = {name for name, _ in beside.named_parameters()}
    assert any("lora_A" in name for name in names)
    assert not any("lora" in name for name, _ in whole.named_parameters())
    torch.testing.assert_close(logits(whole), logits(beside), atol=1e-5, rtol=1e-5)
    version = MlflowClient(runs.uri, runs.uri).get_model_version_by_alias("student", "whole")
    assert version.run_id == made.record.run_id
