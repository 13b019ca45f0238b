"""What a sweep will take: tokens, time, hours of CPU and GPU, disk. Pure; it says how."""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from service.spec.document import SweepSpec
from trainers.tasks import table
from trainers.teachers.cache import BYTES
from trainers.trial.budget import num_evaluations_of
from trainers.trial.facts import Facts
from trainers.trial.sources import ModelSource
from trainers.trial.strict import Strict

# Rates seen on ordinary machines: a first guess, until a sweep has been measured.
FLOPS_PER_CPU = 30e9
FLOPS_PER_GPU = 60e12
# Each weight's forward and backward pass takes 6 operations a token, a forward pass alone 2.
STUDENT_FLOPS = 6
TEACHER_FLOPS = 2
BYTES_PER_WEIGHT = 4
# Weights and the two moments of Adam, for the last and the best checkpoint, and the saved student.
CHECKPOINT_COPIES = 7
TRIALS_OF_UNKNOWN_LENGTH = 40
STEP_S = 0.02
TOKEN_S = 0.01


class InputFacts(Facts):
    """What is known of teacher, student and data without spending anything; None: not yet."""

    trial_s: Annotated[
        float | None, Field(gt=0, description="mean seconds of a trial in an earlier such sweep")
    ] = None


class Estimate(Strict):
    """About what a sweep takes; None: not known yet. `basis` says where the time comes from."""

    tokens_per_trial: int | None = Field(default=None, description="response tokens trained on")
    tokens: int | None = Field(default=None, description="the same over all trials")
    duration_s: float | None = None
    cpu_hours: float | None = None
    gpu_hours: float | None = None
    checkpoint_bytes: int | None = None
    teacher_cache_bytes: int | None = None
    teacher_cache_s: float | None = Field(default=None, description="to build it, once")
    basis: str = "unknown until teacher and data were prepared once"

    @property
    def disk_bytes(self) -> int:
        """What is known of the disk that the sweep fills, in bytes."""
        return (self.checkpoint_bytes or 0) + (self.teacher_cache_bytes or 0)


def estimate_sweep(
    spec: SweepSpec,
    facts: InputFacts,
    *,
    trials: int,
    slots: int,
    gpus_per_worker: float,
    cache_dtypes: Sequence[str] = (),
) -> Estimate:
    """Returns about what the sweep takes when every trial uses its complete budget. cache_dtypes:
    those of the teacher's caches; none where trials ask the teacher itself."""
    tokens = tokens_per_trial(spec, facts)
    is_cached = bool(cache_dtypes)
    trial_s, basis = _trial_seconds(spec, facts, tokens, gpus_per_worker, is_cached=is_cached)
    trials = _reachable(spec, trials, slots, trial_s)
    build_s = _build_seconds(spec, facts, slots, gpus_per_worker) if is_cached else None
    build_s = None if build_s is None else build_s * len(cache_dtypes)
    # Where trials were measured, the cache that they read is there.
    build_first_s = 0.0 if facts.trial_s is not None else build_s or 0.0
    workers = spec.resources.workers_per_trial
    duration = busy_hours = None
    if trial_s is not None:
        duration = trials * trial_s / slots + build_first_s
        busy_hours = (trials * trial_s + slots * build_first_s) * workers / 3600
    student = _student_parameters(spec, facts)
    return Estimate(
        tokens_per_trial=tokens,
        tokens=None if tokens is None else tokens * trials,
        duration_s=duration,
        cpu_hours=None if busy_hours is None else busy_hours * spec.resources.cpus_per_worker,
        gpu_hours=None if busy_hours is None else busy_hours * gpus_per_worker,
        checkpoint_bytes=(
            None if student is None else student * BYTES_PER_WEIGHT * CHECKPOINT_COPIES * trials
        ),
        teacher_cache_bytes=cache_bytes(facts, cache_dtypes) if is_cached else None,
        teacher_cache_s=build_s,
        basis=basis,
    )


def cache_bytes(facts: InputFacts, dtypes: Sequence[str]) -> int | None:
    """Returns about how large the teacher's caches are, or None when unknown: in each a hidden
    state for each response token of both splits, and the output matrix."""
    width, tokens = facts.teacher_hidden_size, tokens_held(facts)
    if not width or tokens is None:
        return None
    head = (facts.vocab_size or 0) * BYTES_PER_WEIGHT
    return sum(width * (tokens * BYTES[dtype] + head) for dtype in dtypes)


