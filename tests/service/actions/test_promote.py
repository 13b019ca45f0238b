"""Students in MLflow's registry, asked for as the command line does."""

import json
from pathlib import Path

import mlflow
import pytest
from cli_support import call, rows_of
from mlflow import MlflowClient
from models_support import Recorded, save_student
from records_support import make_store, plan_of

from service.actions.promote import promote_trial
from service.errors import SpecError, TrackingError
from service.workspace import Workspace


@pytest.fixture
def recorded(kd_sweep_home: Path, tmp_path: Path) -> Recorded:
    trained = save_student(tmp_path / "trained" / "student")
    return Recorded(make_store(kd_sweep_home), kd_sweep_home, trained)


def test_a_student_is_registered_and_found(recorded: Recorded) -> None:
    recorded.record_student()
    run = f"{recorded.plan.sweep_id}/0"
    result = call("promote", run, "--as", "dolly@champion", "--json")
    assert result.exit_code == 0, result.output
    first = json.loads(result.stdout)
    assert (first["name"], first["version"], first["aliases"]) == ("dolly", "1", ["champion"])
    # Once more is the same version, with another alias beside the first.
    again = json.loads(call("promote", run, "--as", "dolly@newest", "--json").stdout)
    assert (again["version"], again["aliases"]) == ("1", ["champion", "newest"])
    client = MlflowClient(recorded.uri, recorded.uri)
    version = client.get_model_version_by_alias("dolly", "champion")
    assert (version.run_id, version.version) == (recorded.run, 1)
    (model,) = recorded.models()
    assert version.source == model.artifact_location
    (row,) = rows_of("best", "--registered")
    assert row["run_id"] == recorded.run
    assert row["registered"] == ["dolly version 1 @champion @newest"]
    assert "is dolly version 1 @champion @newest" in call("best", "--registered").output


def test_best_registered_leaves_out_what_is_not(recorded: Recorded) -> None:
    recorded.record_student()
    assert rows_of("best", "--registered") == []
    assert len(rows_of("best")) == 1
    assert rows_of("best")[0]["registered"] == []


@pytest.mark.filterwarnings("ignore")  # what MLflow's loader and transformers say of each other
def test_a_student_of_an_earlier_version_is_made_loadable(recorded: Recorded) -> None:
    recorded.record_student(as_earlier=True)
    workspace = Workspace(recorded.home)
    made = promote_trial(recorded.run, workspace, name="dolly")
    assert made.uri == "models:/dolly/1"
    before = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(recorded.uri)
        pipeline = mlflow.transformers.load_model(f"runs:/{recorded.run}/student")
    finally:
        mlflow.set_tracking_uri(before)
    assert pipeline.tokenizer("say hello")["input_ids"] == [1, 3]
    assert (
        len(list(recorded.home.rglob("model.safetensors")))
        - len(list((recorded.home / "trials").rglob("model.safetensors")))
        == 1
    )


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", "--as: must be NAME or NAME@ALIAS, but got ''"),
        ("@champion", "--as: must be NAME or NAME@ALIAS, but got '@champion'"),
        ("dolly@", "--as: must be NAME or NAME@ALIAS, but got 'dolly@'"),
        ("a/b", "--as: .*cannot contain '/'"),
        ("dolly@latest", "--as: .*'latest' alias name .* is reserved"),
    ],
)
def test_a_name_that_is_none_is_refused_and_registers_nothing(
    recorded: Recorded, name: str, error: str
) -> None:
    recorded.record_student()
    with pytest.raises(SpecError, match=error):
        promote_trial(recorded.run, Workspace(recorded.home), name=name)
    assert list(MlflowClient(recorded.uri, recorded.uri).search_registered_models()) == []


def test_a_trial_without_a_student_cannot_be_promoted(recorded: Recorded) -> None:
    with pytest.raises(TrackingError, match="must have a student in the record, but it has none"):
        promote_trial(f"{plan_of().sweep_id}/0", Workspace(recorded.home), name="dolly")
