"""What decides a worker's memory beside its models, and how a user may change it. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision

WRITTEN_OUT = "eager"
MORE_WORKERS = (2, 4, 8)


@dataclass(frozen=True)
class Setting:
    """What decides the memory beside the models. config: of a trial; workers: that share its
    batch; slots: trials at once; gpus: of a worker; is_cached: the teacher's signal is read, else
    each worker has the teacher; is_sharded: workers have their parts of the student, else each has
    all of it."""

    config: TrialConfig
    workers: int
    slots: int
    gpus: float
    is_cached: bool
    is_sharded: bool

    @property
    def shares_teacher(self) -> bool:
        """Whether workers have their parts of a teacher that they ask: of one that writes with the
        student, or reads a soft prompt, each has all."""
        has_to_be_whole = self.config.teacher_mix or self.config.soft_prompt_tokens
        return self.is_sharded and not self.is_cached and not has_to_be_whole

    @property
    def is_half(self) -> bool:
        """Whether products are in bfloat16."""
        if self.config.precision == Precision.AUTO:
            return self.gpus > 0
        return self.config.precision == Precision.BFLOAT16

    @property
    def micro_batch(self) -> int:
        """The examples of a worker's largest micro-batch."""
        share = -(-self.config.batch_size // self.workers)
        return -(-share // self.config.gradient_accumulation)

    def has_pairs(self, *, drops: bool) -> bool:
        """Whether attention is written out: where it is asked for, and on a CPU with dropout, which
        has no other way."""
        is_asked = self.config.attention_implementation == WRITTEN_OUT
        return is_asked or (drops and not self.gpus)

    def having(self, update: Mapping[str, Any]) -> "Setting":
        """Returns the same with other fields of its trials."""
        return replace(self, config=self.config.model_copy(update=update))


Changes = Iterator[tuple[str, Setting]]


def _attention(setting: Setting) -> Changes:
    if setting.config.attention_implementation == WRITTEN_OUT:
        yield "sdpa", setting.having({"attention_implementation": "sdpa"})


def _checkpointing(setting: Setting) -> Changes:
    if not setting.config.gradient_checkpointing:
        yield "true", setting.having({"gradient_checkpointing": True})


def _accumulation(setting: Setting) -> Changes:
    parts = setting.config.gradient_accumulation
    while setting.having({"gradient_accumulation": parts}).micro_batch > 1:
        parts *= 2
        yield str(parts), setting.having({"gradient_accumulation": parts})


def _batch(setting: Setting) -> Changes:
    examples = setting.config.batch_size
    while examples > 1:
        examples //= 2
        yield str(examples), setting.having({"batch_size": examples})


def _sharding(setting: Setting) -> Changes:
    if setting.is_sharded:
        return
    if setting.workers > 1:
        yield "fsdp", replace(setting, is_sharded=True)
    elif setting.gpus >= 1:
        for workers in MORE_WORKERS:
            changed = replace(setting, is_sharded=True, workers=workers)
            yield f"fsdp, with workers_per_trial: {workers}", changed


def _workers(setting: Setting) -> Changes:
    # On a CPU they share what one had, and less than a GPU is for one worker.
    for count in MORE_WORKERS if setting.gpus >= 1 else ():
        workers = setting.workers * count
        yield str(workers), replace(setting, workers=workers)


def _slots(setting: Setting) -> Changes:
    if not setting.gpus:
        for slots in range(setting.slots - 1, 0, -1):
            yield str(slots), replace(setting, slots=slots)


def _cache(setting: Setting) -> Changes:
    asks_anew = setting.config.student_share or setting.config.soft_prompt_tokens
    if not (setting.is_cached or asks_anew):
        yield "required", replace(setting, is_cached=True)


# In the order in which they cost something: nothing, time, other results, machines.
CHANGES: dict[str, Callable[[Setting], Changes]] = {
    "training.attention_implementation": _attention,
    "teacher_cache.mode": _cache,
    "training.gradient_accumulation": _accumulation,
    "training.gradient_checkpointing": _checkpointing,
    "resources.sharding": _sharding,
    "resources.slots": _slots,
    "resources.workers_per_trial": _workers,
    "training.batch_size": _batch,
}
