"""Trials trained again and exported, up to the training, which `tests/service/rerun` has."""

from pathlib import Path

import pytest
from records_support import make_store, plan_of, record_sweep

from service.actions import rerun as reruns
from service.actions.rerun import RerunRequest, export_trial, rerun_trial
from service.errors import PlanError, TrackingError
from service.record.runs import Runs
from service.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    record_sweep(make_store(tmp_path), tmp_path, plan_of(), [({"tau": 1.0}, {"rouge_l": 1.0})])
    return Workspace(tmp_path)


def test_a_rerun_is_made_in_the_workspaces_home_from_its_record(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def rerun(request: RerunRequest, runs: Runs, *, home: Path, on_line: object) -> str:
        asked.extend([request, runs.uri, home, on_line])
        return "verdict"

    monkeypatch.setattr(reruns, "rerun", rerun)
    request = RerunRequest("latest/0", local=True)
    assert rerun_trial(request, workspace, on_line=print) == "verdict"  # type: ignore[comparison-overlap]
    assert asked == [request, workspace.tracking_uri, workspace.home, print]


def test_an_unknown_device_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="must be cpu or cuda, but got 'tpu'"):
        rerun_trial(RerunRequest("latest/0", device="tpu"), Workspace(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_trial_without_a_student_is_not_exported(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="must have a student in the record, but it has none"):
        export_trial("latest/0", workspace, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()
