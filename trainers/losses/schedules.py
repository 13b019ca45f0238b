"""What a loss learns or moves during a training: modules, so that checkpoints have their state."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainers.losses.context import LossContext, LossInputs
from trainers.losses.look_ahead import LookAheadTemperature, look_ahead_temperature
from trainers.trial.config import TrialConfig
from trainers.trial.traits import Policy

MOMENTUM = 0.99
SMALLEST_LOSS = 1e-15
LARGEST_RISE = -1.0
INITIAL_THETA = 1.0
INSTANCE_WIDTH = 128


class _Curriculum(nn.Module):
    """Temperatures 1 + reach * sigmoid(m), m learned with the gradient reversed: the push against
    the student grows from 0 to 1 as half a cosine over the first `ramp` of the steps."""

    def __init__(self, reach: float, ramp: float) -> None:
        super().__init__()
        self.reach, self.ramp = reach, ramp

    def of(self, m: Tensor) -> Tensor:
        """Returns the temperatures of m."""
        return 1 + self.reach * torch.sigmoid(m)

    def reversed(self, temperature: Tensor, context: LossContext) -> Tensor:
        """Returns the temperature with -push times its gradient: the student's optimiser, which
        descends, makes m climb."""
        push = self.push(context)
        return (1 + push) * temperature.detach() - push * temperature

    def push(self, context: LossContext) -> float:
        """Returns the factor on the reversed gradient, in [0, 1]."""
        if self.ramp == 0.0:
            return 1.0
        progress = min(1.0, context.step / max(1.0, self.ramp * context.num_steps))
        return 0.5 * (1 - math.cos(math.pi * progress))

    def steer(self, *_: object) -> None:
        """Returns None: the temperatures are in the loss's own graph."""


class CurriculumTemperature(_Curriculum):
    """CTKD's one temperature for all positions. Li et al. 2023; theta, its m, starts at 1, as in
    their code."""

    def __init__(self, reach: float, ramp: float) -> None:
        super().__init__(reach, ramp)
        # Not a scalar: FSDP splits parameters by their first dimension.
        self.theta = nn.Parameter(torch.tensor([INITIAL_THETA]))

    def forward(self, context: LossContext, *_: LossInputs) -> Tensor:
        """Returns the temperature, a scalar in (1, 1 + reach)."""
        return self.reversed(self.value(), context)

    def value(self, *_: Tensor) -> Tensor:
        """Returns the same without the reversal."""
        return self.of(self.theta).squeeze(0)


class InstanceTemperature(_Curriculum):
    """CTKD's temperature for each position: m by a network of two layers from both sides'
    probabilities at temperature 1, held constant.

    Li et al. 2023 name such a network; its width, 128 here, its activation (ReLU), its input's
    gradient and its code are not public, so that this is our reading. Its weights at the start are
    the same in every trial.
    """

    def __init__(self, reach: float, ramp: float, vocab_size: int) -> None:
        super().__init__(reach, ramp)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Linear(2 * vocab_size, INSTANCE_WIDTH), nn.ReLU(), nn.Linear(INSTANCE_WIDTH, 1)
            )

    def forward(self, context: LossContext, batch: LossInputs) -> Tensor:
        """Returns the temperatures [N] in (1, 1 + reach)."""
        assert batch.signal is not None  # there is a soft loss
        with torch.no_grad():
            sides = batch.head.logits(batch.hidden), batch.signal.logits()
        return self.reversed(self.value(*sides), context)

    def value(self, *sides: Tensor) -> Tensor:
        """Returns the same without the reversal, of logits [N, V] of student and teacher."""
        wide = next(self.network.parameters()).dtype
        predictions = torch.cat([side.detach().to(wide).softmax(-1) for side in sides], dim=-1)
        with torch.autocast(predictions.device.type, enabled=False):
            return self.of(self.network(predictions).squeeze(-1))


