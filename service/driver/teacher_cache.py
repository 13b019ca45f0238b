"""The teacher's cache inside a sweep: found, or built before slots take the machine, by Ray tasks
that ask for what a slot's worker asks for.

Several sweeps may share a cache and build it at the same time; builders, also of other sweeps, take
different shards, and whoever finishes the last one publishes it.
"""

import math
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from service.driver.preparing import end_tasks
from service.driver.shared_inputs import CachedAs, SharedInputs, gpus_of_teacher
from service.errors import PlanError
from service.events import DriverEvent, Notice, Preparing
from service.plan.bias import check_bias, conversion_text
from service.plan.estimates import as_trials_learn, tokens_per_trial
from service.plan.places import teacher_caches_folder
from service.plan.plan import SweepPlan
from service.plan.resources import free_bytes
from service.plan.teacher_choice import (
    ASKED_FOR,
    CacheCost,
    HiddenStates,
    TeacherChoice,
    cache_dtypes,
    choose_teacher,
    hidden_states,
)
from service.words import size
from trainers.files import store
from trainers.tasks import table
from trainers.teachers import cache as cache_folders
from trainers.teachers import cache_copy, cache_inventory
from trainers.teachers.cache import CachePlan, CacheRequest, DiskFull

POLL_S = 0.5
PATIENCE = 20  # polls until a build that found no free CPU starts all the same
# A builder that dies is started again; the shards that it made are kept.
BUILDER_RETRIES = 3
# A process starts in seconds: less than so much is not worth another one.
BYTES_PER_BUILDER = 64 << 20
STAGE = "teacher cache"


@dataclass(frozen=True)
class _Found:
    """A cache as it was found. place: its folder or URL, None until it is complete; missing: bytes
    still to be written; damaged: files whose content is not what was built, to be made anew;
    is_converted: whether the teacher is asked in a narrower dtype than that of its weights."""

    cache: CachePlan
    place: str | None
    missing: int = 0
    damaged: tuple[str, ...] = ()
    is_converted: bool = False


def cache_teacher(
    plan: SweepPlan,
    home: Path,
    shared: SharedInputs,
    *,
    on_event: Callable[[DriverEvent], None],
    stop: threading.Event,
) -> SharedInputs | None:
    """Returns `shared` with the source of the teacher's signal: the cache, built if there is none
    yet, or the online teacher, with a notice that says why; None when the sweep was stopped.
    Raises `PlanError` when a cache is required and cannot be."""
    mode = plan.spec.teacher_cache.mode
    try:
        dtypes = cache_dtypes(plan.spec, plan.gpus_per_worker, shared.prepared.teacher_dtype)
        choice = choose_teacher(plan.spec, dtypes, CacheCost())
        if choice.dtype is None:
            return _online(shared, choice, on_event)
        return _Building(plan, home, shared, on_event, stop).run()
    except ray.exceptions.RayError as error:
        reason = str(getattr(error, "cause", None) or error).strip()
        if mode == "required":
            raise PlanError(f"{STAGE}: {reason}") from error
        return _online(shared, TeacherChoice(reason=reason), on_event)


def _online(
    shared: SharedInputs, choice: TeacherChoice, on_event: Callable[[DriverEvent], None]
) -> SharedInputs:
    if choice.reason != ASKED_FOR:
        on_event(Notice(f"trials ask the teacher itself: {choice.reason}"))
    return shared


