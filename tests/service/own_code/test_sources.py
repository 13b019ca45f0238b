"""The sources of the user's own modules: part of what a sweep is, and kept with it."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_support import call, document, make_folder, plan
from fakes import MemoryClient, make_document, make_sweep_plan

from service.cluster import job
from service.own_code import sources as own_modules
from service.own_code.sources import read_modules, unpack
from service.own_code.sweep import find_own_modules
from service.plan.plan import SweepPlan
from service.spec.parse import parse_spec
from trainers.files.fingerprints import of_modules
from trainers.trial.trial_file import TrialPaths

LOSS = """
def forward(student_logits, teacher_logits):
    student, teacher = student_logits.float(), teacher_logits.detach().float()
    if student_logits.dtype == teacher_logits.double().dtype:
        student, teacher = student_logits, teacher_logits.detach()
    student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    return (teacher.exp() * (teacher - student)).sum(-1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_folder(tmp_path, monkeypatch)


def planned(folder: Path, divergence: str) -> dict[str, Any]:
    spec = document(search={"divergence": {"choice": ["reverse_kl", divergence]}})
    made = plan(folder, spec, "--json")
    assert made.exit_code == 0, made.output
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def test_another_source_makes_another_sweep(folder: Path) -> None:
    (folder / "kept_losses.py").write_text(LOSS)
    (folder / "unused.py").write_text("")
    first = planned(folder, "kept_losses:forward")
    assert first["sweep_id"] == planned(folder, "kept_losses:forward")["sweep_id"]
    assert first["own_modules"] == {"kept_losses.py": LOSS}
    assert "own_modules" in first["facts"]["fingerprints"]
    assert "kept_losses.py; kept with the sweep" in call("plan", "sweep.yaml").stdout
    (folder / "kept_losses.py").write_text(LOSS.replace("sum(-1)", "sum(-1).mul(2)"))
    assert planned(folder, "kept_losses:forward")["sweep_id"] != first["sweep_id"]


def test_a_module_beside_the_sweeps_file_comes_first(tmp_path: Path) -> None:
    spec = parse_spec(make_document(search={"divergence": {"choice": ["mine:f", "forward_kl"]}}))
    beside, working = tmp_path / "configs", tmp_path
    folders = [beside, working]
    assert find_own_modules(spec, folders) == (working, []), "it may be installed"
    (working / "mine.py").touch()
    assert find_own_modules(spec, folders) == (working, [])
    (beside / "mine").mkdir(parents=True)
    (beside / "mine" / "__init__.py").touch()
    note = f"own modules: those in {beside} were taken; {working} has some, too"
    assert find_own_modules(spec, folders) == (beside, [note])


def test_sweeps_of_shipped_divergences_keep_nothing(folder: Path) -> None:
    found = planned(folder, "forward_kl")
    assert found["own_modules"] == {}
    assert set(found["facts"]["fingerprints"]) == {"text"}


def test_a_package_and_what_is_imported_beside_it_are_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {
        "kept_package/__init__.py": "",
        "kept_package/inner/terms.py": "import kept_beside\nfrom kept_other.deep import x\n",
        "kept_package/template.py": "{% not Python %}",
        "kept_beside.py": "import kept_package, torch, service\n",
        "kept_other/__init__.py": "",
        "kept_other/deep.py": "x = 1\n",
        "kept_not.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = read_modules(["kept_package.inner.terms"])
    del sources["kept_not.py"]
    assert found.kept == sources
    assert not found.installed
    (tmp_path / "kept_not.py").write_bytes(b"# \xff")
    with pytest.raises(ValueError, match=r"kept_not.py must be UTF-8 .*Save it as UTF-8"):
        read_modules(["kept_not"])
    monkeypatch.setattr(own_modules, "LARGEST_BYTES", 30)
    with pytest.raises(ValueError, match=r"at most 0 MiB of sources .* in 6 files"):
        read_modules(["kept_package"])


def test_what_is_installed_is_told_by_its_hash_alone() -> None:
    found = read_modules(["pluggy"])
    assert not found.kept
    assert list(found.fingerprints()) == ["installed_modules"]
    with pytest.raises(ValueError, match=r"module 'sys' must have a source .*but got built-in"):
        read_modules(["sys"])


def plan_with_modules() -> SweepPlan:
    texts = {"kept_losses.py": LOSS, "kept/__init__.py": "", "kept/é.py": "x = 'é'\r\n"}
    return make_sweep_plan().model_copy(update={"own_modules": texts})


def test_unpacked_modules_have_the_plans_hash(tmp_path: Path) -> None:
    made = plan_with_modules()
    place = unpack(made.own_modules, tmp_path)
    assert place == str(tmp_path / "own_modules")
    kept = own_modules.OwnModules(kept=made.own_modules)
    assert kept.fingerprints() == {"own_modules": of_modules(Path(place))}
    assert unpack({}, tmp_path) is None


def test_a_job_gets_the_sources_as_a_file_and_not_in_its_metadata(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders, order = [], job.JobOrder(plan=plan_with_modules())

    class Client(MemoryClient):
        def submit_job(self, *, metadata: dict[str, str], runtime_env: dict[str, Any], **_: Any):  # type: ignore[no-untyped-def]
            text = (Path(runtime_env["working_dir"]) / job.ORDER).read_text()
            orders.extend([text, metadata[job.ORDER]])

    job.submit(Client(), order)
    assert job.JobOrder.model_validate_json(orders[0]) == order
    assert not job.JobOrder.model_validate_json(orders[1]).plan.own_modules


def test_a_trial_without_own_modules_is_read_by_images_of_before() -> None:
    paths = TrialPaths(teacher="/t", student="/s", data="/d")
    assert "own_modules" not in paths.model_dump_json()
    assert "own_modules" in paths.model_copy(update={"own_modules": "/o"}).model_dump_json()
