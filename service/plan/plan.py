"""SweepPlan: a spec resolved against what is there, hashed and costed. Pure: it spends nothing."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from service.plan.bias import known_errors
from service.plan.cautions import cautions
from service.plan.estimates import (
    Estimate,
    InputFacts,
    as_trials_learn,
    cache_bytes,
    estimate_sweep,
    tokens_held,
)
from service.plan.memory import Memory, explain, plan_memory
from service.plan.resources import Resources, check_builder, check_disk, count_slots
from service.plan.study import StudyPlan, make_study
from service.plan.teacher_choice import CacheCost, TeacherChoice, cache_dtypes, choose_teacher
from service.plan.trials import NO_TRIAL_LIMIT, ControlTrial, control_trials, count_trials
from service.spec.document import SweepSpec
from service.states import Role
from trainers.trial.kinds import RelativeName, SweepId
from trainers.trial.sharding import Sharding
from trainers.trial.sources import CODE_ROLES
from trainers.trial.strict import Strict
from trainers.trial.trial_file import Trust

FORMAT_VERSION = 1


class SweepPlan(Strict):
    """What will run. `sweep_id` hashes the spec, the code, the inputs and the format; the machine's
    facts and the estimates stand beside it and do not enter."""

    format_version: Literal[1] = 1
    sweep_id: SweepId
    spec: SweepSpec
    code_version: str
    controls: tuple[ControlTrial, ...]
    num_trials: int = Field(description="with the controls")
    slots: int = Field(description="trials at once")
    workers_per_trial: int
    sharding: Sharding = Sharding.DDP
    cpus_per_worker: float
    gpus_per_worker: float
    isolation: Literal["slot", "strict"]
    teacher: TeacherChoice = Field(description="as far as is known before the data is prepared")
    teacher_errors: tuple[str, ...] = Field(
        default=(),
        description="how far trials are off what the teacher says, as measured for caches that are "
        "there already",
        exclude_if=lambda errors: not errors,
    )
    time_budget_s: float | None = None
    cluster: Resources
    facts: InputFacts
    estimate: Estimate
    memory: Memory | None = Field(default=None, description="of each worker, as far as it is known")
    warnings: tuple[str, ...] = ()
    own_modules: dict[RelativeName, str] = Field(
        default_factory=dict, description="sources of the user's own modules by relative path"
    )

    warm_start: str | None = Field(
        default=None, description="id of an earlier sweep whose trials the sampler starts with"
    )
    study: StudyPlan | None = Field(default=None, description="of kind: study, what is trained")
    confirms: str | None = Field(
        default=None, description="id of the sweep whose best configs a study trains again"
    )

    @property
    def is_open_ended(self) -> bool:
        """Whether the time budget alone ends the sweep: `num_trials` is not reached."""
        return (
            self.time_budget_s is not None
            and self.spec.trials is None
            and self.num_trials - len(self.controls) >= NO_TRIAL_LIMIT
        )

    def is_tuning(self, values: Mapping[str, Any]) -> bool:
        """Returns whether a trial with these hyperparameters only chooses the learning rate of a
        study's cell, and is compared with none."""
        return self.study is not None and self.study.role_of(values) is Role.TUNING

    @property
    def trust_remote_code(self) -> Trust:
        """Whether code that the models bring along may run, or whose."""
        request = self.spec.prepare_request()
        trusted = tuple(role for role in CODE_ROLES if request.trusts(role))
        # all or none in one word, which is also what images of earlier versions read
        return bool(trusted) if len(trusted) in (0, len(CODE_ROLES)) else trusted


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

    Raises `PlanError` when this machine can never run it: too few CPUs or GPUs, too little disk or
    memory, or no way to a teacher cache that is required.
    """
    study, told = make_study(spec) if spec.is_study else (None, ())
    controls = control_trials(spec) if study is None else ()
    trials = study.num_trials if study else count_trials(spec) + len(controls)
    asked = spec.resources
    gpus = asked.gpus_per_worker
    gpus = float(cluster.num_gpus > 0) if gpus is None else gpus
    slots = count_slots(spec, cluster, gpus_per_worker=gpus, trials=trials)
    check_builder(spec, cluster)
    teacher, estimate = _choose(spec, facts, cluster, slots=slots, trials=trials, gpus=gpus)
    check_disk(estimate, cluster, cache_is_elsewhere=spec.teacher_cache.is_elsewhere)
    memory = plan_memory(spec, facts, cluster, slots=slots, gpus=gpus, teacher=teacher)
    tight = () if memory is None or memory.fits else (f"resources: {explain(memory)}",)
    return SweepPlan(
        sweep_id=sweep_id(spec, code_version=code_version, fingerprints=facts.fingerprints),
        spec=spec,
        code_version=code_version,
        controls=controls,
        num_trials=trials,
        slots=slots,
        workers_per_trial=asked.workers_per_trial,
        sharding=asked.sharding,
        cpus_per_worker=asked.cpus_per_worker,
        gpus_per_worker=gpus,
        isolation=asked.isolation,
        teacher=teacher,
        teacher_errors=known_errors(spec, facts, (teacher.dtype or "").split("+")),
        time_budget_s=spec.time_budget_s,
        cluster=cluster,
        facts=facts,
        estimate=estimate,
        memory=memory,
        warnings=(*told, *tight, *cautions(spec, facts)),
        own_modules=dict(own_modules or {}),
        study=study,
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
    """Returns where the teacher's signal comes from, and what the sweep takes with it."""

    def estimate(dtypes: Sequence[str]) -> Estimate:
        return estimate_sweep(
            spec, facts, trials=trials, slots=slots, gpus_per_worker=gpus, cache_dtypes=dtypes
        )

    # The choice needs what a sweep without a cache takes: its checkpoints share the disk, and its
    # trials read the tokens that a cache would save.
    dtypes, online = cache_dtypes(spec, gpus, facts.teacher_dtype), estimate([])
    learned = as_trials_learn(spec, facts)
    held = tokens_held(learned)
    # How much another disk can spare is not known here; the sweep finds out when it builds.
    free = None if spec.teacher_cache.is_elsewhere else cluster.disk_free
    cost = CacheCost(
        bytes=cache_bytes(learned, dtypes),
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
    if spec.resources.sharding != Sharding.DDP:  # of all before there was a choice, no part of it
        content["sharding"] = spec.resources.sharding
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{spec.name}-{digest[:8]}"


def _without_places(spec: SweepSpec, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Returns the document without what only says where something is stored or recorded, what it
    runs on, who is told, or what chosen trials are reported on. Where the content of an input has a
    fingerprint, its name goes too, so that the same data in another folder makes the same sweep."""
    left_out = {"tracking", "storage", "resources", "notify"}
    document = spec.model_dump(mode="json", exclude=left_out)
    document["data"].pop("test", None)
    for place in ("folder", "gpus"):
        del document["teacher_cache"][place]
    for role in ("teacher", "student"):
        if role in fingerprints:
            document[role].pop("model")
    if "text" in fingerprints:
        del document["data"]["train"], document["data"]["validation"]
    return document
