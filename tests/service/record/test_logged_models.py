"""A trial's student as a logged model: written by us, loaded by MLflow."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from mlflow import MlflowClient
from mlflow_server import Server
from models_support import FACTS, SCORES, Recorded, save_student
from records_support import make_sinks, make_store, plan_of
from safetensors.torch import load_file

from service.record import students
from service.record.delivery import Delivery
from service.record.entries import Away
from service.record.model_card import RecordedRun, card
from service.record.registry import register, versions
from service.record.run_entries import model_facts
from service.record.students import Student, download_student, find_student


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder as a trial leaves it."""
    return save_student(tmp_path_factory.mktemp("trained") / "student")


@pytest.fixture
def recorded(tmp_path: Path, trained: Path) -> Recorded:
    return Recorded(make_store(tmp_path), tmp_path, trained)


@pytest.fixture(autouse=True)
def own_tracking() -> Iterator[None]:
    """MLflow's fluent functions ask the store that a test names, and nothing after it does."""
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def weights(folder: Path) -> dict[str, Any]:
    return {name: each.tolist() for name, each in load_file(folder / "model.safetensors").items()}


def assert_loads(uri: str, run: str, trained: Path) -> None:
    """MLflow's own loader makes a pipeline of the run's student, with the weights of `trained`."""
    mlflow.set_tracking_uri(uri)
    from transformers import AutoModelForCausalLM

    pipeline = mlflow.transformers.load_model(f"runs:/{run}/student")
    assert type(pipeline).__name__ == "TextGenerationPipeline"
    assert pipeline.tokenizer("say hello now")["input_ids"] == [1, 3, 2]
    expected = AutoModelForCausalLM.from_pretrained(trained).state_dict()
    found = pipeline.model.state_dict()
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)


@pytest.mark.filterwarnings("ignore")  # what MLflow's loader and transformers say of each other
def test_a_student_is_a_logged_model_that_mlflow_loads(recorded: Recorded, trained: Path) -> None:
    sink = recorded.sinks(recorded.run)
    sink.keep_student(recorded.folder)
    assert sink.close(30)
    (model,) = recorded.models()
    assert (model.name, model.status, model.source_run_id) == ("student", "READY", recorded.run)
    assert model.params == {"divergence": "forward_kl", "tau": "2.0"}
    assert {one.key: one.value for one in model.metrics} == {
        f"eval/{name}": value for name, value in SCORES.items()
    }
    assert_loads(recorded.uri, recorded.run, trained)
    parts = mlflow.transformers.load_model(model.model_uri, return_type="components")
    assert parts["task"] == "text-generation"
    asked = mlflow.pyfunc.load_model(model.model_uri).unwrap_python_model
    assert asked is not None
    served = mlflow.pyfunc.load_model(model.model_uri)
    assert served.metadata.metadata == {"prompt_template": "say {prompt} now"}
    assert isinstance(served.predict(["hello"])[0], str)


def test_the_weights_are_kept_once(recorded: Recorded, trained: Path) -> None:
    sink = recorded.sinks(recorded.run)
    sink.keep_student(recorded.folder)
    assert sink.close(30)
    assert not list(recorded.folder.parent.iterdir())
    (kept,) = recorded.home.rglob("*.safetensors")
    assert weights(kept.parent) == weights(trained)
    # What a run knows of its own metrics is as it was.
    history = MlflowClient(recorded.uri).get_metric_history(recorded.run, "eval/rouge_l")
    assert [(one.step, one.value) for one in history] == [(4, 12.5)]


