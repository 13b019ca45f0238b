"""SweepPlan: a spec resolved against what is there, hashed and costed. Pure: it spends nothing."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from search_spaces.domains import Fixed
from search_spaces.samples import samples
from service.errors import PlanError
from service.plan.cautions import RHOS, cautions, rho_in_words
from service.plan.estimates import (
    Estimate,
    Frozen,
    InputFacts,
    cache_bytes,
    estimate_sweep,
    tokens_held,
)
from service.plan.resources import Resources
from service.plan.teacher_choice import CacheCost, TeacherChoice, cache_dtypes, choose_teacher
from service.plan.trials import ControlTrial, control_trials, count_trials
from service.spec.document import SweepSpec
from trainers.trial.catalogue import Policy

FORMAT_VERSION = 1
GIB = 1024**3


class SweepPlan(Frozen):
    """What will run. `sweep_id` hashes the spec, the code, the inputs and the format; the machine's
    facts and the estimates stand beside it and do not enter."""

    format_version: Literal[1] = 1
    sweep_id: str
    spec: SweepSpec
    code_version: str
    controls: tuple[ControlTrial, ...]
    num_trials: int = Field(description="with the controls")
    slots: int = Field(description="trials at once")
    workers_per_trial: int
    cpus_per_worker: float
    gpus_per_worker: float
    isolation: Literal["slot", "strict"]
    teacher: TeacherChoice = Field(description="as far as is known before the data is prepared")
    time_budget_s: float | None = None
    cluster: Resources
    facts: InputFacts
    estimate: Estimate
    warnings: tuple[str, ...] = ()
    own_modules: dict[str, str] = Field(
        default_factory=dict, description="sources of the user's own modules by relative path"
    )

    @property
    def trust_remote_code(self) -> bool:
        """Whether code that the models bring along may run."""
        return self.spec.teacher.trust_remote_code or self.spec.student.trust_remote_code

    def search_rows(self) -> list[dict[str, str]]:
        """Returns one row a hyperparameter: `name`, `domain` and `condition` in words; and one of a
        rho that is not searched."""
        space, given, vocab_size = self.spec.search, self.spec.given(), self.facts.vocab_size
        rows = space.explain()
        for row in rows:
            row["domain"] += rho_in_words(row["name"], space.domains[row["name"]], vocab_size)
        for name in RHOS:
            if name in given:
                words = rho_in_words(name, Fixed(fixed=given[name]), vocab_size)
                domain = f"given: {given[name]}{words}"
                rows.append({"name": name, "domain": domain, "condition": ""})
        return rows + self._default_rho()

    def _default_rho(self) -> list[dict[str, str]]:
        """The row of the rho that CIST has where the sweep says none."""
        name, spec = "rho_per_log_vocab", self.spec
        points = [
            point for point in samples(spec.search) if not RHOS.keys() & {*point, *spec.given()}
        ]
        found = [one for one in map(spec.trial_config, points) if one.policy == Policy.CIST]
        if not found:
            return []
        default = found[0].rho_per_log_vocab or 1.0
        words = rho_in_words(name, Fixed(fixed=default), self.facts.vocab_size)
        condition = "policy is cist" if "policy" in spec.search.domains else ""
        return [{"name": name, "domain": f"default: {default}{words}", "condition": condition}]


def make_plan(
    spec: SweepSpec,
    facts: InputFacts,
    cluster: Resources,
    *,
    code_version: str,
    own_modules: Mapping[str, str] | None = None,
) -> SweepPlan:
    """Returns the plan of `spec` for what `facts` (inputs) and `cluster` (machine) say;
    own_modules: the sources that travel with it, whose hash is among the facts' fingerprints.

    Raises `PlanError` when this machine can never run it: too few CPUs or GPUs, too little disk, or
    no way to a teacher cache that is required.
    """
    controls = control_trials(spec)
    trials = count_trials(spec) + len(controls)
    asked = spec.resources
    gpus = asked.gpus_per_worker
    gpus = float(cluster.num_gpus > 0) if gpus is None else gpus
    slots = count_slots(spec, cluster, gpus_per_worker=gpus, trials=trials)
    _check_builder(spec, cluster)
    teacher, estimate = _choose(spec, facts, cluster, slots=slots, trials=trials, gpus=gpus)
    _check_disk(estimate, cluster, cache_is_elsewhere=spec.teacher_cache.is_elsewhere)
    return SweepPlan(
        sweep_id=sweep_id(spec, code_version=code_version, fingerprints=facts.fingerprints),
        spec=spec,
        code_version=code_version,
        controls=controls,
        num_trials=trials,
        slots=slots,
        workers_per_trial=asked.workers_per_trial,
        cpus_per_worker=asked.cpus_per_worker,
        gpus_per_worker=gpus,
        isolation=asked.isolation,
        teacher=teacher,
        time_budget_s=spec.time_budget_s,
        cluster=cluster,
        facts=facts,
        estimate=estimate,
        warnings=tuple(cautions(spec, facts)),
        own_modules=dict(own_modules or {}),
    )


def _choose(
    spec: SweepSpec,
    facts: InputFacts,
    cluster: Resources,
    *,
    slots: int,
    trials: int,
    gpus: float,
) -> tuple[TeacherChoice, Estimate]:
    """Where the teacher's signal comes from, and what the sweep takes with it."""

    def estimate(dtypes: Sequence[str]) -> Estimate:
        return estimate_sweep(
            spec, facts, trials=trials, slots=slots, gpus_per_worker=gpus, cache_dtypes=dtypes
        )

    dtypes, online = cache_dtypes(spec, gpus), estimate([])
    held = tokens_held(facts)
    # Of a disk elsewhere, the sweep itself sees what it can spare.
    free = None if spec.teacher_cache.is_elsewhere else cluster.disk_free
    cost = CacheCost(
        bytes=cache_bytes(facts, dtypes),
        disk_free=None if free is None else free - (online.checkpoint_bytes or 0),
        tokens_held=None if held is None else held * len(dtypes),
        tokens_read=online.tokens,
    )
    chosen = choose_teacher(spec, dtypes, cost)
    return chosen, online if chosen.dtype is None else estimate(dtypes)


