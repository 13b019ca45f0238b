"""Temperature policies: how logits are softened in the soft loss, and the weight of each position.

A policy takes the unsoftened logits [N, V] of both sides and returns a temperature for each
position and side. The hard loss, the evaluation and sampled text do not depend on it.

Where gradients go: policies compute with logits that are cut from the graph. A temperature that
follows the student's own logits says so by a `Slope`, from which `rescale` makes its gradient; what
it owes to the other side, or to the batch, has none. A learned temperature is part of the graph
itself, and alone has a gradient through the scaling.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from trainers.losses.divergences import in_float
from trainers.losses.rescale import Slope, centred_over
from trainers.trial.catalogue import POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.traits import Policy, Scaling


@dataclass(frozen=True)
class Softened:
    """student, teacher: softened logits [N, V]; weight: factor on each position's divergence [N],
    without gradient, except curriculum's; tau_t, tau_s: temperatures of teacher and student [N];
    slope: how tau_s follows the student's logits, None where those are not centred."""

    student: Tensor
    teacher: Tensor
    weight: Tensor
    tau_t: Tensor
    tau_s: Tensor
    slope: Slope | None = None


@dataclass(frozen=True)
class Temperatures:
    """tau_t and tau_s, each [N] or [].

    slope: how tau_s follows the student's own logits, which are centred then, as the teacher's
    are; None: logits are softened as they are. scaling_tau: what the scalings take powers of, where
    that is not tau_s.
    """

    tau_t: Tensor
    tau_s: Tensor
    slope: Slope | None = None
    scaling_tau: Tensor | None = None


@dataclass(frozen=True)
class PolicyInput:
    """student, teacher: unsoftened logits [N, V], cut from the graph; temperature: what the
    training or the batch decided ([] for curriculum, [N] for its instance form and token_adaptive,
    [N, 2] of teacher and student for look_ahead), else None.
    Temperatures come in float32 or wider, whatever the logits are in."""

    config: TrialConfig
    student: Tensor
    teacher: Tensor
    vocab_size: int
    temperature: Tensor | None

    @property
    def tau(self) -> Tensor:
        """The config's tau, a scalar tensor."""
        assert self.config.tau is not None  # TrialConfig has one under the policies that ask for it
        return self.constant(self.config.tau)

    @cached_property
    def means(self) -> tuple[Tensor, Tensor]:
        """The mean logit of student and teacher, each [N, 1]."""
        sides, wide = (self.student, self.teacher), _wide(self.student)
        student, teacher = (side.mean(-1, keepdim=True, dtype=wide) for side in sides)
        return student, teacher

    @cached_property
    def centred(self) -> tuple[Tensor, Tensor]:
        """The logits of student and teacher less their mean, each [N, V]."""
        student, teacher = self.means
        return self.student - student, self.teacher - teacher

    def constant(self, value: float) -> Tensor:
        """Returns a scalar tensor, filled on its own device, so that no GPU waits for a copy."""
        return self.student.new_full((), value, dtype=_wide(self.student))


def none(given: PolicyInput) -> Temperatures:
    """Logits as they are: 1 on both sides."""
    one = given.constant(1.0)
    return Temperatures(one, one)


def fixed(given: PolicyInput) -> Temperatures:
    """tau on both sides. Hinton et al. 2015."""
    return Temperatures(given.tau, given.tau)


def fixed_teacher(given: PolicyInput) -> Temperatures:
    """tau on the teacher, 1 on the student; with forward KL it is TTM. Zheng and Yang 2024."""
    return Temperatures(given.tau, given.constant(1.0))


def cist(given: PolicyInput) -> Temperatures:
    """Each side's largest centred logit over rho, so that the largest softened logit is rho.

    rho = rho_per_log_vocab * ln V where that is given. Luong et al. 2026 (CIST), who do not say
    where they stop the gradient: `detach_student_temperature` offers both.
    """
    rho = cist_rho(given.config, given.vocab_size)
    student, teacher, place = _largest_centred(given)
    tau_s = student / rho
    # d tau_s / dz_k = (1[k = place] - 1/V) / rho: the largest logit less the mean.
    slope = Slope(place=place, peak=torch.full_like(tau_s, 1 / rho))
    return _clamp(given.config, Temperatures(teacher / rho, tau_s, slope))


def cist_rho(config: TrialConfig, vocab_size: int) -> float:
    """Returns the rho of a CIST config for a vocabulary of `vocab_size`."""
    if config.rho is not None:
        return config.rho
    assert config.rho_per_log_vocab is not None  # TrialConfig has exactly one of the two
    return config.rho_per_log_vocab * math.log(vocab_size)


