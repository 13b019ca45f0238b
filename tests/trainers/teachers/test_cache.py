"""The teacher cache: exact, checked, shared, and keyed by all that decides it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cache_support import CPU, TASK, cached_trial, damage, opened, planned, splits, wanted
from training_support import Recorder, gpt2, request, trial

from trainers import numerics
from trainers.preparing.prepare import prepare
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.teachers import cache, cache_build, cache_inventory
from trainers.teachers.cache import CachePlan, CacheRequest
from trainers.teachers.cached import CachedTeacher
from trainers.teachers.online import OnlineTeacher
from trainers.training.run import run_trial
from trainers.trial.fields import Precision
from trainers.trial.sources import ModelSource, Prepared


def test_bytes_per_position_are_the_hidden_states_and_little_more(prepared: Prepared) -> None:
    # the share of headers and index falls with the size of a shard
    plan = cache_build.plan_cache(wanted(prepared), Path("unused"))
    positions = sum(shard.num_positions for shard in plan.shards)
    assert positions == sum(int(split.num_learned.sum()) for split in splits(prepared).values())
    assert plan.hidden_size == 32


def test_what_is_read_is_what_the_teacher_says(built: CachePlan, prepared: Prepared) -> None:
    model = models.load(Path(prepared.teacher), attention=None, dtype=torch.float32)
    online = OnlineTeacher(LanguageModel.of(model, 300))
    numerics.apply(built.request.numerics)
    teacher = opened(built, prepared)
    for name, split in splits(prepared).items():
        batch = split.collate(np.array([7, 0, 11, 3]))
        ours, theirs = teacher.signal(batch), online.signal(batch)
        # other batches round otherwise; nothing else may differ
        torch.testing.assert_close(ours.hidden, theirs.hidden, rtol=1e-5, atol=1e-6), name
        assert torch.equal(ours.head.weight, theirs.head.weight)
        assert torch.equal(ours.logits(), theirs.head.logits(ours.hidden))


def test_a_trial_trains_the_same_online_and_cached(
    built: CachePlan, prepared: Prepared, tmp_path: Path
) -> None:
    file = trial(prepared, tau=2.0, steps=50, generation_prompts=0)
    online, cached = Recorder(), Recorder()
    first = run_trial(file, tmp_path / "online", reporter=online)
    second = run_trial(cached_trial(file, built), tmp_path / "cached", reporter=cached)
    assert cached.steps[1]["loss"] == pytest.approx(online.steps[1]["loss"], rel=1e-6)
    for step in range(1, 51):
        assert cached.steps[step]["loss"] == pytest.approx(online.steps[step]["loss"], rel=1e-5)
    for name, value in first.metrics.items():
        assert second.metrics[name] == pytest.approx(value, rel=1e-4), name


def test_a_cached_trial_never_loads_the_teachers_body(
    built: CachePlan, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    original = models.load

    def load(folder: Path, **options: Any) -> Any:
        loaded.append(folder)
        return original(folder, **options)

    monkeypatch.setattr(models, "load", load)
    run_trial(cached_trial(trial(prepared), built), tmp_path, reporter=Recorder())
    assert loaded == [Path(prepared.student)]


def test_a_cached_trial_needs_its_cache(prepared: Prepared, tmp_path: Path) -> None:
    file = trial(prepared).model_copy(update={"teacher_source": "cache:float32"})
    with pytest.raises(ValueError, match=r"paths.teacher_cache: it must name a cache .* got none"):
        run_trial(file, tmp_path, reporter=Recorder())


@pytest.mark.parametrize(("dtype", "error"), [("float16", 1e-3), ("bfloat16", 8e-3)])
def test_a_smaller_dtype_is_half_the_size_and_says_its_error(
    built: CachePlan, prepared: Prepared, tmp_path: Path, dtype: str, error: float
) -> None:
    plan = planned(prepared, tmp_path, storage=dtype)
    cache_build.build(plan)
    info = cache_inventory.show(plan.folder)
    assert 0 < info.storage_error < error
    assert cache_inventory.show(built.folder).storage_error == 0
    batch = splits(prepared)["train"].collate(np.array([1, 2]))
    small, exact = opened(plan, prepared).signal(batch), opened(built, prepared).signal(batch)
    assert small.hidden.dtype == exact.hidden.dtype
    assert (small.hidden - exact.hidden).norm() / exact.hidden.norm() < error


def test_an_unknown_dtype_is_refused(prepared: Prepared) -> None:
    with pytest.raises(
        ValueError, match=r"must store one of float32, float16, bfloat16, or top<k>, but got 'int8'"
    ):
        wanted(prepared, storage="int8")


KEY_CHANGES: dict[str, Callable[[Prepared], dict[str, Any]]] = {
    "storage dtype": lambda p: {"storage": "float16"},
    "attention": lambda p: {"attention": "eager"},
    "dtype that the teacher computes in": lambda p: {"dtype": "bfloat16"},
    "matmul precision": lambda p: {
        "numerics": numerics.resolve("cpu", Precision.FLOAT32, 1) | {"matmul_precision": "high"}
    },
    "teacher": lambda p: {"teacher": Path(p.student)},
}


@pytest.mark.parametrize("change", KEY_CHANGES)
def test_whatever_decides_a_hidden_state_is_in_the_key(
    built: CachePlan, prepared: Prepared, tmp_path: Path, change: str
) -> None:
    assert planned(prepared, tmp_path, **KEY_CHANGES[change](prepared)).key != built.key


def test_code_that_makes_other_hidden_states_makes_another_key(
    built: CachePlan, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert planned(prepared, tmp_path).key != built.key


def test_neither_threads_nor_gpus_are_in_the_key(
    built: CachePlan, prepared: Prepared, tmp_path: Path
) -> None:
    two = numerics.resolve("cpu", Precision.FLOAT32, 2)
    assert planned(prepared, tmp_path, numerics=two, gpus=2).key == built.key


@pytest.mark.parametrize(
    "changed",
    [
        {"max_tokens": 21, "max_prompt_tokens": 20},
        {"tokenizer": {"train": {"vocab_size": 310}}},
        {"template": "{instruction}"},
        {"max_train_examples": 59},
    ],
    ids=["lengths", "tokenizer", "template", "content"],
)
def test_other_data_is_another_key(prepared: Prepared, tmp_path: Path, changed: Any) -> None:
    teacher, student = ModelSource(config=gpt2(1, 16)), ModelSource(config=gpt2(1, 16))
    plain = request(tmp_path, teacher=teacher, student=student)
    if changed.keys() <= set(type(plain.data).model_fields):
        changed = {"data": plain.data.model_copy(update=changed)}
    other = request(tmp_path, teacher=teacher, student=student, **changed)
    keys = []
    for each in (plain, other):
        made = prepare(each, tmp_path / "home")
        keys.append(planned(made.model_copy(update={"teacher": prepared.teacher}), tmp_path).key)
    assert keys[0] != keys[1]


def test_the_key_is_the_same_on_another_day_and_in_another_place(
    built: CachePlan, prepared: Prepared, tmp_path: Path
) -> None:
    for name in ("teacher", "data"):
        shutil.copytree(getattr(prepared, name), tmp_path / name)
    moved = wanted(prepared, teacher=tmp_path / "teacher", data=tmp_path / "data")
    assert cache_build.plan_cache(moved, tmp_path).key == built.key


def test_the_order_of_examples_is_no_part_of_the_key_and_does_not_matter(
    built: CachePlan, prepared: Prepared, tmp_path: Path
) -> None:
    import datasets

    shutil.copytree(prepared.data, tmp_path / "data")
    rows = datasets.load_from_disk(str(tmp_path / "data" / "train"))
    turned_round = rows.select(range(len(rows) - 1, -1, -1))
    # in memory: a cache file would lie among the data
    backwards = turned_round.flatten_indices(keep_in_memory=True)
    shutil.rmtree(tmp_path / "data" / "train")
    backwards.save_to_disk(tmp_path / "data" / "train")
    turned = wanted(prepared, data=tmp_path / "data")
    assert cache_build.plan_cache(turned, tmp_path).key == built.key
    split = TokenSplit.open(tmp_path / "data", "train")
    mixed = {**splits(prepared), "train": split}
    teacher = CachedTeacher(built.folder, mixed, CPU)
    ours = teacher.hidden("train", np.array([0, 59]))
    theirs = opened(built, prepared).hidden("train", np.array([59, 0]))
    assert torch.equal(ours, theirs)


def test_data_that_the_cache_does_not_hold_is_refused(
    own: CachePlan, prepared: Prepared, tmp_path: Path
) -> None:
    other = prepare(request(tmp_path, max_tokens=21, max_prompt_tokens=20), tmp_path / "home")
    with pytest.raises(ValueError, match=r"must hold every example of train, but example 0 is not"):
        opened(own, other)


def test_a_whole_cache_is_read_once_and_then_trusted_until_it_changes(
    own: CachePlan, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(own, prepared)
    read: list[Path] = []
    original = cache.fingerprints.of_file
    monkeypatch.setattr(
        cache.fingerprints, "of_file", lambda path: (read.append(path), original(path))[1]
    )
    opened(own, prepared)
    assert read == []
    damage(own.folder / (own.shards[0].name + ".safetensors"))
    with pytest.raises(ValueError, match="other bytes"):
        opened(own, prepared)


def test_caches_are_listed_found_and_pruned_oldest_first(own: CachePlan) -> None:
    older = own.folder.parent / ("0" * 20)
    shutil.copytree(own.folder, older)
    description = json.loads((older / cache.CACHE_FILE).read_text())
    description["created"] = "2020-01-01T00:00:00+00:00"
    (older / cache.CACHE_FILE).write_text(json.dumps(description))
    infos = cache_inventory.list_caches(own.root)
    assert [info.key for info in infos] == [own.key, older.name]
    assert infos[0].dtype == "float32" and infos[0].hidden_size == 32
    assert cache_inventory.find(own.root, own.key[:6]) == str(own.folder)
    with pytest.raises(ValueError, match=r"but got 'x', which names 0. Known: "):
        cache_inventory.find(own.root, "x")
    (own.folder.parent / ".left.building").mkdir()
    deleted = cache_inventory.prune(own.root, keep_bytes=infos[0].bytes)
    assert [info.key for info in deleted] == [older.name]
    assert [path.name for path in own.folder.parent.iterdir()] == [own.key]
    cache_inventory.prune(own.root, keep_bytes=0)
    assert cache_inventory.list_caches(own.root) == []


def test_a_trial_names_the_cache_that_serves_it(built: CachePlan, prepared: Prepared) -> None:
    file = trial(prepared, tau=2.0).model_copy(update={"numerics": built.request.numerics})
    assert CacheRequest.of_trial(file, TASK) == built.request
    assert CacheRequest.of_trial(file, TASK, "float16").storage == "float16"
    with pytest.raises(ValueError, match="must have a teacher and resolved numerics"):
        CacheRequest.of_trial(trial(prepared), TASK)
