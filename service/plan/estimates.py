"""What a sweep will take: tokens, time, hours of CPU and GPU, disk. Pure; it says how."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from service.plan.known_cache import KnownCache
from service.plan.own_text import TOKEN_S, OwnText, own_text
from service.plan.soft_prompt import SoftPromptCost, soft_prompt_cost
from service.plan.teacher_text import TeacherTextCost, teacher_text_cost
from service.plan.trials import control_trials
from service.plan.work import (
    FORWARD_FLOPS,
    STUDENT_FLOPS,
    fit_work,
    head_parameters,
    rate,
    share_passed,
    steps_of,
    student_work,
    teacher_work,
    trained_parameters,
)
from service.spec.document import SweepSpec
from trainers.tasks import table
from trainers.teachers.cache import bytes_of_position, k_of
from trainers.trial.budget import num_evaluations_of, num_learned_from
from trainers.trial.config import TrialConfig
from trainers.trial.facts import Facts
from trainers.trial.seen import Seen
from trainers.trial.sources import ROLES, FitConfig
from trainers.trial.strict import Strict
from trainers.trial.text_fields import Responses

BYTES_PER_WEIGHT = 4
# Of what is trained: weights and the two moments of Adam, for the last and the best checkpoint, and
# the saved student.
CHECKPOINT_COPIES = 7
TRIALS_OF_UNKNOWN_LENGTH = 40
# How far the truth may be off: a guess from rates, and one from an evaluation that was measured.
GUESSED, PREPARED = 4.0, 2.0
# Forward and backward pass of a step against the forward pass of an evaluation.
STEP_PASSES = 3
# From a sweep's start until its trials can begin, beside its preparing: processes and imports.
START_S = (10.0, 60.0)
# Of a start that was measured: a machine may be busier, or have its files at hand.
START_SPREAD = (0.5, 1.5)

Range = tuple[float, float]
UNKNOWN = "unknown until teacher and data were prepared once"
OF_LENGTH = {"steps", "epochs", "batch_size"}


class InputFacts(Facts):
    """What is known of teacher, student and data without spending anything; None: not yet."""

    trial_s: Annotated[
        float | None, Field(gt=0, description="mean seconds of a trial in an earlier such sweep")
    ] = None
    num_trials_measured: int | None = Field(default=None, description="that this is the mean of")
    trial_range_s: Range | None = Field(default=None, description="the fastest and the slowest")
    start_s: float | None = Field(default=None, description="until its trials could begin")
    caches: list[KnownCache] = Field(
        default=[],
        description="that are there of the teacher and the data",
        exclude_if=lambda caches: not caches,
    )


@dataclass(frozen=True)
class TrialTime:
    """Seconds of a complete trial, from `low` to `high`, and where they come from."""

    low: float
    expected: float
    high: float
    source: str


class Estimate(Strict):
    """About what a sweep takes where every trial uses its complete budget, and between what this
    may lie; None: not known yet. `basis` says where the time comes from."""

    tokens_per_trial: int | None = Field(default=None, description="response tokens trained on")
    tokens: int | None = Field(default=None, description="the same over all trials")
    tokens_range: tuple[int, int] | None = None
    duration_s: float | None = Field(default=None, description="of its trials and caches alone")
    duration_range_s: Range | None = Field(default=None, description="from start to end")
    cpu_hours: float | None = None
    gpu_hours: float | None = None
    checkpoint_bytes: int | None = None
    teacher_cache_bytes: int | None = None
    teacher_cache_s: float | None = Field(default=None, description="to build it, once")
    own_text: OwnText | None = Field(
        default=None, description="that students write", exclude_if=lambda text: text is None
    )
    teacher_text: TeacherTextCost | None = Field(
        default=None,
        description="that the teacher writes before the trials",
        exclude_if=lambda text: text is None,
    )
    soft_prompt: SoftPromptCost | None = Field(
        default=None,
        description="that teachers read",
        exclude_if=lambda prompt: prompt is None,
    )
    basis: str = UNKNOWN

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
    """Returns about what the sweep takes. cache_dtypes: those of the teacher's caches; none where
    trials ask the teacher itself."""
    # Fits learn from all of the data, trials perhaps from some of it.
    whole, facts = facts, as_trials_learn(spec, facts)
    tokens = tokens_per_trial(spec, facts)
    is_cached = bool(cache_dtypes)
    own = own_text(spec, facts, gpus_per_worker)
    prompt = soft_prompt_cost(spec, facts, gpus_per_worker, tokens_per_trial=tokens)
    # Where some students write, or teachers read a prompt, the teacher is asked.
    is_read = is_cached and own is None and prompt is None
    time = trial_time(spec, facts, gpus_per_worker, is_cached=is_read, own=own, prompt=prompt)
    trial_s = None if time is None else time.expected
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
    least = _least_trials(spec, facts, trials)
    before = _range_before_trials(spec, whole, gpus_per_worker, build_first_s)
    return Estimate(
        tokens_per_trial=tokens,
        tokens=None if tokens is None else tokens * trials,
        tokens_range=_tokens_range(spec, facts, (least, trials)),
        duration_s=duration,
        duration_range_s=None
        if time is None
        else _duration_range(spec, time, before, (least / slots, math.ceil(trials / slots))),
        cpu_hours=None if busy_hours is None else busy_hours * spec.resources.cpus_per_worker,
        gpu_hours=None if busy_hours is None else busy_hours * gpus_per_worker,
        checkpoint_bytes=_checkpoint_bytes(spec, facts, trials),
        teacher_cache_bytes=cache_bytes(facts, cache_dtypes) if is_cached else None,
        teacher_cache_s=build_s,
        own_text=own,
        teacher_text=teacher_text_cost(spec, whole, gpus_per_worker),
        soft_prompt=prompt,
        basis=UNKNOWN if time is None else time.source,
    )


def _checkpoint_bytes(spec: SweepSpec, facts: InputFacts, trials: int) -> int | None:
    """Returns about the bytes that so many trials leave, of searched adapters each the largest."""
    is_searched = bool({"adapter_kind", "adapter_rank"} & {*spec.varied_names()})
    configs = [*map(spec.trial_config, spec.points())] if is_searched else []
    if not is_searched or spec.controls != "none":
        configs.append(spec.budget())
    trained = [trained_parameters(spec, facts, config) for config in configs]
    known = [each for each in trained if each is not None]
    if len(known) < len(trained):
        return None
    return max(known) * BYTES_PER_WEIGHT * CHECKPOINT_COPIES * trials


def as_trials_learn(spec: SweepSpec, facts: InputFacts) -> InputFacts:
    """Returns the facts with the examples that trials learn from in place of all training data."""
    examples, tokens = facts.num_train_examples, facts.num_train_tokens
    if examples is None or tokens is None:
        return facts
    if spec.budget().responses == Responses.TEACHER:
        num_samples = 1 if spec.teacher_text is None else spec.teacher_text.samples_per_prompt
        examples, tokens = examples * num_samples, facts.num_teacher_tokens or tokens * num_samples
    learned = num_learned_from(spec.data, examples)
    update = {"num_train_examples": learned, "num_train_tokens": round(tokens * learned / examples)}
    return facts.model_copy(update=update)


def cache_bytes(facts: InputFacts, dtypes: Sequence[str]) -> int | None:
    """Returns about how large the teacher's caches are, or None when unknown: in each a row for
    each response token of both splits, and what makes logits of rows."""
    width, tokens, entries = facts.teacher_hidden_size, tokens_held(facts), facts.vocab_size or 0
    if not width or tokens is None:
        return None
    rows = [bytes_of_position(each, hidden_size=width, vocab_size=entries) for each in dtypes]
    heads = [entries * BYTES_PER_WEIGHT * (1 if k_of(each) else width) for each in dtypes]
    return tokens * sum(rows) + sum(heads)


def tokens_held(facts: InputFacts) -> int | None:
    """Returns about how many response tokens training and validation data have together."""
    if not facts.num_train_tokens or not facts.num_train_examples:
        return None
    validation = (facts.num_validation_examples or 0) / facts.num_train_examples
    return round(facts.num_train_tokens * (max(1, facts.num_views) + validation))


def tokens_per_trial(spec: SweepSpec, facts: InputFacts) -> int | None:
    """Returns the response tokens that a complete trial trains on, or None when unknown."""
    return _tokens_of(spec.budget(), facts)


def _tokens_of(budget: TrialConfig | FitConfig, facts: InputFacts) -> int | None:
    if not facts.num_train_tokens or not facts.num_train_examples:
        return None
    if budget.steps is None:
        return round((budget.epochs or 0) * facts.num_train_tokens)
    per_example = facts.num_train_tokens / facts.num_train_examples
    return round(budget.steps * budget.batch_size * per_example)


def _tokens_range(
    spec: SweepSpec, facts: InputFacts, trials: tuple[float, float]
) -> tuple[int, int] | None:
    """Returns the response tokens of so many complete trials; of searched lengths the shortest and
    the longest."""
    budgets = [spec.budget()]
    if OF_LENGTH & spec.search.domains.keys():
        budgets = [spec.trial_config(values) for values in spec.points()]
    found = [_tokens_of(budget, facts) for budget in budgets]
    known = [tokens for tokens in found if tokens is not None]
    return (round(min(known) * trials[0]), round(max(known) * trials[1])) if known else None


def _least_trials(spec: SweepSpec, facts: InputFacts, trials: int) -> float:
    """Returns how many complete trials those take together at the least: early stopping may end all
    but the controls at its first verdict."""
    num = num_evaluations_of(spec.budget(), facts.num_train_examples or 1)
    rungs = spec.early_stopping.rungs(num)
    share = rungs[0] / num if rungs else 1.0
    controls = len(control_trials(spec))
    return min(controls, trials) + share * max(0, trials - controls)


def _range_before_trials(
    spec: SweepSpec, facts: InputFacts, gpus_per_worker: float, build_s: float
) -> Range:
    """Returns the seconds from the sweep's start until its trials begin."""
    low, high = START_S
    if facts.start_s is not None:
        low, high = (facts.start_s * share for share in START_SPREAD)
    # Where the teacher's entropy is known, everything was prepared.
    is_prepared = facts.teacher_entropy_share is not None
    made = build_s + (0.0 if is_prepared else _fit_seconds(spec, facts, gpus_per_worker))
    text = teacher_text_cost(spec, facts, gpus_per_worker)
    made += 0.0 if text is None else text.write_s or 0.0
    return low + made / GUESSED, high + made * GUESSED


