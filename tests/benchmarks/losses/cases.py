"""Sizes, inputs and the ways to compute a loss that the benchmark compares."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext
from trainers.losses.fused.chunks import aligned_buffer, chunk_rows, linear, pad
from trainers.losses.passes import measures
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.catalogue import POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.traits import Policy, Scaling

Step = Callable[[], None]
SEQUENCE = 128
LIGER_CHUNK = 128


@dataclass(frozen=True)
class Size:
    """Positions N, student's and teacher's width, vocabulary V."""

    positions: int
    student_width: int
    teacher_width: int
    vocab: int


GPT2 = Size(positions=1024, student_width=768, teacher_width=1600, vocab=50_257)
FEW = (
    Size(positions=128, student_width=64, teacher_width=128, vocab=10),
    Size(positions=256, student_width=64, teacher_width=128, vocab=300),
    Size(positions=600, student_width=64, teacher_width=128, vocab=300),
    Size(positions=1024, student_width=64, teacher_width=128, vocab=512),
)
QWEN = Size(positions=1024, student_width=896, teacher_width=1536, vocab=151_936)


class Inputs:
    """Hidden states and output matrices whose logits have standard deviations of 3 and 4, which
    gives entropies like those of trained models; gradients go to the student's two."""

    def __init__(self, size: Size, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.size = size
        generator = torch.Generator().manual_seed(0)

        def draw(rows: int, width: int, scale: float) -> Tensor:
            drawn = torch.randn(rows, width, generator=generator) * scale
            return drawn.to(device, dtype)

        self.hidden = draw(size.positions, size.student_width, 1.0).requires_grad_()
        self.weight = draw(size.vocab, size.student_width, 3 / math.sqrt(size.student_width))
        self.weight.requires_grad_()
        self.teacher = draw(size.positions, size.teacher_width, 1.0)
        self.teacher_weight = draw(
            size.vocab, size.teacher_width, 4 / math.sqrt(size.teacher_width)
        )
        labels = torch.randint(size.vocab, (size.positions,), generator=generator)
        self.labels = labels.to(device)

    def clear(self) -> None:
        """Frees the gradients of the step before."""
        self.hidden.grad = self.weight.grad = None

    def backward(self, total: Tensor) -> None:
        """Back-propagates a sum over positions as their mean."""
        (total / self.size.positions).backward()


def config_of(divergence: str, policy: str, **fields: float) -> TrialConfig:
    """Returns the row with its defaults, and temperature 2 where the policy has one."""
    has_tau = "tau" in POLICIES[Policy(policy)].parameters
    given = ({"tau": 2.0} if has_tau else {}) | fields
    return TrialConfig(divergence=divergence, policy=policy, **given)


def ours(inputs: Inputs, config: TrialConfig, *, fused: bool | None) -> Step:
    """Returns one forward and backward pass of our loss; fused None: as a trial would."""
    loss = DistillationLoss(config, inputs.size.vocab, fused=fused).to(inputs.hidden.device)
    ids = torch.arange(inputs.size.positions, device=inputs.hidden.device) // SEQUENCE
    signal = TeacherSignal(inputs.teacher, OutputHead(inputs.teacher_weight))

    def step() -> None:
        inputs.clear()
        head = OutputHead(inputs.weight)
        context = LossContext(sequence_ids=ids, step=1, num_steps=10)
        inputs.backward(loss(inputs.hidden, head, inputs.labels, signal, context).total)

    return step


def matmuls(inputs: Inputs, config: TrialConfig | None = None) -> Step:
    """Returns the matrix products of the fused loss and nothing else, in the same chunks and
    buffers: student, teacher, gradients of hidden states and of the weight (in the weight's own
    dtype), and the first pass's where there is one."""
    size, first = inputs.size, measures(config) if config else []
    weight, hidden = pad(inputs.weight.detach()), inputs.hidden.detach()
    teacher_weight = pad(inputs.teacher_weight)
    chunk = chunk_rows(size.positions, weight)
    buffer, other = (aligned_buffer(weight, chunk).zero_() for _ in range(2))

    def step() -> None:
        gradient = torch.empty_like(weight)
        for start in range(0, size.positions, chunk):
            stop = min(start + chunk, size.positions)
            rows, own, theirs = slice(start, stop), buffer[: stop - start], other[: stop - start]
            for one in first:
                if one.needs_student:
                    linear(hidden[rows], weight, None, own)
                linear(inputs.teacher[rows], teacher_weight, None, theirs)
            linear(hidden[rows], weight, None, own)
            linear(inputs.teacher[rows], teacher_weight, None, theirs)
            torch.mm(own, weight)
            gradient.addmm_(own.t(), hidden[rows], beta=0 if start == 0 else 1)

    return step


def trl(inputs: Inputs) -> Step:
    """Returns TRL's generalized JSD (beta ½) of full logits, without a hard loss."""
    from trl.experimental.gkd import GKDTrainer

    def step() -> None:
        inputs.clear()
        student = torch.nn.functional.linear(inputs.hidden, inputs.weight)
        teacher = torch.nn.functional.linear(inputs.teacher, inputs.teacher_weight)
        GKDTrainer.generalized_jsd_loss(
            student.unsqueeze(0),
            teacher.unsqueeze(0),
            labels=inputs.labels.unsqueeze(0),
            beta=0.5,
            temperature=2.0,
        ).backward()

    return step


def trl_chunked(inputs: Inputs, config: TrialConfig, *, check: bool) -> Step:
    """Returns TRL's chunked divergence of hidden states, without a hard loss: `generalized_jsd`, or
    forward KL. Its chunks are of the vocabulary, so that it projects three times for the JSD and
    twice for forward KL; on a GPU its elementwise work is in Triton kernels.

    check: raises `ValueError` where its value is not ours.
    """
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    beta = config.beta or 0.0

    def divergence() -> Tensor:
        sides = inputs.hidden, inputs.weight, None, inputs.teacher, inputs.teacher_weight, None
        each, _ = ChunkedDivergenceFunction.apply(*sides, beta, config.tau)
        return each.sum()

    def step() -> None:
        inputs.clear()
        inputs.backward(divergence())

    if check:
        check_value(inputs, config, divergence)
    return step


@torch.no_grad()
def check_value(inputs: Inputs, config: TrialConfig, divergence: Callable[[], Tensor]) -> None:
    """Raises `ValueError` where a peer's sum over positions, without a factor of tau, is not that
    of our plain form."""
    alone = config.model_copy(
        update={"hard_weight": 0.0, "soft_weight": 1.0, "scaling": Scaling.NONE}
    )
    loss = DistillationLoss(alone, inputs.size.vocab, fused=False).to(inputs.hidden.device)
    signal = TeacherSignal(inputs.teacher, OutputHead(inputs.teacher_weight))
    head = OutputHead(inputs.weight)
    wanted = float(loss(inputs.hidden, head, inputs.labels, signal, LossContext()).total)
    found = float(divergence())
    tolerance = 1e-5 if inputs.hidden.dtype == torch.float32 else 1e-2
    if not math.isclose(found, wanted, rel_tol=tolerance):
        raise ValueError(f"the same sum as ours must come out, {wanted}, but got {found}")


def liger_chunked(inputs: Inputs) -> Step:
    """Returns Liger's chunked linear JSD (beta ½) with its hard loss, not compiled."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.1,
        weight_soft_loss=0.9,
        beta=0.5,
        temperature=2.0,
        compiled=False,
        chunk_size=LIGER_CHUNK,
    )

    def step() -> None:
        inputs.clear()
        loss(
            inputs.hidden, inputs.weight, inputs.teacher, inputs.teacher_weight, inputs.labels
        ).backward()

    return step


def liger_triton(inputs: Inputs) -> Step:
    """Returns Liger's Triton linear JSD (beta ½), without a hard loss; its weight's gradient is
    summed in float32, as ours. Needs a GPU."""
    from liger_kernel.transformers import LigerFusedLinearJSD

    loss = LigerFusedLinearJSD(jsd_beta=0.5, temperature=2.0, accum_dtype=torch.float32)

    def step() -> None:
        inputs.clear()
        loss(
            inputs.hidden, inputs.weight, inputs.teacher, inputs.teacher_weight, inputs.labels
        ).backward()

    return step


def variants(inputs: Inputs, *, check: bool = True) -> dict[str, Callable[[], Step]]:
    """Returns every way to compute the two main losses, by name; made when called, and compared
    with ours then."""
    jsd, forward = config_of("generalized_jsd", "fixed"), config_of("forward_kl", "fixed")
    return {
        "matmuls": lambda: matmuls(inputs),
        "jsd fused": lambda: ours(inputs, jsd, fused=True),
        "jsd plain": lambda: ours(inputs, jsd, fused=False),
        "jsd trl": lambda: trl(inputs),
        "jsd trl chunked": lambda: trl_chunked(inputs, jsd, check=check),
        "jsd liger": lambda: liger_chunked(inputs),
        "jsd liger triton": lambda: liger_triton(inputs),
        "forward_kl fused": lambda: ours(inputs, forward, fused=True),
        "forward_kl plain": lambda: ours(inputs, forward, fused=False),
        "forward_kl trl chunked": lambda: trl_chunked(inputs, forward, check=check),
    }


def with_positions(size: Size, positions: int) -> Size:
    """Returns the size with another number of positions."""
    return replace(size, positions=positions)