def tokens_held(facts: InputFacts) -> int | None:
    """Returns about how many response tokens training and validation data have together."""
    if not facts.num_train_tokens or not facts.num_train_examples:
        return None
    validation = (facts.num_validation_examples or 0) / facts.num_train_examples
    return round(facts.num_train_tokens * (max(1, facts.num_views) + validation))


def tokens_per_trial(spec: SweepSpec, facts: InputFacts) -> int | None:
    """Returns the response tokens that a complete trial trains on, or None when unknown."""
    if not facts.num_train_tokens or not facts.num_train_examples:
        return None
    budget = spec.budget()
    if budget.steps is None:
        return round((budget.epochs or 0) * facts.num_train_tokens)
    per_example = facts.num_train_tokens / facts.num_train_examples
    return round(budget.steps * budget.batch_size * per_example)


def _seconds_of_small_things(spec: SweepSpec, num_examples: int) -> float:
    """Returns the seconds that steps and generated tokens take however small the models are.
    num_examples: of the training data."""
    budget = spec.budget()
    num_evaluations = num_evaluations_of(budget, num_examples)
    num_sampled = table.task_named(spec.task).num_sampled_tokens(budget, num_evaluations)
    return (budget.steps or 0) * STEP_S + num_sampled * TOKEN_S


def _reachable(spec: SweepSpec, trials: int, slots: int, trial_s: float | None) -> int:
    """Returns how many of the trials can start: a time budget may end a sweep before them."""
    if spec.time_budget_s is None:
        return trials
    if trial_s is None:
        return min(trials, TRIALS_OF_UNKNOWN_LENGTH)
    rounds = spec.time_budget_s / trial_s
    return trials if rounds > trials else min(trials, slots * math.ceil(rounds))


def _trial_seconds(
    spec: SweepSpec,
    facts: InputFacts,
    tokens: int | None,
    gpus_per_worker: float,
    *,
    is_cached: bool,
) -> tuple[float | None, str]:
    if facts.trial_s is not None:
        return facts.trial_s, "mean of the trials of an earlier sweep of these inputs"
    student = _student_parameters(spec, facts)
    teacher = _head_parameters(facts) if is_cached else _teacher_parameters(spec, facts)
    if tokens is None or student is None or teacher is None:
        return None, Estimate().basis
    work = (STUDENT_FLOPS * student + TEACHER_FLOPS * teacher) * tokens
    rate = _rate(spec, gpus_per_worker) * spec.resources.workers_per_trial
    # Prompts pass through both models too and evaluation comes on top: about as much again.
    seconds = 2 * work / rate + _seconds_of_small_things(spec, facts.num_train_examples or 1)
    kind = "60 TFLOP/s a GPU" if gpus_per_worker else "30 GFLOP/s a CPU"
    return seconds, f"a guess from the models' sizes at {kind}; after one sweep it is measured"


def _build_seconds(
    spec: SweepSpec, facts: InputFacts, slots: int, gpus_per_worker: float
) -> float | None:
    """Returns the seconds of one pass of the teacher over all data, on the workers of all slots."""
    teacher, tokens = _teacher_parameters(spec, facts), tokens_held(facts)
    if teacher is None or tokens is None:
        return None
    workers = slots * spec.resources.workers_per_trial
    # Prompts pass through the teacher too: about as much again.
    return 2 * TEACHER_FLOPS * teacher * tokens / (_rate(spec, gpus_per_worker) * workers)


def _student_parameters(spec: SweepSpec, facts: InputFacts) -> int | None:
    return facts.student_parameters or _guess_parameters(spec.student, spec, facts)


def _teacher_parameters(spec: SweepSpec, facts: InputFacts) -> int | None:
    return facts.teacher_parameters or _guess_parameters(spec.teacher, spec, facts)


def _guess_parameters(source: ModelSource, spec: SweepSpec, facts: InputFacts) -> int | None:
    task = table.task_named(spec.task)
    return task.guess_parameters(source.config or {}, facts.vocab_size)


def _head_parameters(facts: InputFacts) -> int | None:
    """Returns the size of the output matrix: all that is left to multiply with once the teacher's
    hidden states are cached."""
    width, rows = facts.teacher_hidden_size, facts.vocab_size
    return None if width is None or rows is None else width * rows


def _rate(spec: SweepSpec, gpus_per_worker: float) -> float:
    """Returns the operations a second of one worker."""
    return FLOPS_PER_GPU if gpus_per_worker else FLOPS_PER_CPU * spec.resources.cpus_per_worker