def sweep_id(spec: SweepSpec, *, code_version: str, fingerprints: Mapping[str, str]) -> str:
    """Returns `name-xxxxxxxx`: eight hexadecimal digits over all that decides the outcome."""
    content = {
        "format": FORMAT_VERSION,
        "spec": _without_places(spec, fingerprints),
        "workers_per_trial": spec.resources.workers_per_trial,
        "code": code_version,
        "inputs": dict(fingerprints),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{spec.name}-{digest[:8]}"


def _without_places(spec: SweepSpec, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """What a fingerprint says of an input's content, the place where it lies need not say."""
    left_out = {"tracking", "storage", "resources"}
    document = spec.model_dump(mode="json", exclude=left_out)
    for place in ("folder", "gpus"):
        del document["teacher_cache"][place]
    for role in ("teacher", "student"):
        if role in fingerprints:
            document[role].pop("model")
    if "text" in fingerprints:
        del document["data"]["train"], document["data"]["validation"]
    return document


def count_slots(spec: SweepSpec, cluster: Resources, *, gpus_per_worker: float, trials: int) -> int:
    """Returns how many trials run at once. Raises `PlanError` when the machine never holds them."""
    asked = spec.resources
    workers = asked.workers_per_trial
    needs = (
        ("cpus", workers * asked.cpus_per_worker, cluster.num_cpus),
        ("gpus", workers * gpus_per_worker, cluster.num_gpus),
    )
    fitting = min(int(have // need) for _, need, have in needs if need > 0)
    slots = min(asked.slots or max(1, fitting), trials)
    for kind, need, have in needs:
        if slots * need > have:
            raise PlanError(
                f"resources: slots x workers_per_trial x {kind}_per_worker <= {have:g} (this "
                f"machine's) must hold, but got {slots} x {workers} x {need / workers:g} = "
                f"{slots * need:g}. Lower one of them, or run on a larger machine."
            )
    return slots


def _check_builder(spec: SweepSpec, cluster: Resources) -> None:
    needed = spec.teacher_cache.gpus
    if needed > max(1, cluster.num_gpus):
        raise PlanError(
            f"teacher_cache.gpus: it must be at most the {cluster.num_gpus:g} GPUs that are here, "
            f"but got {needed}. Lower it, or run on a larger machine."
        )


def _check_disk(estimate: Estimate, cluster: Resources, *, cache_is_elsewhere: bool) -> None:
    needed = estimate.disk_bytes
    if cache_is_elsewhere:
        needed -= estimate.teacher_cache_bytes or 0
    if cluster.disk_free is not None and needed > cluster.disk_free:
        raise PlanError(
            f"storage.path: the free disk must hold checkpoints and teacher cache, about "
            f"{needed / GIB:.1f} GiB, but got {cluster.disk_free / GIB:.1f} GiB free. "
            "Free some, name another storage.path, or lower trials."
        )
