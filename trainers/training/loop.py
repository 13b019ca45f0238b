"""The training loop of one trial. Teacher, reporter and checkpoints are arguments; Ray and MLflow
are not known."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainers.batch_source import BatchSource, Step
from trainers.parts import Batch, SignalMaker, unevenly
from trainers.training.checkpoints import Checkpoints, Like, random_state, restore_random_state
from trainers.training.diagnostics import Diagnostics
from trainers.training.optimizer import learning_rate, make_optimizer
from trainers.training.soft_prompt import PromptTraining
from trainers.training.student import StudentWithLoss
from trainers.training.wrapping import Wrapped
from trainers.trial.budget import evaluation_steps
from trainers.trial.config import TrialConfig
from trainers.trial.diagnosis import logit_scale_warning
from trainers.trial.reporting import Evaluation, Leave, Outcome, Reporter
from trainers.world import World


@dataclass
class Progress:
    """How far a trial has come: what a checkpoint keeps beside weights, optimiser and random
    state. A field that is added needs a default: checkpoints written before do not have it."""

    step: int = 0
    evaluation: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    train_s: float = 0.0
    wait_s: float = 0.0
    write_s: float = 0.0
    tokens: int = 0
    scale_notice_given: bool = False
    looks: list[dict[str, Any]] = field(default_factory=list)  # of the diagnostics


@dataclass(frozen=True)
class Loop:
    """Everything a trial trains with. `wrapped` is the student as its workers share it; `source`
    has at least `num_steps` steps; a checkpoint is written at each evaluation but the last, and
    every `checkpoint_every_s` (None: never) between them; `soft_prompt`: what trains the one that
    `teacher` reads, if it does."""

    config: TrialConfig
    student: StudentWithLoss
    wrapped: Wrapped
    teacher: SignalMaker | None
    source: BatchSource
    num_steps: int
    world: World
    reporter: Reporter
    evaluate: Callable[[Mapping[str, float]], Evaluation]
    checkpoints: Checkpoints
    checkpoint_every_s: float | None = None
    diagnostics: Diagnostics | None = None
    soft_prompt: PromptTraining | None = None


@dataclass(frozen=True)
class StepResult:
    """Losses of one global step, per learned position over all workers, before the update."""

    loss: float
    hard_loss: float
    soft_loss: float
    gradient_norm: float
    tokens: int
    of_prompt: Mapping[str, float]
    sequence_loss: float | None = None

    def losses(self) -> dict[str, float]:
        """Returns the losses by name; those of the sequence term and of the soft prompt where the
        trial has them."""
        found = {"loss": self.loss, "hard_loss": self.hard_loss, "soft_loss": self.soft_loss}
        found |= self.of_prompt
        of_sequences = self.sequence_loss
        return found if of_sequences is None else found | {"sequence_loss": of_sequences}

    @property
    def is_finite(self) -> bool:
        """Whether neither the loss nor the gradient is NaN or infinite."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


@dataclass(frozen=True)
class TrainingEnd:
    """How the loop ended, and how far it came."""

    outcome: Outcome
    progress: Progress


def train(loop: Loop) -> TrainingEnd:
    """Trains to the budget, a stop, or a divergence; resumes from the last checkpoint when there is
    one."""
    return _Run(loop).train()


