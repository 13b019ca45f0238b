"""Where files are stored: as literal paths, since homes that are there must go on to work."""

from pathlib import Path

from fakes import make_sweep_plan

from service import home as homes
from service.plan import places

HOME = Path("/home/of/all")


def test_a_sweeps_folder_holds_everything_of_it() -> None:
    plan = make_sweep_plan()
    folder = places.sweep_folder(plan, HOME)
    assert folder == HOME / "sweeps" / plan.sweep_id
    assert places.trials_folder(folder) == folder / "trials"
    checkpoints = places.checkpoints_folder(places.trials_folder(folder), 7)
    assert checkpoints == folder / "trials" / "7" / "checkpoints"
    assert places.slots_folder(folder) == folder / "slots"
    assert places.own_modules_folder(folder) == folder / "own_modules"
    assert places.driver_lock(folder) == folder / "driver.lock"
    assert places.end_marker(folder) == folder / "ended"
    assert places.report_file(folder) == folder / "report.html"
    assert places.study_storage(plan, folder) == str(folder / "study.journal")
    assert places.checkpoints_url(plan) is None


def test_a_storage_path_holds_sweeps_in_the_homes_place(tmp_path: Path) -> None:
    plan = make_sweep_plan(storage={"path": str(tmp_path)})
    assert places.sweep_folder(plan, HOME) == tmp_path / "sweeps" / plan.sweep_id


def test_a_url_takes_the_checkpoints_alone() -> None:
    study = "postgresql://me@db/optuna"
    plan = make_sweep_plan(storage={"path": "s3://bucket/kd/", "study_url": study})
    folder = places.sweep_folder(plan, HOME)
    assert folder == HOME / "sweeps" / plan.sweep_id
    assert places.checkpoints_url(plan) == f"s3://bucket/kd/sweeps/{plan.sweep_id}/trials"
    assert places.study_storage(plan, folder) == study


def test_the_home_holds_what_sweeps_share() -> None:
    assert homes.caches_folder(HOME) == HOME / "caches"
    assert homes.measured_folder(HOME) == HOME / "measured"
    assert homes.pictures_folder(HOME) == HOME / "pictures"
    assert homes.reruns_folder(HOME) == HOME / "reruns"
    assert homes.record_file(HOME) == HOME / "mlflow.db"
    # sha256 of the text "sqlite:///x", its first eight digits
    assert homes.spool_folder(HOME, "sqlite:///x").parent == HOME / "spool"
    assert homes.spool_folder(HOME, "sqlite:///x").name == "8d7af207"