def _duration_range(
    spec: SweepSpec, time: TrialTime, before: Range, rounds: tuple[float, float]
) -> Range:
    """Returns the seconds from start to end. rounds: how many trials follow each other in a slot,
    at the least and at the most."""
    low, high = before[0] + rounds[0] * time.low, before[1] + rounds[1] * time.high
    if spec.time_budget_s is None:
        return low, high
    # The last trials start before the budget is spent, and go on to their ends.
    return min(low, spec.time_budget_s), min(high, spec.time_budget_s + before[1] + time.high)


def _seconds_of_small_things(spec: SweepSpec, num_examples: int) -> float:
    """Returns the seconds that steps and generated tokens take however small the models are.
    num_examples: of the training data."""
    task, budget = table.task_named(spec.task), spec.budget()
    num_evaluations = num_evaluations_of(budget, num_examples)
    num_sampled = task.num_sampled_tokens(budget, num_evaluations)
    return steps_of(budget, num_examples) * task.step_s + num_sampled * TOKEN_S


def _reachable(spec: SweepSpec, trials: int, slots: int, trial_s: float | None) -> int:
    """Returns how many of the trials can start: a time budget may end a sweep before them."""
    if spec.time_budget_s is None:
        return trials
    if trial_s is None:
        return min(trials, TRIALS_OF_UNKNOWN_LENGTH)
    rounds = spec.time_budget_s / trial_s
    return trials if rounds > trials else min(trials, slots * math.ceil(rounds))


