"""A plan from a sweep file and a workspace."""

import json
from pathlib import Path

import pytest
import yaml
from fakes import make_document, make_study_document, make_sweep_plan
from records_support import make_store, record_sweep

from service.actions.plan import explain_search, plan_json, plan_sweep
from service.driver.open_study import open_study
from service.errors import PlanError, SpecError
from service.plan.places import sweep_folder
from service.plan.plan import SweepPlan
from service.plan.resources import Resources
from service.search.ask import ask
from service.search.tell import tell
from service.states import TrialState
from service.workspace import Workspace

FOUR = Resources(num_cpus=4, disk_free=10**12)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    rows = [json.dumps({"instruction": f"Say {n}", "output": str(n)}) for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    data = {"train": "rows.jsonl", "validation": "rows.jsonl"}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(make_document(data=data)))
    return Workspace(tmp_path / "home", folder=tmp_path)


def test_a_file_is_planned_from_the_workspaces_folder(workspace: Workspace) -> None:
    plan = plan_sweep("sweep.yaml", workspace, overrides=["trials=3"], resources=FOUR)
    assert (plan.num_trials, plan.slots, plan.facts.num_train_examples) == (3, 3, 4)
    assert plan.spec.data.train == str(workspace.folder / "rows.jsonl")
    made = [path.name for path in (workspace.home / "prepared").iterdir()]
    assert made == ["configs"], "a plan spends nothing, and notes what it learned of the configs"


def test_the_workspaces_storage_counts_less_than_the_sweeps_own(workspace: Workspace) -> None:
    storage = {"path": str(workspace.folder / "here")}
    elsewhere = Workspace(workspace.home, folder=workspace.folder, storage=storage)
    plan = plan_sweep("sweep.yaml", elsewhere, resources=FOUR)
    assert plan.spec.storage.path == storage["path"]
    plan = plan_sweep("sweep.yaml", elsewhere, overrides=["storage.path=there"], resources=FOUR)
    assert plan.spec.storage.path == str(workspace.folder / "there")


def test_a_plan_says_in_words_what_is_searched(workspace: Workspace) -> None:
    plan = plan_sweep("sweep.yaml", workspace, resources=FOUR)
    (row,) = explain_search(plan)
    assert row == {"name": "tau", "domain": "float 0.5 to 8, log", "condition": ""}
    assert plan_json(plan)["search_space"] == [row]


def test_what_is_wrong_is_refused(workspace: Workspace) -> None:
    with pytest.raises(SpecError, match="trialz"):
        plan_sweep("sweep.yaml", workspace, overrides=["trialz=3"])
    (workspace.folder / "rows.jsonl").unlink()
    with pytest.raises(PlanError, match="rows.jsonl is missing"):
        plan_sweep("sweep.yaml", workspace, resources=FOUR)


def test_a_test_set_that_trials_see_is_refused_with_both_places(workspace: Workspace) -> None:
    rows = workspace.folder / "rows.jsonl"
    validation, copy = workspace.folder / "validation.jsonl", workspace.folder / "copy.jsonl"
    for path in (validation, copy):
        path.write_text(rows.read_text().replace("Say", "Spell"))
    other = workspace.folder / "other.jsonl"
    other.write_text(rows.read_text().replace("Say", "Sing"))

    def planned(place: str, validation: str = "validation.jsonl") -> SweepPlan:
        given = [f"data.validation={validation}", f"data.test.own={place}"]
        return plan_sweep("sweep.yaml", workspace, overrides=given, resources=FOUR)

    assert planned("other.jsonl").spec.data.test == {"own": str(other)}
    with pytest.raises(PlanError, match=rf"data\.test\.own: .*{rows}, .* data\.train, {rows}"):
        planned("rows.jsonl")
    with pytest.raises(PlanError, match=rf"got {copy}, .* of data\.validation, {validation}"):
        planned("copy.jsonl")
    with pytest.raises(PlanError, match="got builtin:docstrings, .* of data.validation, builtin"):
        planned("builtin:docstrings", "builtin:docstrings")
    other.unlink()
    with pytest.raises(PlanError, match=rf"data\.test\.own: the file must exist, but {other} is"):
        planned("other.jsonl")


def test_a_sweep_in_another_folder_is_planned_with_what_is_beside_it(workspace: Workspace) -> None:
    folder = workspace.folder / "configs"
    folder.mkdir()
    (folder / "sweep.yaml").write_text((workspace.folder / "sweep.yaml").read_text())
    (folder / "rows.jsonl").write_text((workspace.folder / "rows.jsonl").read_text())
    plan = plan_sweep("configs/sweep.yaml", workspace, resources=FOUR)
    assert plan.spec.data.train == str(folder / "rows.jsonl")
    assert plan.warnings[0] == (
        f"data.train: {folder}/rows.jsonl was taken; there is {workspace.folder}/rows.jsonl, too"
    )
    for path in (folder, workspace.folder):
        (path / "rows.jsonl").unlink()
    message = f"file are looked for in {folder}, then in {workspace.folder}"
    with pytest.raises(PlanError, match=message):
        plan_sweep("configs/sweep.yaml", workspace, resources=FOUR)


def test_a_sweep_with_another_start_is_another_sweep(workspace: Workspace) -> None:
    plan = plan_sweep("sweep.yaml", workspace, resources=FOUR)
    earlier = make_sweep_plan(name="early")
    record_sweep(make_store(workspace.home), workspace.home, earlier, [])
    with pytest.raises(PlanError, match=f"--from {earlier.sweep_id}: its study must be in this"):
        plan_sweep("sweep.yaml", workspace, resources=FOUR, warm_start="early")
    store = open_study(earlier, sweep_folder(earlier, workspace.home))
    ask(store)
    tell(store, 0, TrialState.COMPLETED, 1.0)
    later = plan_sweep("sweep.yaml", workspace, resources=FOUR, warm_start="latest")
    again = plan_sweep("sweep.yaml", workspace, resources=FOUR, warm_start=earlier.sweep_id)
    assert later == again
    assert later.sweep_id.startswith(f"{plan.sweep_id}-w")
    assert later.warm_start == earlier.sweep_id
    assert later.warnings[0].startswith("the sampler starts with 1 of the 1 finished trials")
    assert SweepPlan.model_validate_json(later.model_dump_json()) == later


def test_a_study_starts_with_nothing_that_another_sweep_found(workspace: Workspace) -> None:
    (workspace.folder / "study.yaml").write_text(yaml.safe_dump(make_study_document()))
    with pytest.raises(SpecError, match="--from: .*but got latest with a study.*Leave it out"):
        plan_sweep("study.yaml", workspace, resources=FOUR, warm_start="latest")