class MixSchedule(nn.Module):
    """TAID's t: never below the line from start to end, and pulled up while the loss falls.

    After each optimiser step, with d the relative fall of the soft loss and m = 0.99 m + 0.01 d, t
    grows by rate * sigmoid(m) * (1 - t). Shing et al. 2025, whose code takes the cross-entropy's
    fall; ours the KL's, as their formula has it. That is 0 at t = 0 and grows with t, so that of a
    rise no more than 1 counts: by its own size one step near 0 would hold t down for hundreds.
    The line leads, and rate does nothing, until rate * sigmoid(m) * (1 - t) exceeds its slope, (end
    - start) / num_steps: by the defaults from about 4,000 steps on.
    """

    share: Tensor
    trend: Tensor
    last: Tensor

    def __init__(self, start: float, end: float, rate: float) -> None:
        super().__init__()
        self.start, self.end, self.rate = start, end, rate
        self.register_buffer("share", torch.tensor(start, dtype=torch.float64))
        self.register_buffer("trend", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("last", torch.tensor(torch.nan, dtype=torch.float64))

    def forward(self, context: LossContext) -> Tensor:
        """Returns t, a scalar between start and end."""
        progress = min(1.0, context.step / max(1, context.num_steps))
        line = self.start + (self.end - self.start) * progress
        return self.share.clamp(line, self.end)

    def finish_step(self, soft_loss: float, context: LossContext) -> None:
        """Moves t on by the mean soft loss of the step that `context` describes, over all positions
        of all ranks, so that every rank has the same t."""
        last = float(self.last)
        if not math.isnan(last):
            fall = (last - soft_loss) / (abs(last) + SMALLEST_LOSS)
            self.trend.mul_(MOMENTUM).add_((1 - MOMENTUM) * max(fall, LARGEST_RISE))
        share = self(context)
        growth = self.rate * torch.sigmoid(self.trend) * (1 - share)
        self.share.copy_(share + growth)
        self.last.fill_(soft_loss)


class FocusSchedule(nn.Module):
    """The share of positions that AdaKD's focus keeps: 1 at first.

    After each optimiser step a, the average of the soft loss, becomes decay * a + (1 - decay) *
    loss. From the first step after the warm-up on it is held to a reference, at first a itself:
    where a exceeds it by more than `tolerance` of it, the share grows by `rate` of itself, up to 1;
    where a is as far below, it falls as much, down to `least`; both make a the reference.
    2510.11615, LATF, whose code sums the loss in half precision. Its state is plain numbers, so
    that no step waits for a GPU.
    """

    def __init__(
        self, *, rate: float, tolerance: float, decay: float, warmup: float, least: float
    ) -> None:
        super().__init__()
        self.rate, self.tolerance, self.decay = rate, tolerance, decay
        self.warmup, self.least = warmup, least
        self.share = 1.0
        self.average: float | None = None
        self.reference: float | None = None

    def get_extra_state(self) -> dict[str, float | None]:
        """Returns what a checkpoint keeps."""
        return {"share": self.share, "average": self.average, "reference": self.reference}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes up what a checkpoint kept."""
        self.share, self.average = state["share"], state["average"]
        self.reference = state["reference"]

    def finish_step(self, soft_loss: float, context: LossContext) -> None:
        """Moves the share on by the mean soft loss of the step that `context` describes, over the
        kept positions of all ranks, so that every rank has the same share."""
        old = soft_loss if self.average is None else self.average
        self.average = self.decay * old + (1 - self.decay) * soft_loss
        if self.reference is None:
            is_warm = context.step >= self.warmup * context.num_steps
            self.reference = self.average if is_warm else None
            return
        if self.average > self.reference * (1 + self.tolerance):
            self.share, self.reference = min(self.share * (1 + self.rate), 1.0), self.average
        elif self.average < self.reference * (1 - self.tolerance):
            self.share = max(self.share * (1 - self.rate), self.least)
            self.reference = self.average


def focus_schedule(config: TrialConfig) -> FocusSchedule | None:
    """Returns the focus of a config, or None where all positions count."""
    if config.focus_rate is None:
        return None
    assert config.focus_tolerance is not None and config.focus_decay is not None
    assert config.focus_warmup is not None and config.focus_least is not None
    return FocusSchedule(
        rate=config.focus_rate,
        tolerance=config.focus_tolerance,
        decay=config.focus_decay,
        warmup=config.focus_warmup,
        least=config.focus_least,
    )


def curriculum_temperature(config: TrialConfig, vocab_size: int) -> CurriculumTemperature:
    """Returns the temperature of policy `curriculum`."""
    return CurriculumTemperature(*_curriculum(config))


def instance_temperature(config: TrialConfig, vocab_size: int) -> InstanceTemperature:
    """Returns the temperatures of policy `curriculum_instance`."""
    return InstanceTemperature(*_curriculum(config), vocab_size)


def _curriculum(config: TrialConfig) -> tuple[float, float]:
    assert config.curriculum_range is not None and config.curriculum_ramp is not None
    return config.curriculum_range, config.curriculum_ramp


def mix_schedule(config: TrialConfig) -> MixSchedule:
    """Returns the schedule of divergence `interpolated`."""
    assert config.mix_start is not None and config.mix_end is not None
    assert config.mix_rate is not None
    return MixSchedule(config.mix_start, config.mix_end, config.mix_rate)


# The module of each row that has one.
LearnedTemperature = CurriculumTemperature | InstanceTemperature | LookAheadTemperature
LEARNED_TEMPERATURES: dict[Policy, Callable[[TrialConfig, int], LearnedTemperature]] = {
    Policy.CURRICULUM: curriculum_temperature,
    Policy.CURRICULUM_INSTANCE: instance_temperature,
    Policy.LOOK_AHEAD: look_ahead_temperature,
}
MIX_SCHEDULES: dict[str, Callable[[TrialConfig], MixSchedule]] = {"interpolated": mix_schedule}
