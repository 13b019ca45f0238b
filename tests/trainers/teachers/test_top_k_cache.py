"""Caches that store the largest logits: read, measured, and trained from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cache_support import cached_trial, opened, planned, splits
from training_support import Recorder, trial

from trainers.teachers import cache, cache_build, cache_inventory
from trainers.teachers.bias import SETTINGS
from trainers.teachers.cache import CachePlan
from trainers.training.run import run_trial
from trainers.trial.sources import Prepared


@pytest.fixture(scope="module")
def top(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> CachePlan:
    plan = planned(prepared, tmp_path_factory.mktemp("home"), storage="top16")
    cache_build.build(plan)
    return plan


def test_a_position_takes_its_largest_logits_and_comes_back_near(
    top: CachePlan, built: CachePlan, prepared: Prepared
) -> None:
    info = cache_inventory.show(top.folder)
    assert (info.dtype, info.hidden_size) == ("top16", 12 + 4 * 16)
    assert info.key != cache_inventory.show(built.folder).key
    batch = splits(prepared)["train"].collate(np.array([4, 1, 9]))
    ours, exact = (opened(plan, prepared).signal(batch).logits() for plan in (top, built))
    assert torch.equal(ours.argmax(-1), exact.argmax(-1))
    centred = exact - exact.mean(-1, keepdim=True)
    assert (ours - exact).norm() / centred.norm() < 3 * info.storage_error
    assert 0 < info.storage_error < 0.7


def test_its_bias_is_measured_at_each_temperature(top: CachePlan) -> None:
    rows = cache.read_description(top.folder)["bias"]
    assert [(row["policy"], row["at"]) for row in rows] == [(str(p), at) for p, at in SETTINGS]
    assert all(0 < row["jsd"] <= row["kl"] for row in rows)
    assert not (top.folder / cache.BIAS_FILE).exists()
    assert cache_build.measure_bias(top) == rows


def test_more_logits_are_less_biased_and_an_exact_cache_has_no_bias(
    top: CachePlan, built: CachePlan, prepared: Prepared, tmp_path: Path
) -> None:
    more = planned(prepared, tmp_path, storage="top128")
    rows = cache_build.measure_bias(more)
    assert not more.is_published  # a sample was enough
    for few, many in zip(cache_build.measure_bias(top), rows, strict=True):
        assert many["forward"] < few["forward"]  # type: ignore[operator]
    assert cache_build.measure_bias(built) == []
    half = cache_build.measure_bias(planned(prepared, tmp_path, storage="float16"))
    assert all(row["forward"] < 5e-3 for row in half)  # type: ignore[operator]


def test_a_trial_trains_from_it_almost_as_from_the_exact_one(
    top: CachePlan, built: CachePlan, prepared: Prepared, tmp_path: Path
) -> None:
    file = trial(prepared, tau=1.0, steps=20, generation_prompts=0)
    ends = {}
    for plan in (top, built):
        recorder = Recorder()
        run_trial(cached_trial(file, plan), tmp_path / plan.key, reporter=recorder)
        ends[plan.key] = recorder.steps[20]
    assert ends[top.key]["loss"] == pytest.approx(ends[built.key]["loss"], rel=0.02)
    assert ends[top.key]["loss"] != ends[built.key]["loss"]


def test_as_many_logits_as_there_are_tokens_are_refused(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"top_k: it must be less than the 300 entries .* got 300"):
        planned(prepared, tmp_path, storage="top300")