def logit_standardization(given: PolicyInput) -> Temperatures:
    """Each side's standard deviation over the vocabulary, times tau. Sun et al. 2024."""
    tau_s, tau_t = (given.tau * _deviation(centred) for centred in given.centred)
    # With c = z - mean and tau_s = tau ‖c‖ / √V: d tau_s / dz_k = (tau² / V) c_k / tau_s. In a row
    # of equal logits the norm has no derivative, and the temperature is the clamp's.
    spread = given.tau.square() / given.vocab_size
    slope = Slope(spread=torch.where(tau_s > 0, spread, 0.0))
    # tau itself scales, not tau times a row's standard deviation.
    return _clamp(given.config, Temperatures(tau_t, tau_s, slope, given.tau))


def curriculum(given: PolicyInput) -> Temperatures:
    """The learned temperature on both sides, the scaling's factor in its gradient too, as in the
    code of Li et al. 2023 (CTKD); one for all in their global form, one a position in the other."""
    assert given.temperature is not None  # made by losses.schedules for this policy
    return Temperatures(given.temperature, given.temperature)


def dynamic(given: PolicyInput) -> Temperatures:
    """tau_s = 2 tau a/(a+b), tau_t = 2 tau b/(a+b), a and b the largest centred logits of student
    and teacher.

    The student's gradient goes through its own temperature alone. Wei and Bai 2024 (DTKD), whose
    code takes the largest logits without centring them, so that a constant added to the logits
    changes its temperatures; its second, plain KL is left out.
    """
    student, teacher, place = _largest_centred(given)
    both = (student + teacher).clamp_min(SMALLEST_SCALE)
    unit = 2 * given.tau / both
    # d tau_s / da = 2 tau b / (a+b)²; tau_t depends on a as well, but not its gradient.
    slope = Slope(place=place, peak=unit * teacher / both)
    return _clamp(given.config, Temperatures(unit * teacher, unit * student, slope))


def token_adaptive(given: PolicyInput) -> Temperatures:
    """The position's temperature from the batch's difficulties, on both sides, without gradient.

    AdaKD's inverse difficulty scaling (2510.11615), whose code lets the gradient through.
    """
    assert given.temperature is not None  # made by losses.passes for this policy
    return Temperatures(given.temperature, given.temperature)


def look_ahead(given: PolicyInput) -> Temperatures:
    """The temperatures of teacher and student, without gradient: our reading of 2202.07940."""
    assert given.temperature is not None  # made by losses.look_ahead for this policy
    tau_t, tau_s = given.temperature.unbind(-1)
    return Temperatures(tau_t, tau_s)


POLICY_FUNCTIONS: dict[Policy, Callable[[PolicyInput], Temperatures]] = {
    Policy.NONE: none,
    Policy.FIXED: fixed,
    Policy.FIXED_TEACHER: fixed_teacher,
    Policy.CIST: cist,
    Policy.LOGIT_STANDARDIZATION: logit_standardization,
    Policy.CURRICULUM: curriculum,
    Policy.CURRICULUM_INSTANCE: curriculum,
    Policy.DYNAMIC: dynamic,
    Policy.TOKEN_ADAPTIVE: token_adaptive,
    Policy.LOOK_AHEAD: look_ahead,
}

# Keeps `dynamic` finite where all logits of both sides are equal.
SMALLEST_SCALE = 1e-7
# Columns that `largest_logit` takes the maximum of at once.
BLOCK = 64


def soften(
    config: TrialConfig,
    student_logits: Tensor,
    teacher_logits: Tensor,
    vocab_size: int,
    temperature: Tensor | None = None,
) -> Softened:
    """Returns both sides softened by the config's policy, from unsoftened logits [N, V].

    vocab_size: V, the real vocabulary (no padding columns may be left in the logits). temperature:
    one that the position does not decide alone, see `PolicyInput`. No gradient reaches the teacher.
    Raises `ValueError` when the logits have another width than V.
    """
    if student_logits.shape[-1] != vocab_size or teacher_logits.shape[-1] != vocab_size:
        raise ValueError(
            f"student and teacher logits must have the vocabulary's {vocab_size} columns, but got "
            f"{student_logits.shape[-1]} and {teacher_logits.shape[-1]}. Cut padding columns first"
        )
    student, teacher = in_float(student_logits), in_float(teacher_logits.detach())
    given = PolicyInput(config, student.detach(), teacher, vocab_size, temperature)
    temperatures = POLICY_FUNCTIONS[config.policy](given)
    num_rows = student.shape[0]
    tau_t, tau_s = temperatures.tau_t.expand(num_rows), temperatures.tau_s.expand(num_rows)
    slope = temperatures.slope
    if slope is not None:
        # A softmax does not depend on the centring; float32, and divergences on logits, do. Both
        # centred tensors are overwritten here; nothing reads them afterwards.
        soft_student = centred_over(student, given.centred[0], tau_s, slope)
        soft_teacher = centred_over(teacher, given.centred[1], tau_t, Slope())
    else:
        if POLICIES[config.policy].learned:
            # The temperature's gradient is a small difference of sums over the logits, which a
            # constant in them would drown.
            student, teacher = (side - side.mean(-1, keepdim=True) for side in (student, teacher))
        # A product takes a third of a quotient's time.
        soft_student = student * temperatures.tau_s.reciprocal().unsqueeze(-1)
        soft_teacher = teacher * temperatures.tau_t.reciprocal().unsqueeze(-1)
    of_rows = Temperatures(tau_t, tau_s, slope, temperatures.scaling_tau)
    weight = scaled_weight(config, teacher, of_rows)
    return Softened(soft_student, soft_teacher, weight, tau_t, tau_s, slope)


