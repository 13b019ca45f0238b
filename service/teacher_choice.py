"""Where trials get the teacher's signal from: its cache, or the teacher itself, and why. Pure."""

from dataclasses import dataclass

from service.cautions import values_of
from service.errors import PlanError
from service.estimates import Frozen
from service.spec import SweepSpec
from service.words import size
from trainers.config import Precision

GIB = 1024**3
# A disk that is filled to its end stops whoever else writes to it.
USABLE = 0.9
ASKED_FOR = "teacher_cache.mode is online"
# A cache holds what the teacher computed at one value of each of these.
DECIDE_HIDDEN_STATES = ("precision", "attention_implementation")


class TeacherChoice(Frozen):
    """source: as in `trial.json`, online | cache:<dtype>; reason: why it is online."""

    source: str = "online"
    reason: str = ""

    @property
    def dtype(self) -> str | None:
        """What the cache stores; None for the online teacher."""
        return None if self.source == "online" else self.source.removeprefix("cache:")


@dataclass(frozen=True)
class CacheCost:
    """What a cache takes, and what it saves. bytes: still to be written; disk_free: bytes for it;
    tokens_held, tokens_read: response tokens in it, and those that all trials read. None: unknown.
    """

    bytes: int | None = None
    disk_free: int | None = None
    tokens_held: int | None = None
    tokens_read: int | None = None


def choose_teacher(spec: SweepSpec, dtype: str, cost: CacheCost) -> TeacherChoice:
    """Returns the source of the teacher's signal in all trials of `spec`. Raises `PlanError` when a
    cache is required and cannot be."""
    mode = spec.teacher_cache.mode
    if mode == "online":
        return TeacherChoice(reason=ASKED_FOR)
    reason = _searched(spec) or _too_large(spec, cost)
    if reason and mode == "required":
        raise PlanError(f"teacher_cache.mode: required must be possible, but {reason}. Use auto.")
    if mode == "auto":
        reason = reason or _pays_nothing(cost)
    return TeacherChoice(reason=reason) if reason else TeacherChoice(source=f"cache:{dtype}")


def cache_dtype(spec: SweepSpec, gpus_per_worker: float) -> str:
    """Returns the dtype of the cache: the one that is asked for, or the teacher's own."""
    precision = values_of(spec, spec.space(), "precision")[0]
    if precision == Precision.AUTO:
        precision = Precision.BFLOAT16 if gpus_per_worker > 0 else Precision.FLOAT32
    return spec.teacher_cache.dtype or str(precision)


def _searched(spec: SweepSpec) -> str:
    space = spec.space()
    for name in DECIDE_HIDDEN_STATES:
        # Under a condition, the other branches have the default.
        is_conditional = name in space.domains and bool(space.domains[name].when)
        if is_conditional or len(values_of(spec, space, name)) > 1:
            return f"{name} is searched, and each value has hidden states of its own"
    return ""


def _too_large(spec: SweepSpec, cost: CacheCost) -> str:
    if cost.bytes is None:
        return ""
    limit = spec.teacher_cache.max_gib
    if limit is not None and cost.bytes > limit * GIB:
        return f"the cache takes {size(cost.bytes)}, above teacher_cache.max_gib={limit:g}"
    if cost.disk_free is not None and cost.bytes > USABLE * cost.disk_free:
        spare = size(max(0, round(USABLE * cost.disk_free)))
        return f"the cache takes {size(cost.bytes)}, and the disk can spare {spare}"
    return ""


def _pays_nothing(cost: CacheCost) -> str:
    if cost.tokens_read is None or cost.tokens_held is None or not cost.bytes:
        return ""
    if cost.tokens_read >= cost.tokens_held:
        return ""
    return "all trials together read less of the data than building the cache would"
