"""Where trials get the teacher's signal from: its cache, or the teacher itself, and why. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from search_spaces.space import SearchSpace
from service.errors import PlanError
from service.plan.trials import control_trials
from service.spec.document import SweepSpec
from service.words import GIB, size
from trainers.tasks import table
from trainers.trial.config import TrialConfig, fields_in
from trainers.trial.fields import Precision
from trainers.trial.sources import responses_learned
from trainers.trial.strict import Strict
from trainers.trial.text_fields import Responses

# A disk that is filled to its end stops whoever else writes to it.
USABLE = 0.9
ASKED_FOR = "teacher_cache.mode is online"
TEXT_FIELDS = {*fields_in("text")}


@dataclass(frozen=True)
class HiddenStates:
    """What a trial decides of its teacher's hidden states; a cache serves one such triple."""

    precision: Precision
    attention: str | None
    responses: Responses = Responses.DATA

    @classmethod
    def of(cls, config: TrialConfig) -> "HiddenStates":
        """Returns what a trial with that `config` asks for."""
        return cls(config.precision, config.attention_implementation, config.responses)


class TeacherChoice(Strict):
    """source: online | cache:<dtype or top<k>>, or several with a plus between them; reason: why
    it is online, or, beside a cache, why some trials ask the teacher all the same."""

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


def choose_teacher(spec: SweepSpec, dtypes: Sequence[str], cost: CacheCost) -> TeacherChoice:
    """Returns the source of the teacher's signal in all trials of `spec`, whose caches have
    `dtypes`. Raises `PlanError` when a cache is required and cannot be."""
    mode = spec.teacher_cache.mode
    if mode == "online":
        return TeacherChoice(reason=ASKED_FOR)
    # A cache that must be there and cannot be stops the sweep here, before anything is spent; one
    # that is only preferred is left out, and the reason shown, or serves those trials that can read
    # one: no reason is the least of texts.
    why_not = _why_not_cached(spec)
    reason = (max if mode == "required" else min)(why_not) or _too_large(spec, cost)
    if reason and mode == "required":
        raise PlanError(f"teacher_cache.mode: required must be possible, but {reason}. Use auto.")
    if mode == "auto":
        reason = reason or _pays_nothing(cost)
    if reason:
        return TeacherChoice(reason=reason)
    source = "cache:" + "+".join(sorted(set(dtypes)))
    return TeacherChoice(source=source, reason=max(why_not))


def hidden_states(spec: SweepSpec) -> list[HiddenStates]:
    """Returns all that trials of `spec` may ask for."""
    space = spec.search
    names = ("precision", "attention_implementation")
    trials = [*(one.values for one in control_trials(spec)), *spec.points()]
    responses = sorted(responses_learned(spec.given(), trials))
    values = product(*(_possible(spec, space, name) for name in names), responses)
    return [HiddenStates(Precision(precision), *others) for precision, *others in values]


def cache_dtypes(spec: SweepSpec, gpus_per_worker: float, own: str | None) -> list[str]:
    """Returns what each cache of the sweep stores: what is asked for, or the dtype that the teacher
    computes in. own: that dtype where it is no trial's precision."""
    auto = Precision.BFLOAT16 if gpus_per_worker > 0 else Precision.FLOAT32

    def computed_in(asked: HiddenStates) -> str:
        return own or str(auto if asked.precision == Precision.AUTO else asked.precision)

    # Those that differ in nothing else share a cache, hence the set.
    found = {(computed_in(each), each.attention, each.responses) for each in hidden_states(spec)}
    return sorted(spec.teacher_cache.storage or dtype for dtype, *_ in found)


def _possible(spec: SweepSpec, space: SearchSpace, name: str) -> list[Any]:
    """Returns the field's values in all trials, with the default where a control or a branch
    without the field has it."""
    default = getattr(spec.budget(), name)
    if name not in space.domains:
        return [default]
    domain = space.domains[name]
    with_default = bool(domain.when) or spec.controls != "none"
    return list(dict.fromkeys([*domain.points(2), *([default] if with_default else [])]))


def _why_not_cached(spec: SweepSpec) -> list[str]:
    """Returns the reasons for which trials cannot read a cache; empty for those that can."""
    task = table.task_named(spec.task)
    if not TEXT_FIELDS & set(spec.varied_names()):
        return [task.why_not_cached(spec.budget())]
    return [task.why_not_cached(spec.trial_config(values)) for values in spec.points()]


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