def scaled_weight(config: TrialConfig, teacher: Tensor, temperatures: Temperatures) -> Tensor:
    """Returns the scaling's factor [N], from temperatures, both [N], and the teacher's logits
    [N, V]. No gradient goes through it but a learned temperature's."""
    tau_t, tau_s, tau = temperatures.tau_t, temperatures.tau_s, temperatures.scaling_tau
    if not POLICIES[config.policy].learned:
        tau_t, tau_s = tau_t.detach(), tau_s.detach()
    tau = tau_s if tau is None else tau.expand_as(tau_s)
    factor = SCALINGS[config.scaling or Scaling.NONE](tau_t, tau, tau_s)
    if config.weight_by_power_sum:
        factor = factor * _power_sum(teacher, tau_t)
    return factor


SCALINGS: dict[Scaling, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    Scaling.NONE: lambda tau_t, tau, tau_s: torch.ones_like(tau_t),
    Scaling.TAU: lambda tau_t, tau, tau_s: tau,
    Scaling.TAU_SQUARED: lambda tau_t, tau, tau_s: tau.square(),
    Scaling.TEACHER_STUDENT: lambda tau_t, tau, tau_s: tau_t * tau_s,
    Scaling.TEACHER_SQUARED: lambda tau_t, tau, tau_s: tau_t.square(),
}


def _power_sum(teacher: Tensor, tau_t: Tensor) -> Tensor:
    """Returns Σ p^(1/tau) [N] of the unsoftened p: WTTM's weight, larger for flatter teachers."""
    normaliser = torch.logsumexp(teacher, dim=-1) / tau_t
    return (torch.logsumexp(teacher / tau_t.unsqueeze(-1), dim=-1) - normaliser).exp()


def _wide(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _largest_centred(given: PolicyInput) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the largest centred logit of student and teacher, and the student's column of it,
    each [N]."""
    largest, place = largest_logit(given.student)
    mean_s, mean_t = (mean.squeeze(-1) for mean in given.means)
    return largest - mean_s, given.teacher.amax(-1) - mean_t, place


def largest_logit(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the largest logit and the first column that has it, each [N].

    On a CPU torch finds a column ten times slower than a value, so the value is found for each
    block of columns, and the column within the first block that has the largest one. Ties go to the
    first column either way, so that the gradient does not depend on the way.
    """
    width = logits.shape[-1]
    num_blocks = width // BLOCK
    if logits.device.type != "cpu" or num_blocks < BLOCK:
        return logits.max(-1)
    end = num_blocks * BLOCK
    blocks = [logits[:, :end].view(-1, num_blocks, BLOCK).amax(-1)]
    if end < width:
        blocks.append(logits[:, end:].amax(-1, keepdim=True))
    largest, block = torch.cat(blocks, dim=-1).max(-1)
    columns = block.unsqueeze(-1) * BLOCK + torch.arange(BLOCK)
    columns = columns.clamp_max(width - 1)  # the last block may be a shorter one
    found = logits.gather(-1, columns).argmax(-1, keepdim=True)
    return largest, columns.gather(-1, found).squeeze(-1)


def _deviation(centred: Tensor) -> Tensor:
    """Returns the standard deviation [N] over the vocabulary, of centred logits [N, V]."""
    norm: Tensor = torch.linalg.vector_norm(centred, dim=-1)
    return norm / math.sqrt(centred.shape[-1])


def _clamp(config: TrialConfig, found: Temperatures) -> Temperatures:
    """Returns both temperatures clamped; a clamped student's no longer follows its logits, and one
    that is detached never does."""
    bounds = (config.tau_min, config.tau_max)
    tau_t, tau_s = found.tau_t.clamp(*bounds), found.tau_s.clamp(*bounds)
    slope = Slope()
    if found.slope is not None and not config.detach_student_temperature:
        slope = found.slope.where(tau_s == found.tau_s)
    return replace(found, tau_t=tau_t, tau_s=tau_s, slope=slope)