def trial_time(
    spec: SweepSpec,
    facts: InputFacts,
    gpus_per_worker: float,
    *,
    is_cached: bool,
    own: OwnText | None = None,
    prompt: SoftPromptCost | None = None,
) -> TrialTime | None:
    """Returns what a complete trial takes: as earlier ones did, else by the evaluation of the
    student that preparing measured, else a guess; None where not even that is possible. is_cached:
    trials read the teacher from its cache; own: what their students write; prompt: what
    their teachers read."""
    if facts.trial_s is not None:
        low, high = facts.trial_range_s or (facts.trial_s / PREPARED, facts.trial_s * PREPARED)
        num = "those" if facts.num_trials_measured is None else f"{facts.num_trials_measured}"
        source = f"trials measured here, on {num} that an earlier sweep completed"
        return TrialTime(low, facts.trial_s, high, source)
    more_s = 0.0 if own is None else own.write_s
    more_s += 0.0 if prompt is None else prompt.train_s or 0.0
    seconds = _seconds_by_evaluation(spec, facts)
    if seconds is not None:
        source = (
            f"trials by an evaluation measured while preparing, within a factor of {PREPARED:g}"
        )
        return _spread(seconds + more_s, PREPARED, source)
    seconds = _guessed_seconds(spec, facts, gpus_per_worker, is_cached=is_cached)
    if seconds is None:
        return None
    kind = "60 TFLOP/s a GPU" if gpus_per_worker else "30 GFLOP/s a CPU"
    counted = table.task_named(spec.task).position_name
    size = "parameters" if facts.student_products is None else "operations"
    source = f"a guess from {size} × {counted} at {kind}, within a factor of {GUESSED:g}"
    return _spread(seconds + more_s, GUESSED, source)


