"""The loss of one trial as a module: hard and soft loss of hidden states, fused or plain."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from trainers.losses.context import LossContext, LossInputs, LossSums
from trainers.losses.fused.walk import fused_sums, measure
from trainers.losses.passes import BATCH_TEMPERATURES, BatchSettings, measures, settings_from
from trainers.losses.plain import plain_sums
from trainers.losses.policies import Softened, soften
from trainers.losses.sampled_text import sequence_loss
from trainers.losses.schedules import LEARNED_TEMPERATURES, MIX_SCHEDULES, focus_schedule
from trainers.losses.soft_term import SoftTerm
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.sequence_terms import SequenceTerm

# Up to so many logits or positions a CPU computes all at once, no slower than in chunks. For ten
# classes, where starting an operation costs as much as its numbers, the walk takes half as long
# again; for 32 positions a tenth longer, because it scales the weight's gradient in a further pass.
FEW_LOGITS, FEW_POSITIONS = 1 << 17, 48


class DistillationLoss(nn.Module):
    """Sums of hard and soft loss over valid positions; the caller divides by the global step's
    count.

    vocab_size: V, the real vocabulary. fused: whether logits are computed chunk by chunk or all at
    once, or None: whichever suits the batch's size; both give the same but for rounding. A
    divergence that couples rows and a policy that needs all logits are never chunked. What the loss
    learns (curriculum, look_ahead) or moves (interpolated, focus) is in its state_dict, and learned
    values are parameters for the student's optimiser. It belongs inside the module that DDP or FSDP
    wraps. Text that was drawn while training has no hard loss.
    Raises `ValueError` for a `module:function` divergence that cannot be used.
    """

    def __init__(self, config: TrialConfig, vocab_size: int, *, fused: bool | None = None) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.fused = fused
        self.term = SoftTerm(config, vocab_size)
        temperature = LEARNED_TEMPERATURES.get(config.policy)
        mix = MIX_SCHEDULES.get(config.divergence)
        self.temperature = None if temperature is None else temperature(config, vocab_size)
        self.mix = None if mix is None else mix(config)
        self.focus = focus_schedule(config)

    def forward(
        self,
        hidden: Tensor,
        head: OutputHead,
        labels: Tensor,
        signal: TeacherSignal | None,
        context: LossContext,
    ) -> LossSums:
        """Returns the sums over N positions (N may be 0).

        hidden: the student's last states [N, D]; head: its output matrix, V rows; labels: [N] in
        [0, V); signal: the teacher at the same positions, or None for the hard loss alone,
        unweighted. Raises `ValueError` when the vocabularies or the numbers of positions differ, or
        labels are not int64.
        """
        batch = LossInputs(hidden, head, labels, signal)
        _check(self.vocab_size, batch)
        term = None if signal is None else self.term_at(context)
        settings = BatchSettings() if signal is None else self.settings_of(batch, context)
        if term is None:
            return self._sums(term, settings, batch, context)
        has_sequence_term = self.config.sequence_term != SequenceTerm.NONE
        sums_of = self._with_sequence_term if has_sequence_term else self._sums
        sums = sums_of(term, settings, batch, context)
        if self.temperature is None or not torch.is_grad_enabled():
            return sums
        steered = self.temperature.steer(term, settings, batch, context)
        return sums if steered is None else replace(sums, total=sums.total + steered)

    def _sums(
        self,
        term: SoftTerm | None,
        settings: BatchSettings,
        batch: LossInputs,
        context: LossContext,
    ) -> LossSums:
        config = self.config if term is None else term.config
        function = fused_sums if self._is_fused(batch.hidden, batch.head) else plain_sums
        if context.sampled is None:
            return function(config, term, settings, batch)
        # Text that was drawn is not what anybody asked for: its tokens are no labels.
        sums = function(config.model_copy(update={"hard_weight": 0.0}), term, settings, batch)
        return replace(sums, hard=torch.zeros_like(sums.hard))

    def _with_sequence_term(
        self, term: SoftTerm, settings: BatchSettings, batch: LossInputs, context: LossContext
    ) -> LossSums:
        assert self.config.sequence_weight is not None  # TrialConfig fills it in
        tokens = sequence_loss(self.config, batch, context)
        # The gradient of log q is that of the cross-entropy, with the other sign.
        weight = -self.config.sequence_weight * tokens.slope
        sums = self._sums(term, replace(settings, label_weight=weight), batch, context)
        value = tokens.value.sum()
        total = sums.total + self.config.sequence_weight * value
        return replace(sums, total=total, sequence=value)

    @torch.no_grad()
    def softened(self, student_logits: Tensor, teacher_logits: Tensor) -> Softened:
        """Returns both sides [N, V] as the soft loss sees them now, for diagnostics; of
        `interpolated` the teacher before it is mixed. Where a temperature depends on the batch
        (token_adaptive), the batch is the N positions given."""
        sides = (student_logits, teacher_logits)
        temperature = None if self.temperature is None else self.temperature.value(*sides)
        row = BATCH_TEMPERATURES.get(self.config.policy)
        if row is not None:
            difficulty = row.difficulty(student_logits, teacher_logits)
            temperature = row.temperature(self.config, difficulty, None)
        return soften(self.config, student_logits, teacher_logits, self.vocab_size, temperature)

    def finish_step(self, soft_loss: float, *, step: int, num_steps: int) -> None:
        """Moves the schedules on after optimiser step `step` (from 0) of `num_steps`. To be called
        once a step, on every rank with the same mean soft loss over all ranks' valid positions."""
        for schedule in (self.mix, self.focus):
            if schedule is not None:
                schedule.finish_step(soft_loss, LossContext(step=step, num_steps=num_steps))

    def term_at(self, context: LossContext) -> SoftTerm:
        """Returns the soft loss at its weight of this step."""
        num_rising = self.config.soft_warmup * context.num_steps
        if context.step + 1 >= num_rising:
            return self.term
        share = (context.step + 1) / num_rising
        return self.term.with_soft_weight(share * self.config.soft_weight)

    def _is_fused(self, hidden: Tensor, head: OutputHead) -> bool:
        row = DIVERGENCES.get(self.config.divergence)
        needs_all = row is not None and row.couples_rows
        if head.is_identity or needs_all or POLICIES[self.config.policy].held_whole:
            return False  # the logits are all there already, or all needed at once
        if self.fused is not None:
            return self.fused
        if hidden.device.type != "cpu":
            return True
        num_rows = hidden.shape[0]
        return num_rows > FEW_POSITIONS and num_rows * self.vocab_size > FEW_LOGITS

    def settings_of(self, batch: LossInputs, context: LossContext) -> BatchSettings:
        """Returns what the batch, by a first pass where needed, and the schedules decide."""
        measured = [measure(function, batch) for function in measures(self.config)]
        share = 1.0 if self.focus is None else self.focus.share
        settings = settings_from(self.config, measured, context, share)
        if self.temperature is not None:
            temperature = self.temperature(context, batch)
            settings = replace(settings, temperature=temperature)
        return settings if self.mix is None else replace(settings, mix=self.mix(context))


def _check(vocab_size: int, batch: LossInputs) -> None:
    signal = batch.signal
    teacher_size = vocab_size if signal is None else signal.head.vocab_size
    if batch.head.vocab_size != vocab_size or teacher_size != vocab_size:
        raise ValueError(
            f"student and teacher must have the vocabulary's {vocab_size} entries, but got "
            f"{batch.head.vocab_size} and {teacher_size}. Cut padding rows of the matrices first"
        )
    if batch.labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64, but got {batch.labels.dtype}. Use labels.long()")
    num_student, num_labels = batch.hidden.shape[0], batch.labels.shape[0]
    num_teacher = num_student if signal is None else signal.hidden.shape[0]
    if not num_student == num_labels == num_teacher:
        raise ValueError(
            "student, labels and teacher must have as many positions each, but got "
            f"{num_student}, {num_labels} and {num_teacher}"
        )