@dataclass(frozen=True)
class _Building:
    """One driver's way to the caches: one for each precision and attention that trials may have."""

    plan: SweepPlan
    home: Path
    shared: SharedInputs
    on_event: Callable[[DriverEvent], None]
    stop: threading.Event

    def run(self) -> SharedInputs | None:
        """See `cache_teacher`."""
        self.on_event(Preparing(STAGE, 0.0))
        found = {asked: self._look(asked) for asked in hidden_states(self.plan.spec)}
        caches: dict[str, _Found] = {}
        for each in found.values():  # settings that resolve to the same ones share a cache
            caches.setdefault(each.cache.key, each)
        dtypes = [each.cache.request.storage for each in caches.values()]
        choice = choose_teacher(self.plan.spec, dtypes, self._cost(list(caches.values())))
        if choice.dtype is None:
            return _online(self.shared, choice, self.on_event)
        for each in caches.values():
            self._tell_bias(each)
        places: dict[str, CachedAs] = {}
        for number, (key, each) in enumerate(caches.items(), start=1):
            place = self._place(each, STAGE if len(caches) == 1 else f"{STAGE} {number}")
            if place is None:
                return None
            places[key] = CachedAs(f"cache:{each.cache.request.storage}", place)
        total = sum(each.cache.bytes for each in caches.values())
        self.on_event(Preparing(f"{STAGE} of {size(total)}", 1.0))
        return replace(
            self.shared, caches={asked: places[each.cache.key] for asked, each in found.items()}
        )

    def _look(self, asked: HiddenStates) -> _Found:
        section = self.plan.spec.teacher_cache
        update = {
            "precision": asked.precision,
            "attention_implementation": asked.attention,
            "responses": asked.responses,
        }
        config = self.plan.spec.budget().model_copy(update=update)
        trial = self.shared.trial(self.shared.template(self.plan), config)
        task = table.task_named(config.task)
        request = replace(CacheRequest.of_trial(trial, task, section.storage), gpus=section.gpus)
        look = _light(_look).remote(
            request, teacher_caches_folder(self.plan.spec, self.home), section.url
        )
        found: _Found = ray.get(look)
        for name in found.damaged:
            self.on_event(Notice(f"{STAGE}: {name} is damaged and is made anew"))
        return found

    def _place(self, found: _Found, stage: str) -> str | None:
        """Returns where the cache is complete by now; None when the sweep was stopped."""
        if found.place is not None:
            return found.place
        if not self._build(found, stage):
            return None
        place: str = ray.get(_light(_put).remote(found.cache, self.plan.spec.teacher_cache.url))
        return place

    def _tell_bias(self, found: _Found) -> None:
        """Tells how far trials are off that read a cache that is not exact, and the teacher from
        the one that is stored. Raises `PlanError` where the former is more than the sweep allows:
        nothing but a sample was asked of the teacher."""
        request, vocab_size = found.cache.request, self.shared.prepared.vocab_size
        if found.place is not None:
            info = cache_inventory.show(found.place)
            measured = info.bias, info.conversion
        elif request.is_exact and not found.is_converted:
            return
        else:
            measure = ray.remote(max_retries=BUILDER_RETRIES)(_measure)
            options = {"num_cpus": 0, "num_gpus": gpus_of_teacher(self.plan)}
            measured = ray.get(measure.options(**options).remote(found.cache))
        bias, conversion = measured
        texts = (
            conversion_text(self.plan.spec, conversion, vocab_size),
            check_bias(self.plan.spec, request.storage, bias, vocab_size),
        )
        for text in filter(None, texts):
            self.on_event(Notice(text))

    def _cost(self, found: list[_Found]) -> CacheCost:
        prepared, estimate = self.shared.prepared, self.plan.estimate
        facts = self.plan.facts.model_copy(
            update={
                "num_train_tokens": prepared.num_train_tokens,
                "num_train_examples": prepared.num_train_examples,
            }
        )
        each = tokens_per_trial(self.plan.spec, as_trials_learn(self.plan.spec, facts))
        section = self.plan.spec.teacher_cache
        others = 0 if section.is_elsewhere else estimate.checkpoint_bytes or 0
        return CacheCost(
            bytes=sum(one.missing for one in found),
            disk_free=free_bytes(teacher_caches_folder(self.plan.spec, self.home)) - others,
            tokens_held=sum(shard.num_positions for one in found for shard in one.cache.shards),
            tokens_read=None if each is None else each * self.plan.num_trials,
        )

    def _builder(self, cache: CachePlan, *, cpus: float) -> Any:
        made = ray.remote(max_retries=BUILDER_RETRIES)(_build)
        return made.options(num_cpus=cpus, num_gpus=gpus_of_teacher(self.plan)).remote(cache)

    def _build(self, found: _Found, stage: str) -> bool:
        """Builds and publishes the cache; returns False when the sweep was stopped meanwhile.

        One builder that returns is enough: it does so once all shards are made, whoever made them.
        The others may still wait for a CPU."""
        cache, workers = found.cache, self.plan.slots * self.plan.workers_per_trial
        count = max(1, min(workers, math.ceil(found.missing / BYTES_PER_BUILDER)))
        builders = [self._builder(cache, cpus=self.plan.cpus_per_worker) for _ in range(count)]
        shown, polls = 0.0, 0
        try:
            while not (done := ray.wait(builders, timeout=POLL_S)[0]):
                shown, polls = self._show_progress(cache, stage, shown), polls + 1
                if self.stop.is_set():
                    end_tasks(builders)
                    return False
                if polls == PATIENCE and not cache_inventory.is_being_built(cache.root, cache.key):
                    # Other sweeps' slots hold the machine, perhaps for days: one works beside
                    # them.
                    builders.append(self._builder(cache, cpus=0))
            ray.get(done)
        except ray.exceptions.RayError as error:
            end_tasks(builders)
            if isinstance(getattr(error, "cause", None), DiskFull):
                # A builder that was ended may have written after the first one tidied up.
                shutil.rmtree(cache.building, ignore_errors=True)
            raise
        end_tasks(builders)
        return True

    def _show_progress(self, cache: CachePlan, stage: str, shown: float) -> float:
        """Returns the share that is built, after showing it if it has grown."""
        total = sum(shard.num_positions for shard in cache.shards)
        made = sum(shard.num_positions for shard in cache.shards if cache.is_built(shard))
        share = made / total if total else 1.0
        if share > shown:
            self.on_event(Preparing(stage, share))
        return share


