"""`users quota`: limits are set one by one, shown with what is used, and wrong ones named."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_support import call, rows_of
from fakes import make_sweep_plan

from service.accounts.line import Asked
from service.actions.json_types import adapter_of
from service.actions.launch import Launches
from service.cluster.job import JobOrder
from service.workspace import Workspace


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KD_SWEEP_HOME", str(tmp_path / "home"))
    assert call("users", "add", "anna", "--project", "vision").exit_code == 0
    return tmp_path / "home"


def row(*arguments: str) -> dict[str, Any]:
    result = call("users", "quota", *arguments, "--json")
    assert result.exit_code == 0, result.output
    adapter_of("users quota").validate_json(result.stdout)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_limits_are_set_one_by_one_and_lifted(home: Path) -> None:
    usual = row("anna")
    assert (usual["open_sweeps"], usual["trials_at_once"], usual["gpu_hours"]) == (20, None, None)
    assert rows_of("users", "quota") == []
    row("anna", "--trials-at-once", "4")
    assert row("anna", "--gpu-hours", "12.5", "--open-sweeps", "none")["trials_at_once"] == 4
    assert row("vision", "--project", "--gpu-hours", "0")["gpu_hours"] == 0
    assert [
        (one["user"], one["project"], one["trials_at_once"], one["open_sweeps"], one["gpu_hours"])
        for one in rows_of("users", "quota")
    ] == [(None, "vision", None, None, 0.0), ("anna", None, 4, None, 12.5)]
    assert "set quota" in call("users", "log").stdout


def test_what_is_used_stands_beside_the_limits(home: Path) -> None:
    order = JobOrder(plan=make_sweep_plan())
    Launches(Workspace(home)).put(order, asked=Asked("anna", "vision", trials=2))
    for found in (row("anna"), row("vision", "--project")):
        assert (found["open_sweeps_now"], found["trials_now"]) == (1, 0)
        assert found["gpu_hours_this_month"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("anna", "--trials-at-once", "-1"), "--trials-at-once: must be a number that is not"),
        (("anna", "--open-sweeps", "2.5"), "--open-sweeps: must be a number that is not negative"),
        (("anna", "--gpu-hours", "nan"), "--gpu-hours: must be a number that is not negative, or"),
        (("ana",), "user ana: must be one of the service's, but got none of this name. Did you"),
        (("anna", "--project"), "project anna: must be one of a user's, but got none of this name"),
        (("--gpu-hours", "3"), "users quota: a limit is set for a user or a project, but got no"),
    ],
)
def test_what_is_no_limit_or_for_nobody_is_named(
    home: Path, arguments: tuple[str, ...], message: str
) -> None:
    refused = call("users", "quota", *arguments)
    assert (refused.exit_code, refused.stderr.startswith(f"error: {message}")) == (2, True), (
        refused.stderr
    )
    assert rows_of("users", "quota") == []
