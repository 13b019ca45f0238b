"""How the soft prompt before the teacher's input learns: a step of its own before each step of the
student."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trainers import numerics as numerics_of
from trainers.batch_source import Step
from trainers.losses import DistillationLoss, LossContext
from trainers.parts import Batch
from trainers.signal import OutputHead, TeacherSignal
from trainers.teachers.prompted import PromptedTeacher
from trainers.training.optimizer import learning_rate, make_optimizer
from trainers.training.student import StudentWithLoss
from trainers.training.wrapping import Wrapped
from trainers.trial.config import TrialConfig
from trainers.world import World

# With the prompted teacher in the student's place: KL(P ‖ q) and KL(P ‖ p), at temperature 1.
LOSS = TrialConfig(divergence="reverse_kl", tau=1.0, hard_weight=0.0, soft_weight=1.0)


class PromptTraining:
    """The optimiser of a soft prompt, and the loss that it descends.

    Kim et al. 2024 (PromptKD), as their code has it: with p the teacher, P the teacher behind the
    prompt, q the student without dropout and N steps, step t (from 0) descends
    KL(P ‖ q) + weight · (1 - (t + 1) / N) · KL(P ‖ p), means over the step's learned positions.
    The student then learns from P as it is after that step.
    """

    def __init__(
        self,
        teacher: PromptedTeacher,
        student: Wrapped,
        config: TrialConfig,
        *,
        world: World,
        numerics: dict[str, Any],
    ) -> None:
        """config: the trial's; numerics: resolved ones."""
        self.teacher, self.student = teacher, student
        # its optimiser and schedule are the student's but for the peak
        rate = {"learning_rate": config.soft_prompt_learning_rate}
        self._config = config.model_copy(update=rate)
        self._weight = config.soft_prompt_base_weight
        self._world, self._numerics = world, numerics
        self._loss = DistillationLoss(LOSS, teacher.head.vocab_size).to(world.device)
        self._optimizer = make_optimizer(self._config, teacher)

    def learn(self, step: Step, num_steps: int) -> dict[str, float]:
        """Moves the prompt by one step on the text that the student learns from next; all workers
        call it. Returns its loss, and KL(P ‖ p), both before that step."""
        count, weight = max(step.num_positions, 1), self._base_weight(step.number, num_steps)
        sums = torch.zeros(2, dtype=torch.float64, device=self._world.device)
        with self._student_as_it_is() as student:
            head = self._frozen(student.head())
            for batch in step.batches:
                parts = self._parts(student, head, batch.to(self._world.device))
                loss = (parts[0] + weight * parts[1]) / count
                loss.backward()  # type: ignore[no-untyped-call]
                sums += parts.detach()
        self._update(step.number, num_steps)
        to_student, to_base = (self._world.summed(sums) / count).tolist()
        return {"soft_prompt_loss": to_student + weight * to_base, "soft_prompt_shift": to_base}

    def state_dict(self) -> dict[str, Any]:
        """Returns the prompt and its optimiser's state."""
        prompt = self.teacher.prompt.detach()
        return {"prompt": prompt, "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        with torch.no_grad():
            self.teacher.prompt.copy_(state["prompt"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _base_weight(self, number: int, num_steps: int) -> float:
        return self._weight * (1 - (number + 1) / num_steps)

    @contextmanager
    def _student_as_it_is(self) -> Iterator[StudentWithLoss]:
        """The student with all its weights, in evaluation mode."""
        whole = self.student.whole
        was_training = whole.training
        with self.student.gathered():
            whole.eval()
            try:
                yield whole
            finally:
                whole.train(was_training)

    def _parts(self, student: StudentWithLoss, head: OutputHead, batch: Batch) -> Tensor:
        """Returns the sums [2] of KL(P ‖ q) and KL(P ‖ p) over the batch's positions."""
        context = LossContext(sequence_ids=batch.sequence_ids)
        with torch.no_grad(), numerics_of.autocast(self._numerics):
            answer = TeacherSignal(student.hidden(batch).to(head.weight.dtype), head)
        base = self.teacher.bare.signal(batch)
        hidden = self.teacher.hidden(batch)
        with numerics_of.autocast(self._numerics):
            sums = [
                self._loss(hidden, self.teacher.head, batch.labels, other, context)
                for other in (answer, base)
            ]
        return torch.stack([each.total for each in sums])

    def _frozen(self, head: OutputHead) -> OutputHead:
        """The student's head as a teacher's is: in the compute dtype, and no part of a graph."""
        dtype = numerics_of.weights_dtype(self._numerics)
        bias = None if head.bias is None else head.bias.detach().to(dtype)
        return replace(head, weight=head.weight.detach().to(dtype), bias=bias)

    def _update(self, number: int, num_steps: int) -> None:
        prompt = self.teacher.prompt
        assert prompt.grad is not None, "every step has a micro-batch, though perhaps an empty one"
        self._world.summed(prompt.grad)
        if self._config.clip_norm:
            torch.nn.utils.clip_grad_norm_([prompt], self._config.clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._config, number, num_steps)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
