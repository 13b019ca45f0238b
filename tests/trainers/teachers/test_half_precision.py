"""Teachers that are stored in half precision, or asked in it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_support import cached_trial, opened, planned, splits
from fused_loss_support import make_batch, make_config, run
from training_support import Recorder, request, trial
from transformers import AutoModelForCausalLM

from trainers import numerics
from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.signal import OutputHead, TeacherSignal
from trainers.teachers import cache, cache_build, cache_inventory
from trainers.teachers.cache import CacheRequest
from trainers.teachers.online import OnlineTeacher
from trainers.training.run import run_trial
from trainers.training.start import KeptBetweenTrials
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.fields import Precision
from trainers.trial.sources import ModelSource, Prepared

HALVES = ("float16", "bfloat16")
QUICK = {"steps": 3, "evaluations": 1, "generation_prompts": 0, "diagnostics_share": 0.0}


@pytest.fixture(scope="module", params=HALVES)
def half(
    request: pytest.FixtureRequest, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Prepared:
    """The teacher of `prepared`, saved in half precision, and all else prepared with it."""
    folder = tmp_path_factory.mktemp(request.param)
    model = AutoModelForCausalLM.from_pretrained(prepared.teacher, dtype=request.param)
    model.save_pretrained(folder / "teacher")
    return prepared_with(folder)


def prepared_with(folder: Path, **changed: object) -> Prepared:
    asked = request(folder, teacher=ModelSource(model=str(folder / "teacher")), **changed)
    made = prepare(asked, folder / "home")
    assert inspect(asked, folder / "home").teacher_dtype == made.teacher_dtype
    return made


def test_it_is_asked_as_it_is_by_trials_of_any_precision(half: Prepared, tmp_path: Path) -> None:
    dtype = half.teacher_dtype
    assert dtype is not None and Path(half.teacher).parent.name.startswith(dtype)
    batch = splits(half)["train"].collate(np.array([3, 0]))
    model = AutoModelForCausalLM.from_pretrained(half.teacher, dtype=dtype).eval()
    with torch.no_grad():
        own = model(input_ids=batch.input_ids).logits.flatten(0, 1)[batch.positions]
    for precision in ("float32", "bfloat16"):
        kept = KeptBetweenTrials()
        file = trial(half, precision=precision, **QUICK)
        run_trial(file, tmp_path / precision, reporter=Recorder(), kept=kept)
        _, network = kept.kept["teacher"]
        assert {str(p.dtype) for p in network.model.parameters()} == {f"torch.{dtype}"}
        with numerics.autocast({"device": "cpu", "precision": precision}):
            said = OnlineTeacher(network).signal(batch).logits()
        # transformers' own GELU rounds after each of its eight operations
        torch.testing.assert_close(said, own, rtol=0.03, atol=0.05)


def test_its_cache_stores_what_it_emits_and_trains_what_it_does(
    half: Prepared, tmp_path: Path
) -> None:
    resolved = numerics.resolve("cpu", Precision.FLOAT32, 1)
    file = trial(half, tau=2.0, **QUICK).model_copy(update={"numerics": resolved})
    request = CacheRequest.of_trial(file, planned(half, tmp_path).request.task)
    assert request.is_exact and request.full is None
    plan = cache_build.plan_cache(request, tmp_path)
    cache_build.build(plan)
    info = cache_inventory.show(plan.folder)
    assert (info.dtype, info.storage_error) == (half.teacher_dtype, 0.0)
    assert (info.bias, info.conversion) == ([], [])
    assert opened(plan, half).hidden("train", np.array([1])).dtype == getattr(torch, info.dtype)
    online, cached = Recorder(), Recorder()
    run_trial(file, tmp_path / "online", reporter=online)
    run_trial(cached_trial(file, plan), tmp_path / "cached", reporter=cached)
    # a batch of another shape rounds elsewhere in the teacher
    error = 2 * torch.finfo(getattr(torch, info.dtype)).eps
    for step, values in online.steps.items():
        assert cached.steps[step] == pytest.approx(values, rel=error), step


def test_another_dtype_can_be_asked_for(half: Prepared) -> None:
    folder = Path(half.teacher).parent
    asked = request(folder, teacher=ModelSource(model=half.teacher), teacher_dtype="float32")
    assert prepare(asked, folder / "home").teacher_dtype == "float32"


def test_a_teacher_in_float32_has_the_precision_of_its_trials(prepared: Prepared) -> None:
    assert prepared.teacher_dtype is None


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", sorted(name for name, row in DIVERGENCES.items()))
def test_its_logits_are_those_of_its_dtype_whatever_the_student_computes_in(
    name: str, fused: bool
) -> None:
    batch = make_batch(dtype=torch.float32)
    assert batch.signal is not None
    head = batch.signal.head
    assert isinstance(head, OutputHead) and head.bias is not None
    hidden, weight, bias = (one.half() for one in (batch.signal.hidden, head.weight, head.bias))
    logits = torch.nn.functional.linear(hidden, weight, bias).float()
    identity = OutputHead.identity(logits.shape[1], logits.device)
    own = TeacherSignal(hidden, OutputHead(weight, bias))
    config = make_config(name, str(min(DIVERGENCES[name].policies)))
    found, expected = (
        run(config, replace(batch, signal=signal), fused=fused, autocast=True)[0]
        for signal in (own, TeacherSignal(logits, identity))
    )
    # both to the rounding of the teacher's products in float16, far below that of bfloat16
    assert float(found.soft) == pytest.approx(float(expected.soft), rel=5e-4, abs=1e-3)


def test_the_error_of_a_converted_teacher_is_measured_against_the_full_one(
    prepared: Prepared, tmp_path: Path
) -> None:
    plan = planned(prepared, tmp_path, dtype="bfloat16", storage="bfloat16")
    assert plan.request.is_exact and plan.request.full == "float32"
    rows = cache_build.measure_conversion(plan)
    assert not plan.is_published  # a sample was enough
    split = splits(prepared)["validation"]
    batch = split.collate(np.arange(len(split)))
    said = []
    for dtype in ("float32", "bfloat16"):
        model = AutoModelForCausalLM.from_pretrained(prepared.teacher, dtype=dtype).eval()
        with torch.no_grad():
            logits = model(input_ids=batch.input_ids).logits.flatten(0, 1)[batch.positions]
        said.append(logits.double().log_softmax(-1))
    kl = (said[0].exp() * (said[0] - said[1])).sum(-1).mean()
    row = next(row for row in rows if row["policy"] == "fixed" and row["at"] == 1.0)
    # its own GELU in one operation rounds less, by about a factor
    assert float(kl) / 4 < row["kl"] < 4 * float(kl)  # type: ignore[operator]
    assert all(0 < row["forward"] < 0.1 for row in rows)  # type: ignore[operator]
    cache_build.build(plan)
    info = cache_inventory.show(plan.folder)
    assert info.conversion == rows == cache_build.measure_conversion(plan) and info.bias == []
    assert not (plan.folder / cache.CONVERSION_FILE).exists()
    assert math.isclose(info.storage_error, 0.0)


def test_a_full_teacher_that_does_not_fit_leaves_its_error_unmeasured(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(cache_build, "_said_in_full", too_large)
    plan = planned(prepared, tmp_path, dtype="bfloat16", storage="bfloat16")
    assert cache_build.measure_conversion(plan) == []
