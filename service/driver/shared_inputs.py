"""What all trials of a sweep share: made once, then named in each trial's file. Plain data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from service.own_code.sources import INSTALLED, KEPT
from service.plan.plan import SweepPlan
from service.plan.teacher_choice import HiddenStates
from service.record import tags
from trainers.tasks import table
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.sources import Prepared, PrepareRequest
from trainers.trial.text_fields import Responses
from trainers.trial.trial_file import TrialFile, TrialPaths

# Their versions are recorded with each trial: what may change its numbers.
LIBRARIES = ("torch", "transformers", "datasets", "tokenizers", "ray", "optuna", "mlflow")
Prepare = Callable[[PrepareRequest, Path, Callable[[str, float], None]], Prepared]


@dataclass(frozen=True)
class CachedAs:
    """A cache that trials read: source, as in `trial.json`; place: its folder or URL."""

    source: str
    place: str


@dataclass(frozen=True)
class SharedInputs:
    """The prepared folders, the numerics that each precision resolves to on the slots' machines,
    and the caches of the teacher's hidden states; where there is none, trials ask the teacher."""

    prepared: Prepared
    numerics: dict[Precision, dict[str, Any]]
    caches: Mapping[HiddenStates, CachedAs] = field(default_factory=dict)

    def trial(self, template: TrialFile, config: TrialConfig) -> TrialFile:
        """Returns `template` with `config` and what it decides: numerics, the text to learn from,
        and the source of the teacher's signal."""
        numerics, dtype = self.numerics[config.precision], self.prepared.teacher_dtype
        changed: dict[str, Any] = {"config": config, "numerics": numerics}
        changed["teacher_dtype"] = None if dtype == numerics.get("precision") else dtype
        places = {}
        if config.responses == Responses.TEACHER:
            text = self.prepared.teacher_text
            assert text is not None, "it is prepared where a trial may learn from it"
            places["data"] = text.data
            changed["fingerprints"] = template.fingerprints | {"data": text.fingerprint}
        asked = HiddenStates.of(config)
        if asked in self.caches and not table.task_named(config.task).why_not_cached(config):
            cached = self.caches[asked]
            places["teacher_cache"] = cached.place
            changed["teacher_source"] = cached.source
        paths = template.paths.model_copy(update=places)
        return template.model_copy(update=changed | {"paths": paths})

    def template(self, plan: SweepPlan, own_modules: str | None = None) -> TrialFile:
        """Returns what the files of all the sweep's trials have in common; own_modules: the folder
        of the plan's own modules."""
        prepared, known = self.prepared, plan.facts.fingerprints
        own = {name: known[name] for name in (KEPT, INSTALLED) if name in known}
        return TrialFile(
            sweep_id=plan.sweep_id,
            config=plan.spec.budget(),
            world_size=plan.workers_per_trial,
            sharding=plan.sharding,
            device=device(plan),
            trust_remote_code=plan.trust_remote_code,
            fingerprints=prepared.fingerprints | own,
            versions={name: version(name) for name in LIBRARIES},
            paths=TrialPaths(
                teacher=prepared.teacher,
                student=prepared.student,
                data=prepared.data,
                own_modules=own_modules,
            ),
        )


def own_scores(prepared: Prepared) -> dict[str, float]:
    """Returns the metrics of the sweep's run: what teacher and undistilled student score before any
    trial, and on how many examples."""
    found: dict[str, float] = {tags.VALIDATION_EXAMPLES: prepared.num_validation_examples}
    if prepared.scores is not None:
        found |= {tags.TEACHER + name: value for name, value in prepared.scores.teacher.items()}
        found |= {
            tags.UNDISTILLED + name: value for name, value in prepared.scores.undistilled.items()
        }
    return found


def device(plan: SweepPlan) -> str:
    """Returns what the plan's workers compute on: cuda | cpu."""
    return "cuda" if plan.gpus_per_worker > 0 else "cpu"


def gpus_of_teacher(plan: SweepPlan) -> float:
    """Returns the GPUs of a task that runs the teacher: a worker's, or those it is spread over."""
    several = plan.spec.teacher_cache.gpus
    return several if several > 1 else plan.gpus_per_worker


def prepare_inputs(
    request: PrepareRequest, home: Path, progress: Callable[[str, float], None]
) -> Prepared:
    """Returns what all trials share; made in the process that calls it."""
    from trainers.preparing.prepare import prepare

    return prepare(request, home, progress)