def test_a_student_that_is_delivered_again_changes_nothing(
    recorded: Recorded, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    delivery = Delivery(recorded.uri, "kd-sweep")
    assert delivery([recorded.entry]) == []
    assert delivery([recorded.entry]) == []  # its folder is gone by now
    shutil.copytree(trained, recorded.folder)  # another attempt left it again
    assert Delivery(recorded.uri, "kd-sweep")([recorded.entry]) == []
    assert [one.status for one in recorded.models()] == ["READY"]
    assert not recorded.folder.exists()
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def test_a_student_that_got_lost_before_it_was_recorded_is_told(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(recorded.folder)
    assert Delivery(recorded.uri, "kd-sweep")([recorded.entry]) == []
    assert "was to be recorded, but it is no longer there" in caplog.text
    assert recorded.models() == []


@pytest.mark.parametrize("call", ["log_outputs", "log_model_artifacts", "finalize_logged_model"])
def test_a_delivery_that_breaks_off_is_taken_up(
    recorded: Recorded, trained: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, call, refuse)
        with pytest.raises(Away, match="gone"):
            Delivery(recorded.uri, "kd-sweep")([recorded.entry])
    assert recorded.folder.is_dir()
    assert find_student(recorded.uri, recorded.run) is None  # not half of one
    Delivery(recorded.uri, "kd-sweep")([recorded.entry])
    assert [one.status for one in recorded.models()] == ["READY"]
    found = find_student(recorded.uri, recorded.run)
    assert found is not None
    copy = download_student(recorded.uri, found, recorded.home / "copy")
    assert weights(copy) == weights(trained)


def test_a_half_removed_folder_is_not_recorded_again(
    recorded: Recorded, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr("service.record.model_writes.shutil.rmtree", lambda *_, **__: None)
        Delivery(recorded.uri, "kd-sweep")([recorded.entry])
    (left,) = recorded.folder.parent.iterdir()
    (left / "model.safetensors").unlink()
    assert Delivery(recorded.uri, "kd-sweep")([recorded.entry]) == []
    found = find_student(recorded.uri, recorded.run)
    assert found is not None
    assert weights(download_student(recorded.uri, found, recorded.home / "a")) == weights(trained)


def test_a_student_of_an_earlier_version_is_found_and_copied(
    recorded: Recorded, trained: Path
) -> None:
    sink = make_sinks(recorded.uri, recorded.home)(recorded.run)  # it knew no models
    sink.keep_student(recorded.folder)
    assert sink.close(30)
    found = find_student(recorded.uri, recorded.run)
    assert found is not None and found.model_id is None
    copy = download_student(recorded.uri, found, recorded.home / "copy")
    assert sorted(one.name for one in copy.iterdir()) == sorted(os.listdir(trained))


def test_a_student_here_is_found_and_copied_without_loading_mlflow(recorded: Recorded) -> None:
    assert Delivery(recorded.uri, "kd-sweep")([recorded.entry]) == []
    script = (
        "import sys; from pathlib import Path\n"
        "from service.record.students import download_student, find_student\n"
        "uri, run, folder = sys.argv[1:]\n"
        "print(download_student(uri, find_student(uri, run), Path(folder)))\n"
        "assert 'mlflow' not in sys.modules"
    )
    copy = recorded.home / "copy"
    command = [sys.executable, "-c", script, recorded.uri, recorded.run, str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{copy}/student\n"), done.stderr


def test_a_run_without_a_student_has_none(recorded: Recorded) -> None:
    assert find_student(recorded.uri, recorded.run) is None


def test_a_student_that_cannot_be_read_is_an_error_of_ours(
    recorded: Recorded, tmp_path: Path
) -> None:
    with pytest.raises(students.TrackingError, match="its student must be readable, but got"):
        download_student(recorded.uri, Student(recorded.run, "file:///none", "m-none"), tmp_path)
    with pytest.raises(students.TrackingError, match="must answer, but got"):
        find_student(recorded.uri, "0" * 32)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_server_keeps_it_as_a_store_does(tmp_path: Path, trained: Path) -> None:
    server = Server(tmp_path / "server")
    server.start()
    try:
        recorded = Recorded(server.uri, tmp_path / "home", trained)
        sink = recorded.sinks(recorded.run)
        sink.keep_student(recorded.folder)
        assert sink.close(60)
        assert not recorded.folder.exists()
        found = find_student(server.uri, recorded.run)
        assert found is not None
        copy = download_student(server.uri, found, tmp_path / "copy")
        assert weights(copy) == weights(trained)
        assert_loads(server.uri, recorded.run, trained)
        made = register(server.uri, found, "dolly", "champion")
        assert (made.version, versions(server.uri)) == ("1", [made])
        promoted = mlflow.transformers.load_model("models:/dolly@champion")
        assert promoted.tokenizer("say hello")["input_ids"] == [1, 3]
    finally:
        server.kill()


def test_the_card_says_how_the_student_was_made() -> None:
    run = RecordedRun(
        run_id="ab12",
        name="4 forward_kl",
        params={"divergence": "forward_kl", "tau": "2.0", "steps": "4"},
        metrics={"eval/rouge_l": 12.5, "train/loss": 3.0, "objective": 12.5},
        tags={
            "kd_sweep.sweep_id": "toy-1a",
            "kd_sweep.trial": "4",
            "kd_sweep.searched": json.dumps(["divergence", "tau"]),
        },
    )
    text = card(run, FACTS)
    front = yaml.safe_load(text.split("---")[1])
    assert front["pipeline_tag"] == "text-generation"
    body = text.split("---\n", 2)[2]
    assert "| teacher | gpt2-xl |" in body
    searched, _, rest = body.partition("The rest of its config:")
    assert "| tau | 2.0 |" in searched and "| steps | 4 |" in rest
    assert "| rouge_l | 12.5 |" in body and "loss" not in body.partition("## Scores")[2]
    assert "say {prompt} now" in body
    assert "`kd-sweep rerun toy-1a/4`" in body
    assert "chat template" in card(run, FACTS.model_copy(update={"prompt_template": None}))


def test_a_plan_says_what_its_students_are() -> None:
    facts = model_facts(plan_of())
    assert facts is not None
    assert facts.pipeline == "text-generation"
    assert facts.prompt_template is not None
    assert "### Instruction:\n{prompt}\n" in facts.prompt_template
    assert facts.made_from["teacher"] == "a gpt2 from a config"
    assert facts.made_from["training data"] == "builtin:docstrings"
