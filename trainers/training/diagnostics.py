"""Looks at a fixed part of the validation split while a trial trains: what its loss does there, and
why. Nothing of the training changes, and the clock keeps it short."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainers import numerics as numerics_of
from trainers.files.store import write_text
from trainers.losses.context import LossContext, LossInputs
from trainers.losses.gradients import VANISHING
from trainers.losses.observed import LogitRows, Observed, Observer
from trainers.parts import Batch, SignalMaker, Split
from trainers.signal import TeacherSignal
from trainers.training.checkpoints import random_state, restore_random_state
from trainers.training.student import StudentWithLoss
from trainers.trial.probe import PREFIX, ProbePlan
from trainers.trial.reporting import DIAGNOSTICS, Reporter

FORMAT = 1
SEED = 0
# Logits of a chunk: several tensors of the size are alive at once.
MIN_CHUNK_ROWS, CHUNK_LOGITS = 16, {"cpu": 1 << 19, "cuda": 1 << 22}


def probe_examples(split: Split, num_positions: int) -> NDArray[np.int64]:
    """Returns examples of the split that have `num_positions` learned positions together; all,
    where there are fewer. The same in every trial over that data, whatever its seed, and the first
    of those that a larger probe has."""
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(split))
    reached = np.cumsum(np.asarray(split.num_learned)[order])
    return order[: int(np.searchsorted(reached, num_positions)) + 1]


@dataclass
class Probe:
    """The positions that are looked at: learned ones of the validation split."""

    student: StudentWithLoss
    teacher: SignalMaker
    split: Split
    num_positions: int
    device: torch.device
    numerics: dict[str, Any]
    _answers: dict[int, TeacherSignal] = field(default_factory=dict)

    def look(self, step: int, num_steps: int, *, with_ladder: bool) -> dict[str, Any]:
        """Returns what is seen after `step` steps, as plain values. Leaves the student's mode and
        the random state as they were."""
        was_training, state = self.student.training, random_state(self.device)
        self.student.train(False)
        try:
            with torch.no_grad():
                return self._look(LossContext(step=step, num_steps=num_steps), with_ladder)
        finally:
            self.student.train(was_training)
            restore_random_state(state, self.device)

    def _look(self, context: LossContext, with_ladder: bool) -> dict[str, Any]:
        loss = self.student.loss
        observer = Observer(loss, context)
        parts = [
            observer.look(rows, with_ladder=with_ladder)
            for batch in self._batches()
            for rows in self._chunks(batch, context)
        ]
        seen = Observed.joined(parts)
        return {
            "step": context.step,
            "num_positions": len(seen.entropy),
            "metrics": observer.metrics(seen),
            **observer.distributions(seen, loss.vocab_size),
        }

    def _batches(self) -> Iterator[tuple[Batch, LossInputs]]:
        """The probe's batches, each with the student and the teacher on it; together as many
        positions as are to be looked at."""
        left, student = self.num_positions, self.student
        examples = probe_examples(self.split, self.num_positions)
        for number, group in enumerate(self.split.groups(examples, self.device.type)):
            batch = self.split.collate(group).to(self.device)
            with numerics_of.autocast(self.numerics):
                hidden = student.hidden(batch)[:left]
                signal = self._answer(number, batch)
            if len(hidden):
                signal = TeacherSignal(signal.hidden[:left], signal.head)
                yield batch, LossInputs(hidden, student.head(), batch.labels[:left], signal)
            left -= len(hidden)

    def _answer(self, number: int, batch: Batch) -> TeacherSignal:
        """What the teacher says of a batch, asked at the first look alone: it never changes."""
        if number not in self._answers:
            self._answers[number] = self.teacher.signal(batch)
        return self._answers[number]

    def _chunks(self, given: tuple[Batch, LossInputs], context: LossContext) -> Iterator[LogitRows]:
        """The positions of a batch, so few at a time that their logits take little memory."""
        batch, inputs = given
        of_batch = replace(context, sequence_ids=batch.sequence_ids[: len(inputs.labels)])
        settings = self.student.loss.settings_of(inputs, of_batch)
        most = CHUNK_LOGITS[self.device.type] // inputs.head.vocab_size
        size = max(MIN_CHUNK_ROWS, most)
        for start in range(0, len(inputs.labels), size):
            rows = slice(start, start + size)
            assert inputs.signal is not None  # `_batches` asks the teacher
            signal = TeacherSignal(inputs.signal.hidden[rows], inputs.signal.head)
            with numerics_of.autocast(self.numerics):
                student, teacher = inputs.head.logits(inputs.hidden[rows]), signal.logits()
            of_rows = settings.rows(rows)
            yield LogitRows(student.float(), teacher.float(), inputs.labels[rows], of_rows)


@dataclass
class Diagnostics:
    """Decides when a trial is looked at, and keeps what was seen: as metrics, and in a file in the
    trial's folder. Of a trial's workers the first alone has one.

    share: of the trial's time that all looks may take; `clock` returns seconds.
    """

    plan: ProbePlan
    probe: Probe
    num_steps: int
    share: float
    reporter: Reporter
    output: Path
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._first_step: int | None = None
        self._spent = self._longest = 0.0
        self._failed = False

    def is_due(self, step: int, looks: list[dict[str, Any]]) -> bool:
        """Returns whether the trial is to be looked at after `step` steps; to be asked after each.
        `looks`: what was seen, in earlier attempts too."""
        if self._first_step is None:
            self._first_step = step
        is_known = any(look["step"] == step for look in looks)
        is_wanted = not (self._failed or is_known) and step in self.plan.steps
        return is_wanted and self._affords(step)

    def look(self, step: int, looks: list[dict[str, Any]]) -> None:
        """Looks at the trial after `step` steps, and appends to `looks` what was seen. A trial is
        worth more than what explains it, so an error here is a notice, and there is no further
        look."""
        began = self.clock()
        try:
            look = self.probe.look(step, self.num_steps, with_ladder=step in self.plan.ends)
        except Exception as error:  # whatever a loss of the user's own, or a full GPU, may raise
            self._failed = True
            self.reporter.notice(f"diagnostics end at step {step}: {type(error).__name__}: {error}")
            return
        self._spent += self.clock() - began
        self._longest = max(self._longest, self.clock() - began)
        looks.append(look)
        self.reporter.log(step, {PREFIX + name: value for name, value in look["metrics"].items()})
        self._write(looks)

    def _affords(self, step: int) -> bool:
        """Whether the looks stay within their share of the trial, as long as it will take by what
        it has taken so far; that at the end counts before the others. The first is the plan's."""
        assert self._first_step is not None
        done = step - self._first_step
        if done == 0:
            return True
        whole_s = (self.clock() - self._began) * (self.num_steps - self._first_step) / done
        # One with a ladder, as the first was, is to come; those between take half as long.
        ahead_s = self._longest if step == self.num_steps else 1.5 * self._longest
        return self._spent + ahead_s <= self.share * whole_s

    def _write(self, looks: list[dict[str, Any]]) -> None:
        content = {
            "format": FORMAT,
            "split": self.probe.split.name,
            "vocab_size": self.probe.student.loss.vocab_size,
            "vanishing_below": VANISHING,
            "num_steps": self.num_steps,
            "looks_s": self._spent,
            "trial_s": self.clock() - self._began,
            "looks": looks,
        }
        self.output.mkdir(parents=True, exist_ok=True)
        write_text(self.output / DIAGNOSTICS, json.dumps(content) + "\n")
