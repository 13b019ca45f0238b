"""The teacher's cache inside a sweep: found or built before slots take the machine, by Ray tasks of
the same shape as the slots' workers."""

import math
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.errors import PlanError
from service.estimates import tokens_per_trial
from service.events import DriverEvent, Notice, Preparing
from service.machine import free_bytes
from service.plan import SweepPlan
from service.shared_inputs import SharedInputs
from service.teacher_choice import (
    ASKED_FOR,
    CacheCost,
    TeacherChoice,
    cache_dtype,
    choose_teacher,
)
from service.words import size
from trainers.teachers.cache import CachePlan, CacheRequest, DiskFull

POLL_S = 0.5
CANCEL_S = 10.0
# A builder that dies is started again; the shards that it made are kept.
BUILDER_RETRIES = 3
# A process starts in seconds: less than so much is not worth another one.
BYTES_PER_BUILDER = 64 << 20
STAGE = "teacher cache"


@dataclass(frozen=True)
class _Found:
    """A cache as it lies there. place: its folder or URL, None until it is whole; missing: bytes
    still to be written; damaged: files of another content than was built, which are made anew."""

    cache: CachePlan
    place: str | None
    missing: int = 0
    damaged: tuple[str, ...] = ()


def cache_teacher(
    plan: SweepPlan,
    home: Path,
    shared: SharedInputs,
    *,
    on_event: Callable[[DriverEvent], None],
    stop: threading.Event,
) -> SharedInputs | None:
    """Returns `shared` with the source of the teacher's signal: the cache, built where it is not
    there yet, or the online teacher, with a notice that says why; None when the sweep was stopped.
    Raises `PlanError` when a cache is required and cannot be."""
    import ray

    mode = plan.spec.teacher_cache.mode
    try:
        choice = choose_teacher(
            plan.spec, cache_dtype(plan.spec, plan.gpus_per_worker), CacheCost()
        )
        if choice.dtype is None:
            return _online(shared, choice, on_event)
        return _Building(plan, home, shared, choice, on_event, stop).run()
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
    """One driver's way to the cache."""

    plan: SweepPlan
    home: Path
    shared: SharedInputs
    choice: TeacherChoice
    on_event: Callable[[DriverEvent], None]
    stop: threading.Event

    def run(self) -> SharedInputs | None:
        """See `cache_teacher`."""
        import ray

        self.on_event(Preparing(STAGE, 0.0))
        section = self.plan.spec.teacher_cache
        where = (section.root(self.home), section.url)
        found: _Found = ray.get(self._task(_look).remote(self._request(), *where))
        choice = choose_teacher(self.plan.spec, str(self.choice.dtype), self._cost(found))
        if choice.dtype is None:
            return _online(self.shared, choice, self.on_event)
        for name in found.damaged:
            self.on_event(Notice(f"{STAGE}: {name} is damaged and is made anew"))
        place = found.place
        if place is None:
            if not self._build(found):
                return None
            place = ray.get(self._task(_put).remote(found.cache, section.url))
        self.on_event(Preparing(f"{STAGE} of {size(found.cache.bytes)}", 1.0))
        return replace(self.shared, teacher_source=choice.source, teacher_cache=place)

    def _request(self) -> CacheRequest:
        """What serves the trial at any point: precision and attention are the same at all."""
        values = next(iter(self.plan.space().enumerate(1)))
        config = self.plan.trial_config(values)
        template = self.shared.template(self.plan)
        numerics = self.shared.numerics[config.precision]
        trial = template.model_copy(update={"config": config, "numerics": numerics})
        return CacheRequest.of_trial(trial, self.choice.dtype)

    def _cost(self, found: _Found) -> CacheCost:
        prepared, estimate = self.shared.prepared, self.plan.estimate
        facts = self.plan.facts.model_copy(
            update={
                "num_train_tokens": prepared.num_train_tokens,
                "num_train_examples": prepared.num_train_examples,
            }
        )
        each = tokens_per_trial(self.plan.spec, facts)
        section = self.plan.spec.teacher_cache
        others = 0 if section.is_elsewhere else estimate.checkpoint_bytes or 0
        return CacheCost(
            bytes=found.missing,
            disk_free=free_bytes(section.root(self.home)) - others,
            tokens_held=sum(shard.num_positions for shard in found.cache.shards),
            tokens_read=None if each is None else each * self.plan.num_trials,
        )

    def _task(self, function: Callable[..., Any], *, gpus: float = 0) -> Any:
        import ray

        made = ray.remote(max_retries=BUILDER_RETRIES)(function)
        return made.options(num_cpus=self.plan.cpus_per_worker, num_gpus=gpus)

    def _build(self, found: _Found) -> bool:
        """Builds and publishes the cache; returns False when the sweep was stopped meanwhile. One
        builder that is through is enough: then all shards are made, and the others end soon."""
        import ray

        cache, workers = found.cache, self.plan.slots * self.plan.workers_per_trial
        count = max(1, min(workers, math.ceil(found.missing / BYTES_PER_BUILDER)))
        task = self._task(_build, gpus=self.plan.gpus_per_worker)
        builders = [task.remote(cache) for _ in range(count)]
        told = 0.0
        try:
            while not (done := ray.wait(builders, timeout=POLL_S)[0]):
                told = self._tell(cache, told)
                if self.stop.is_set():
                    _end(builders)
                    return False
            ray.get(done)
        except ray.exceptions.RayError as error:
            _end(builders)
            if isinstance(getattr(error, "cause", None), DiskFull):
                # a builder that was ended may have written after the first one tidied up
                shutil.rmtree(cache.building, ignore_errors=True)
            raise
        return True

    def _tell(self, cache: CachePlan, told: float) -> float:
        total = sum(shard.num_positions for shard in cache.shards)
        made = sum(shard.num_positions for shard in cache.shards if cache.is_built(shard))
        share = made / total if total else 1.0
        if share > told:
            self.on_event(Preparing(STAGE, share))
        return share


