"""What the environment says about where a user works."""

import pickle
from pathlib import Path

import pytest

from service.errors import JobError, TrackingError
from service.workspace import Cluster, Workspace, find_cluster


def test_the_record_is_a_file_in_the_home_unless_it_is_named(tmp_path: Path) -> None:
    variables = {"KD_SWEEP_HOME": str(tmp_path)}
    assert Workspace.from_environment(variables, tmp_path).tracking_uri == (
        f"sqlite:///{tmp_path}/mlflow.db"
    )
    variables |= {"MLFLOW_TRACKING_URI": "http://tracking:5000"}
    assert Workspace.from_environment(variables, tmp_path).tracking_uri == "http://tracking:5000"


def test_the_home_of_a_workspace_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Workspace(Path("here")).home == tmp_path / "here"
    assert Workspace(Path("here")).folder == tmp_path


def test_an_address_is_needed(tmp_path: Path) -> None:
    variables = {"KD_SWEEP_HOME": str(tmp_path), "KD_SWEEP_ADDRESS": ""}
    workspace = Workspace.from_environment(variables, tmp_path)
    assert find_cluster(None, variables) is None
    message = "an address must be given, but got none.*--address http://HEAD:8265"
    with pytest.raises(JobError, match=message):
        workspace.require_cluster()


def test_the_address_may_come_from_the_environment() -> None:
    found = find_cluster(None, {"KD_SWEEP_ADDRESS": "http://head:8265/"})
    assert found is not None and found.address == "http://head:8265"
    found = find_cluster("http://other:8265", {"KD_SWEEP_ADDRESS": "http://head:8265/"})
    assert found is not None and found.address == "http://other:8265"


def test_rays_own_address_counts_where_a_cluster_is_needed(tmp_path: Path) -> None:
    variables = {"RAY_API_SERVER_ADDRESS": "http://head:8265"}
    assert find_cluster(None, variables) == Cluster("http://head:8265")
    assert Workspace.from_environment(variables, tmp_path).cluster is None


def test_a_driver_gets_what_the_submitter_was_given_and_nothing_else() -> None:
    variables = {
        "KD_SWEEP_HOME": "/shared",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "MLFLOW_TRACKING_TOKEN": "hunter2",
        "PATH": "/bin",
    }
    found = find_cluster("http://head:8265", variables)
    assert found is not None
    assert found.environment == {
        "KD_SWEEP_HOME": "/shared",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    }


@pytest.mark.parametrize(("mode", "token"), [("token", "secret"), ("", None)])
def test_a_token_counts_in_rays_token_mode_and_is_not_shown(mode: str, token: str | None) -> None:
    variables = {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": "secret"}
    found = find_cluster("http://head:8265", variables)
    assert found is not None and found.token == token
    assert "secret" not in repr(found)


def test_errors_hide_passwords() -> None:
    error = TrackingError("tracking: 'http://me:hunter2@mlflow:5000' must answer")
    assert str(error) == "tracking: 'http://me:***@mlflow:5000' must answer"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