def _spread(seconds: float, factor: float, source: str) -> TrialTime:
    return TrialTime(seconds / factor, seconds, seconds * factor, source)


def _seconds_by_evaluation(spec: SweepSpec, facts: InputFacts) -> float | None:
    """Returns the seconds of a trial whose evaluations take what preparing measured, and whose
    steps take as long for an example as that took forward, times what backward adds."""
    tokens = tokens_per_trial(spec, facts)
    known = (facts.evaluation_s, facts.forward_s, facts.num_validation_examples, tokens)
    if None in known or not facts.num_train_tokens or not facts.num_validation_examples:
        return None
    assert tokens is not None and facts.forward_s is not None and facts.evaluation_s is not None
    num_examples = facts.num_train_examples or 1
    examples = tokens * num_examples / facts.num_train_tokens
    passes = STEP_PASSES * Seen.by(spec.budget()).num_rows
    step_s = passes * facts.forward_s / facts.num_validation_examples
    evaluations = num_evaluations_of(spec.budget(), num_examples) * facts.evaluation_s
    return examples * step_s / spec.resources.workers_per_trial + evaluations


def _guessed_seconds(
    spec: SweepSpec, facts: InputFacts, gpus_per_worker: float, *, is_cached: bool
) -> float | None:
    tokens, student = tokens_per_trial(spec, facts), student_work(spec, facts)
    teacher = head_parameters(facts, "teacher") if is_cached else teacher_work(spec, facts)
    if tokens is None or student is None or teacher is None:
        return None
    examples = facts.num_train_examples or 1
    work = (STUDENT_FLOPS * student + FORWARD_FLOPS * teacher) * tokens * share_passed(spec)
    if share_passed(spec) == 1:
        passes = num_evaluations_of(spec.budget(), examples) * (facts.num_validation_examples or 0)
        work += FORWARD_FLOPS * student * passes
    per_s = rate(spec, gpus_per_worker) * spec.resources.workers_per_trial
    return work / per_s + _seconds_of_small_things(spec, examples)


def _fit_seconds(spec: SweepSpec, facts: InputFacts, gpus_per_worker: float) -> float:
    """Returns the seconds of the supervised fits, as far as they are known."""
    seconds = 0.0
    fits = {"teacher": spec.teacher.fit, "student": spec.student.fit}
    work_of = {"teacher": teacher_work, "student": student_work}
    for role in ROLES:
        fit = fits[role]
        tokens = None if fit is None else _tokens_of(fit, facts)
        parameters = work_of[role](spec, facts)
        if fit is not None and tokens is not None and parameters is not None:
            head = head_parameters(facts, role)
            work = STUDENT_FLOPS * tokens * fit_work(fit, parameters, head, share_passed(spec))
            steps = steps_of(fit, facts.num_train_examples or 1)
            small = steps * table.task_named(spec.task).step_s
            seconds += work / rate(spec, gpus_per_worker) + small
    return seconds


def _build_seconds(
    spec: SweepSpec, facts: InputFacts, slots: int, gpus_per_worker: float
) -> float | None:
    """Returns the seconds of one pass of the teacher over all data, on the workers of all slots."""
    teacher, tokens = teacher_work(spec, facts), tokens_held(facts)
    if teacher is None or tokens is None:
        return None
    workers = slots * spec.resources.workers_per_trial
    work = FORWARD_FLOPS * teacher * tokens * share_passed(spec)
    return work / (rate(spec, gpus_per_worker) * workers)