def _light(function: Callable[..., Any]) -> Any:
    """Returns a Ray task that only hashes and copies, and so waits for nobody's CPU."""
    return ray.remote(max_retries=BUILDER_RETRIES)(function).options(num_cpus=0)


def _look(request: CacheRequest, root: Path, url: str | None) -> _Found:
    """Finds the cache; one that is damaged goes back to being built."""
    from trainers.teachers.cache_build import plan_cache

    plan = plan_cache(request, root)
    if url and cache_inventory.is_complete(f"{url.rstrip('/')}/{plan.key}"):
        return _Found(plan, f"{url.rstrip('/')}/{plan.key}")
    damaged: list[str] = []
    if plan.is_published:
        try:
            cache_folders.check(plan.folder)
            return _Found(plan, None if url else str(plan.folder))
        except ValueError:
            damaged = cache_folders.reopen(plan)
    made = sum(path.stat().st_size for path in plan.building.glob("*"))
    missing, is_converted = max(0, plan.bytes - made), request.full is not None
    return _Found(plan, None, missing, tuple(damaged), is_converted)


def _put(cache: CachePlan, url: str | None) -> str:
    """Returns where trials find the built cache: its folder, or a place below `url`, to which it is
    moved."""
    if not url:
        return str(cache.folder)
    place = f"{url.rstrip('/')}/{cache.key}"
    with store.locked(cache.lock):  # another sweep may have built it too, and be putting it there
        if not cache_inventory.is_complete(place):
            cache_copy.upload(cache.folder, url)
            cache_inventory.delete(cache.folder)
    return place


def _measure(cache: CachePlan) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """How far trials are off that read the cache, and the teacher from the one that is stored,
    before it is built."""
    from trainers.teachers.cache_build import measure_bias, measure_conversion, release

    try:
        conversion = measure_conversion(cache)  # first: it leaves the teacher that is asked loaded
        return measure_bias(cache), conversion
    finally:
        release()


def _build(cache: CachePlan) -> None:
    """One of the processes that build the cache together."""
    from trainers.teachers.cache_build import build, release

    try:
        if not cache.is_published:
            build(cache)
    finally:
        release()  # Ray keeps the process
