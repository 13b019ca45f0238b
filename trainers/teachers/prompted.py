"""A teacher that reads a soft prompt before each text; what the student learns from is its answer
then."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from trainers.parts import Batch, Data, Network, TaskRuntime
from trainers.signal import OutputHead, TeacherSignal
from trainers.teachers.online import OnlineTeacher
from trainers.trial.config import TrialConfig


class BehindPrompt(Protocol):
    """A network that can read vectors before its inputs."""

    @property
    def start(self) -> Tensor:
        """The vectors [M, E] that training begins with, in the width of the network's inputs."""

    def hidden(self, prompt: Tensor, batch: Any) -> Tensor:
        """Returns the last hidden states [N, D] at the batch's learned positions, each behind
        `prompt` [M, E] and the text before it; differentiable by the prompt."""


@runtime_checkable
class TakesPrompts(TaskRuntime, Protocol):
    """The runtime of a task whose teachers can read a soft prompt."""

    def behind_prompt(self, config: TrialConfig, data: Data, *, teacher: Network) -> BehindPrompt:
        """Returns `teacher` as it reads the prompt of such a trial. Raises `ValueError` for one
        that takes no vectors, or has too few positions."""


class PromptedTeacher(nn.Module):
    """A frozen teacher behind a soft prompt, its one parameter. `bare`: the teacher as it is, whose
    weights are neither copied nor changed."""

    def __init__(self, bare: OnlineTeacher, network: BehindPrompt):
        super().__init__()
        self.bare = bare
        self._network = network
        # in float32 whatever the teacher is in: steps are smaller than bfloat16 resolves
        self.prompt = nn.Parameter(network.start.detach().float().clone())

    @property
    def head(self) -> OutputHead:
        """The teacher's output head."""
        return self.bare.head

    def hidden(self, batch: Batch) -> Tensor:
        """Returns the hidden states [N, D] at the batch's positions, differentiable by the
        prompt."""
        # its weights have the compute dtype already, as without a prompt
        with torch.autocast(self.prompt.device.type, enabled=False):
            return self._network.hidden(self.prompt, batch)

    @torch.no_grad()
    def signal(self, batch: Batch) -> TeacherSignal:
        """Returns the teacher's answer to `batch` behind the present prompt; nothing of it is part
        of a graph."""
        return TeacherSignal(hidden=self.hidden(batch), head=self.head)
