"""The soft loss of some positions: policy, divergence or labelled term, and scaling put
together."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from trainers.losses.divergences import MIRRORS, forward_kl, in_float
from trainers.losses.labelled import LabelledInput
from trainers.losses.own.load import load, own_parameters
from trainers.losses.passes import BatchSettings
from trainers.losses.policies import Softened, soften
from trainers.losses.tables import DIVERGENCE_FUNCTIONS, LABELLED_TERMS
from trainers.losses.weighted import EntropyGate
from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.config import TrialConfig

# Below it a soft weight is as good as none.
SMALLEST_WEIGHT = 1e-30


class SoftTerm:
    """The soft loss that a `TrialConfig` names. Raises `ValueError` when its divergence is a
    `module:function` that cannot be imported, or lacks a parameter that the config sets."""

    def __init__(self, config: TrialConfig, vocab_size: int) -> None:
        self.config = config
        self.vocab_size = vocab_size
        self.function = _function(config)
        self.parameters = _parameters(config)
        self.gate = _gate(config, self.parameters)

    def with_soft_weight(self, soft_weight: float) -> "SoftTerm":
        """Returns the same at another soft weight."""
        changed = copy.copy(self)
        changed.config = self.config.model_copy(update={"soft_weight": soft_weight})
        return changed

    @property
    def hard_rest(self) -> float:
        """The weight of cross-entropy in the soft loss with which the hard loss has weight 1."""
        return (1 - self.config.hard_weight) / max(self.config.soft_weight, SMALLEST_WEIGHT)

    def softened(
        self, student_logits: Tensor, teacher_logits: Tensor, settings: BatchSettings
    ) -> Softened:
        """Returns both sides [N, V] softened by the config's policy."""
        return soften(
            self.config, student_logits, teacher_logits, self.vocab_size, settings.temperature
        )

    def values(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor,
        settings: BatchSettings,
    ) -> Tensor:
        """Returns the scaled soft loss [N] of unsoftened logits [N, V]; labels [N]."""
        softened = self.softened(student_logits, teacher_logits, settings)
        if self.config.divergence in LABELLED_TERMS:
            value = self._labelled(softened, student_logits, teacher_logits, labels, settings)
        else:
            value = softened.weight * self._divergence(softened)
        if self.gate is not None:
            value = value + softened.weight * self._gated(self.gate, softened)
        return value if settings.kept is None else settings.kept * value

    def _labelled(
        self,
        softened: Softened,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor,
        settings: BatchSettings,
    ) -> Tensor:
        rows = LabelledInput(
            softened,
            in_float(student_logits),
            in_float(teacher_logits.detach()),
            labels,
            settings.row_weight,
            settings.mix,
            self.hard_rest,
            settings.num_views,
            settings.by_student,
            settings.skew,
        )
        parts = LABELLED_TERMS[self.config.divergence](rows, self.parameters)
        value = softened.weight * parts.scaled
        return value if parts.plain is None else value + parts.plain

    def _divergence(self, softened: Softened) -> Tensor:
        assert self.function is not None  # only labelled terms have none
        value = self.function(
            student_logits=softened.student, teacher_logits=softened.teacher, **self.parameters
        )
        if self.config.divergence not in DIVERGENCES:
            self._check_shape(value, len(softened.student))
        return self._with_mirror(value, self.config.divergence, softened, self.parameters)

    def _gated(self, gate: EntropyGate, softened: Softened) -> Tensor:
        """Forward KL times the gate's factor, which has no gradient."""
        value = forward_kl(student_logits=softened.student, teacher_logits=softened.teacher)
        log_p = torch.log_softmax(in_float(softened.teacher.detach()), dim=-1)
        factor = gate.factor(log_p.exp(), log_p).squeeze(-1)
        return factor * self._with_mirror(value, "forward_kl", softened, {})

    def _with_mirror(
        self, value: Tensor, name: str, softened: Softened, parameters: Mapping[str, Any]
    ) -> Tensor:
        if not POLICIES[self.config.policy].learned:
            return value
        # A learned temperature softens the teacher too, whom a divergence cuts from the graph. The
        # mirror has that gradient, and adds 0 to the value.
        mirror = MIRRORS[name](
            student_logits=softened.teacher, teacher_logits=softened.student, **parameters
        )
        return value + mirror - mirror.detach()

    def _check_shape(self, value: Tensor, num_rows: int) -> None:
        # A mean over positions would be broadcast to all of them without an error.
        shape = tuple(getattr(value, "shape", ()))
        if shape != (num_rows,):
            raise ValueError(
                f"divergence '{self.config.divergence}': one value a position must come back, "
                f"[{num_rows}] for logits [{num_rows}, {self.vocab_size}], but got "
                f"{list(shape)}. Sum over the last dimension, and take no mean of positions."
            )


def _function(config: TrialConfig) -> Callable[..., Tensor] | None:
    if config.divergence in LABELLED_TERMS:
        return None
    return DIVERGENCE_FUNCTIONS.get(config.divergence) or load(config.divergence)


def _gate(config: TrialConfig, parameters: Mapping[str, Any]) -> EntropyGate | None:
    # A divergence that has such a parameter itself has its own use for it.
    if not config.forward_weight or "forward_weight" in parameters:
        return None
    assert config.entropy_threshold is not None  # TrialConfig fills it in
    return EntropyGate(config.forward_weight, config.entropy_threshold)


def _parameters(config: TrialConfig) -> dict[str, Any]:
    if config.divergence in DIVERGENCES:
        return {name: getattr(config, name) for name in DIVERGENCES[config.divergence].parameters}
    return own_parameters(config)
