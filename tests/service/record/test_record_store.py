"""Where the record is kept: homes with unusual names, their modes, and what cannot be one."""

import stat
from pathlib import Path

import pytest
from records_support import plan_of, record_sweep

from service.errors import PlanError, TrackingError
from service.record.runs import Runs
from service.record.store import ensure_store
from service.workspace import Workspace


@pytest.mark.parametrize("name", ["a b", "a?b=c", "100%", "a%20b", "a#b", "a;b&c", "ä:ö"])
def test_a_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    workspace = Workspace(home=tmp_path / name)
    uri = workspace.tracking_uri
    ensure_store(uri, workspace.home)
    plan = plan_of()
    record_sweep(uri, workspace.home, plan, [({"tau": 2.0}, {"rouge_l": 0.5})])
    record = Runs(uri).get(f"{plan.sweep_id}/0")
    assert Runs(uri).trial_file(record.run_id).config.tau == 2.0
    assert (tmp_path / name / "artifacts" / "kd-sweep" / record.run_id).is_dir()


def test_home_and_store_are_their_owners_alone(tmp_path: Path) -> None:
    workspace = Workspace(home=tmp_path / "home")
    ensure_store(workspace.tracking_uri, workspace.home)
    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (workspace.home, workspace.home / "mlflow.db")
    ]
    assert modes == [0o700, 0o600]


def test_a_home_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    ensure_store(Workspace(home=home).tracking_uri, home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o755


def test_a_home_that_can_be_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home, reason in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "home", "Not a directory|is a file"),
        ("~nobody-is-called-so/x", "must be followed by"),
        ("a\0b", "NUL"),
        ("x" * 5000, "must be shorter"),
    ):
        with pytest.raises(PlanError, match=f"home: .*({reason}).*Set KD_SWEEP_HOME"):
            workspace = Workspace(home=Path(home))
            ensure_store(workspace.tracking_uri, workspace.home)


def test_a_store_in_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="unable to open database file"):
        ensure_store(f"sqlite:///{tmp_path}/no/mlflow.db", tmp_path)