class _Run:
    """One call of `train`: the loop's mutable part."""

    def __init__(self, loop: Loop):
        self.loop, self.config, self.world = loop, loop.config, loop.world
        self.optimizer = make_optimizer(loop.config, loop.student)
        # looking through all modules for them at each step would take as long as the update
        self.parameters = list(loop.student.parameters())
        self.num_steps = loop.num_steps
        self.evaluate_after = evaluation_steps(self.num_steps, loop.config.evaluations)
        self.progress = Progress()
        self.last_checkpoint_at = time.monotonic()

    def train(self) -> TrainingEnd:
        self._resume()
        self._begin()
        self.loop.wrapped.module.train()
        self._diagnose()
        with self.loop.source.steps(self.progress.step, self.num_steps) as steps:
            while self.progress.step < self.num_steps:
                reason = self._reason_to_leave()
                if reason != Leave.NO:
                    return self._leave(reason)
                if not self._advance(steps):
                    return TrainingEnd(Outcome.DIVERGED, self.progress)
        return TrainingEnd(Outcome.COMPLETED, self.progress)

    def _begin(self) -> None:
        """Tells a source that wants to know what the student was worth before its first step."""
        if self.progress.step == 0 and self.loop.source.needs_first_evaluation:
            self.loop.source.evaluated(self.loop.evaluate({}).metrics)

    def _reason_to_leave(self) -> Leave:
        """Returns rank 0's reason on every rank, so that all leave at the same step."""
        reason = self.loop.reporter.reason_to_leave() if self.world.is_first else Leave.NO
        return Leave(self.world.number(reason))

    def _leave(self, reason: Leave) -> TrainingEnd:
        if reason.outcome.is_resumable:
            self._checkpoint()
        return TrainingEnd(reason.outcome, self.progress)

    def _advance(self, steps: Iterator[Step]) -> bool:
        """Does one step, and the evaluation and checkpoint that are due after it; returns False
        when the trial has diverged."""
        started = time.perf_counter()
        step = next(steps)
        self.progress.wait_s += time.perf_counter() - started - step.write_s
        self.progress.write_s += step.write_s
        assert step.number == self.progress.step, "the source and the trial must not drift apart"
        rate = learning_rate(self.config, self.progress.step, self.num_steps)
        result = self._step(step, rate)
        self.progress.train_s += time.perf_counter() - started
        self.progress.tokens += result.tokens
        if not result.is_finite:
            return False
        self.progress.step += 1
        if self.world.is_first:
            self.loop.reporter.advanced(self.progress.step, self.num_steps)
            self.loop.reporter.log(
                self.progress.step,
                {
                    **result.losses(),
                    "learning_rate": rate,
                    "gradient_norm": result.gradient_norm,
                },
            )
        evaluated = self.progress.step in self.evaluate_after
        if evaluated and not self._evaluate():
            return False
        self._diagnose()
        # after the last step the student itself is saved, and all checkpoints are deleted
        is_last = self.progress.step == self.num_steps
        if not is_last and (evaluated or self._checkpoint_is_due()):
            self._checkpoint()
        return True

    def _step(self, step: Step, rate: float) -> StepResult:
        count, soft_prompt = step.num_positions, self.loop.soft_prompt
        of_prompt = {} if soft_prompt is None else soft_prompt.learn(step, self.num_steps)
        # a scalar until the first micro-batch is added: a trial may have a sequence loss too
        sums = torch.zeros((), dtype=torch.float64, device=self.world.device)
        # Every worker has equally many micro-batches, some perhaps empty: a worker that skipped its
        # last one would leave the others waiting in the exchange of gradients.
        for number, batch in enumerate(step.batches, start=1):
            is_last = number == len(step.batches)
            sums = sums + self._backward(batch.to(self.world.device), count, is_last=is_last)
        limit = self.config.clip_norm or math.inf
        clipped = self.loop.wrapped.clip(self.parameters, limit)  # the norm before
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # The weights of a diverged trial are never saved, so the update does not wait for a look at
        # the loss.
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        means = self.world.summed(sums) / max(count, 1)
        # the one place where a step waits for its GPU
        *losses, norm = torch.cat([means, clipped.double().reshape(1)]).tolist()
        total, hard, soft, *sequence = losses
        result = StepResult(total, hard, soft, norm, count, of_prompt, *sequence)
        if result.is_finite:
            self.loop.student.loss.finish_step(
                soft, step=self.progress.step, num_steps=self.num_steps
            )
        return result

    def _backward(self, batch: Batch, count: int, *, is_last: bool) -> Tensor:
        """Adds the gradient of one micro-batch; returns its sums, as `LossSums.parts` has them."""
        signal = None if self.loop.teacher is None else self.loop.teacher.signal(batch)
        wrapped = self.loop.wrapped
        with wrapped.micro_batch(is_last=is_last):
            sums = wrapped.module(
                batch, signal, step=self.progress.step, num_steps=self.num_steps, world=self.world
            )
            # DDP and FSDP average over the workers, while the loss is a mean over all workers'
            # positions: an equal weight for each worker would weight short examples' more.
            (sums.total * (self.world.size / max(count, 1))).backward()
        return torch.stack([part.detach().double() for part in sums.parts()])

    def _evaluate(self) -> bool:
        metrics = self.loop.evaluate(self.progress.metrics).metrics
        self.progress.evaluation += 1
        self.progress.metrics = metrics
        self.loop.source.evaluated(metrics)
        if self.world.is_first:
            self._report(metrics)
        return math.isfinite(metrics["cross_entropy"])

    def _report(self, metrics: dict[str, float]) -> None:
        progress, reporter = self.progress, self.loop.reporter
        seconds = max(progress.train_s, 1e-9)
        # speed is reported, but no part of the result: a rerun compares that to the bit
        speeds = {
            "tokens_per_s": progress.tokens / seconds,
            "data_wait_share": progress.wait_s / seconds,
        }
        if progress.write_s:
            speeds["write_share"] = progress.write_s / seconds
        reporter.evaluated(progress.step, progress.evaluation, metrics | speeds)
        warning = logit_scale_warning(metrics)
        if warning is not None and not progress.scale_notice_given:
            progress.scale_notice_given = True
            reporter.notice(f"{warning} (evaluation {progress.evaluation})")

    def _diagnose(self) -> None:
        diagnostics, wrapped = self.loop.diagnostics, self.loop.wrapped
        step, looks = self.progress.step, self.progress.looks
        is_due = diagnostics is not None and diagnostics.is_due(step, looks)
        if wrapped.is_sharded:  # the first worker alone looks, at what all have to gather
            is_due = self.world.flag(is_due)
        if is_due:
            with wrapped.gathered(), unevenly(self.loop.teacher):
                if diagnostics is not None:
                    diagnostics.look(step, looks)

    def _checkpoint_is_due(self) -> bool:
        every = self.loop.checkpoint_every_s
        if every is None:
            return False
        # clocks differ, and `_checkpoint` gathers from all workers: the first one decides
        return self.world.flag(time.monotonic() - self.last_checkpoint_at >= every)

    def _checkpoint(self) -> None:
        self.last_checkpoint_at = time.monotonic()
        # Weights and optimiser are the same on every worker; random states (dropout) are not.
        random_states = self.world.gathered(random_state(self.world.device))
        if not (self.world.is_first or self.loop.wrapped.is_sharded):
            return
        state = {
            "student": self.loop.student.trained_state(),
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress).copy(),
            "random": random_states,
            **_state_beside(self.loop),
        }
        score = self.progress.metrics.get("cross_entropy", math.inf)
        checkpoints, step = self.loop.checkpoints, self.progress.step
        if self.loop.wrapped.is_sharded:
            checkpoints.write_parts(step, state, score=score, world=self.world)
        else:
            checkpoints.write(step, state, score=score)

    def _resume(self) -> None:
        like = _like(self.loop, self.optimizer)
        state: dict[str, Any] | None = self.loop.checkpoints.read_last(self.world.device, like)
        steps = self.world.gathered(None if state is None else state["progress"]["step"])
        if state is None or len(set(steps)) > 1:
            # Nodes may see different checkpoints, where storage is slow to show the last one. A
            # worker that starts elsewhere would read other steps and wait for exchanges that never
            # come, so all start from the beginning.
            return
        self.loop.student.load_trained_state(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        _load_state_beside(self.loop, state)
        # A worker that was not there then goes on with its seed.
        if self.world.rank < len(state["random"]):
            restore_random_state(state["random"][self.world.rank], self.world.device)


def _state_beside(loop: Loop) -> dict[str, Any]:
    """What a checkpoint keeps of the source and of the soft prompt."""
    source = {"source": loop.source.state_dict()}
    prompt = loop.soft_prompt
    return source if prompt is None else source | {"soft_prompt": prompt.state_dict()}


def _load_state_beside(loop: Loop, state: dict[str, Any]) -> None:
    if "source" in state:  # checkpoints of before had none, and their sources no state
        loop.source.load_state_dict(state["source"])
    if loop.soft_prompt is not None:
        loop.soft_prompt.load_state_dict(state["soft_prompt"])


def _like(loop: Loop, optimizer: torch.optim.Optimizer) -> Like:
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    return Like(loop.student.trained_state(), parameters, loop.wrapped.is_sharded)