def _end(builders: list[Any]) -> None:
    """Interrupts the builders that still run, and waits until they are gone. Not by force: where a
    task ends at that very moment, Ray ends the driver."""
    import ray

    for builder in ray.wait(builders, num_returns=len(builders), timeout=0)[1]:
        ray.cancel(builder)
    ray.wait(builders, num_returns=len(builders), timeout=CANCEL_S)


def _look(request: CacheRequest, root: Path, url: str | None) -> _Found:
    """Finds the cache and, where it is damaged, takes it back into building."""
    from trainers.teachers import cache, cache_shelf
    from trainers.teachers.cache_build import plan_cache

    plan = plan_cache(request, root)
    if url and cache_shelf.is_whole(f"{url.rstrip('/')}/{plan.key}"):
        return _Found(plan, f"{url.rstrip('/')}/{plan.key}")
    damaged: list[str] = []
    if plan.is_published:
        try:
            cache.check(plan.folder)
            return _Found(plan, None if url else str(plan.folder))
        except ValueError:
            damaged = cache.reopen(plan)
    made = sum(path.stat().st_size for path in plan.building.glob("*"))
    return _Found(plan, None, max(0, plan.bytes - made), tuple(damaged))


def _put(cache: CachePlan, url: str | None) -> str:
    """Where trials find the built cache: its folder, or below `url`, where it then is alone."""
    from trainers import store
    from trainers.teachers import cache_copy, cache_shelf

    if not url:
        return str(cache.folder)
    place = f"{url.rstrip('/')}/{cache.key}"
    with store.locked(cache.lock):  # another sweep may have built it along, and be putting it there
        if not cache_shelf.is_whole(place):
            cache_copy.upload(cache.folder, url)
            cache_shelf.delete(cache.folder)
    return place


def _build(cache: CachePlan) -> None:
    """One of the processes that build the cache together."""
    from trainers.teachers.cache_build import build, release

    try:
        if not cache.is_published:
            build(cache)
    finally:
        release()  # Ray keeps the process
