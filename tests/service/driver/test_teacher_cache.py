"""The cache before the slots, on a local Ray: built, found again, mended, or not to be had."""

import itertools
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from fakes import make_sweep_plan
from training_support import request

from service.driver.shared_inputs import CachedAs, SharedInputs
from service.errors import PlanError
from service.events import DriverEvent, Notice, Preparing
from service.slots.session import ray_session
from trainers.numerics import resolve
from trainers.preparing.prepare import prepare
from trainers.teachers import cache, cache_inventory
from trainers.training.standing import load_trainer
from trainers.trial.fields import Precision

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder beside a Ray."""
    home = tmp_path_factory.mktemp("home")
    with ray_session(make_sweep_plan(), home, None, load=partial(load_trainer, "causal_lm")):
        yield home


@pytest.fixture(scope="module")
def shared(home: Path) -> SharedInputs:
    prepared = prepare(request(home), home)
    return SharedInputs(prepared, {each: resolve("cpu", each, 1) for each in Precision})


class Sweep:
    """Asks for the cache, and keeps what was told."""

    def __init__(
        self, home: Path, shared: SharedInputs, changes: Any = MappingProxyType({}), **section: Any
    ) -> None:
        self.events: list[DriverEvent] = []
        # Not at the top: this loads Ray, which reads its settings then, and a session makes them.
        from service.driver.teacher_cache import cache_teacher

        self.plan = make_sweep_plan(teacher_cache=section, **changes)
        self.found = cache_teacher(
            self.plan, home, shared, on_event=self.events.append, stop=threading.Event()
        )

    @property
    def cached(self) -> CachedAs:
        """The one cache."""
        assert self.found is not None
        (cached,) = set(self.found.caches.values())
        return cached

    @property
    def folder(self) -> Path:
        return Path(self.cached.place)

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}


def test_the_cache_is_built_once_and_mended_where_it_is_damaged(
    home: Path, shared: SharedInputs
) -> None:
    first = Sweep(home, shared, mode="required")
    assert first.found is not None
    trial = first.found.trial(first.found.template(first.plan), first.plan.spec.budget())
    assert trial.teacher_source == "cache:float32"
    assert trial.paths.teacher_cache == str(first.folder)
    assert cache_inventory.verify(first.folder) == []
    shares = [event.share for event in first.events if isinstance(event, Preparing)]
    assert (shares[0], shares[-1]) == (0.0, 1.0)

    built = stamps(first.folder)
    again = Sweep(home, shared, mode="auto")
    assert again.folder == first.folder
    assert stamps(again.folder) == built

    damaged = first.folder / "train-00000.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-5] ^= 1
    damaged.write_bytes(bytes(content))
    mended = Sweep(home, shared, mode="required")
    assert mended.notices == [f"teacher cache: {damaged.name} is damaged and is made anew"]
    assert cache_inventory.verify(mended.folder) == []
    now = stamps(mended.folder)
    # the index is written with the description
    assert {name for name in now if now[name] != built[name]} <= {damaged.name, cache.INDEX_FILE}


def test_a_smaller_dtype_is_another_cache(home: Path, shared: SharedInputs) -> None:
    sweep = Sweep(home, shared, dtype="float16")
    assert sweep.cached.source == "cache:float16"
    assert 0 < cache_inventory.show(sweep.folder).storage_error < 1e-3


def test_a_cache_that_is_too_far_off_is_refused_before_it_is_built_and_allowed_where_asked(
    home: Path, shared: SharedInputs
) -> None:
    with pytest.raises(PlanError, match=r"top8 must .* max_bias=0.0001 .* but got .* at tau 8"):
        Sweep(home, shared, top_k=8, max_bias=1e-4)
    left = {info.dtype for info in cache_inventory.list_caches(home / "caches")}
    assert "top8" not in left
    sweep = Sweep(home, shared, top_k=8, max_bias=100)
    assert sweep.cached.source == "cache:top8"
    (told,) = sweep.notices
    assert told.startswith("the teacher's cache stores top8: the soft loss's gradient is off by")
    again = Sweep(home, shared, top_k=8, max_bias=100)
    assert (again.folder, again.notices) == (sweep.folder, sweep.notices)


def test_each_searched_precision_and_attention_has_a_cache(
    home: Path, shared: SharedInputs
) -> None:
    search = {
        "tau": {"float": [1, 2]},
        "precision": {"choice": ["float32", "bfloat16"]},
        "attention_implementation": {"choice": ["eager", "sdpa"]},
    }
    sweep = Sweep(home, shared, {"search": search, "controls": "none"}, mode="required")
    assert sweep.found is not None
    template = sweep.found.template(sweep.plan)
    seen = set()
    for values in itertools.product(["float32", "bfloat16"], ["eager", "sdpa"]):
        named = dict(zip(("precision", "attention_implementation"), values, strict=True))
        trial = sweep.found.trial(template, sweep.plan.spec.trial_config({"tau": 1.0} | named))
        assert trial.teacher_source == f"cache:{values[0]}"
        assert trial.paths.teacher_cache is not None
        built = cache_inventory.read_description(trial.paths.teacher_cache)
        assert (built["numerics"]["precision"], built["attention"]) == values
        seen.add(trial.paths.teacher_cache)
    assert len(seen) == 4


def test_a_build_works_beside_whoever_holds_the_machine(
    home: Path, shared: SharedInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr("service.driver.teacher_cache.PATIENCE", 2)
    holder = ray.util.placement_group([{"CPU": ray.cluster_resources()["CPU"]}])
    ray.get(holder.ready())
    try:
        sweep = Sweep(home, shared, folder=str(tmp_path), mode="required")
        assert cache_inventory.verify(sweep.folder) == []
    finally:
        ray.util.remove_placement_group(holder)


def test_a_cache_lies_where_the_spec_says(home: Path, shared: SharedInputs, tmp_path: Path) -> None:
    near = Sweep(home, shared, folder=str(tmp_path / "near"), dtype="bfloat16")
    assert near.folder.parent == tmp_path / "near"
    url = f"file://{tmp_path}/far"
    far = Sweep(home, shared, folder=url, dtype="bfloat16")
    assert far.cached.place == f"{url}/{near.folder.name}"
    assert cache_inventory.verify(far.cached.place) == []
    # what was put there needs no second copy here, and is found again
    assert not (home / "caches" / near.folder.name).exists()
    before = stamps(tmp_path / "far" / near.folder.name)
    assert Sweep(home, shared, folder=url, dtype="bfloat16").found == far.found
    assert stamps(tmp_path / "far" / near.folder.name) == before


def test_a_cache_above_the_limit_is_not_built(home: Path, shared: SharedInputs) -> None:
    limit: dict[str, Any] = {"max_gib": 1e-6, "dtype": "bfloat16"}
    sweep = Sweep(home, shared, **limit)
    assert sweep.found == shared
    (notice,) = sweep.notices
    assert notice.startswith("trials ask the teacher itself: the cache takes")
    with pytest.raises(PlanError, match=r"above teacher_cache.max_gib=1e-06. Use auto."):
        Sweep(home, shared, mode="required", **limit)


def test_a_build_that_fails_leaves_the_online_teacher_or_ends_the_sweep(
    home: Path, shared: SharedInputs, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(shared.prepared.teacher, teacher)
    (teacher / "model.safetensors").write_bytes(b"no weights")
    broken = replace(shared, prepared=shared.prepared.model_copy(update={"teacher": str(teacher)}))
    sweep = Sweep(home, broken)
    assert sweep.found == broken
    assert sweep.notices[0].startswith("trials ask the teacher itself: ")
    with pytest.raises(PlanError, match="^teacher cache: "):
        Sweep(home, broken, mode="required")
