"""Public implementations as oracles where they are right; skipped where they are not installed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainers.losses import DIVERGENCE_FUNCTIONS, DistillationLoss, LossContext
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.config import TrialConfig


def _jsd_of_trl() -> Callable[..., Tensor]:
    try:
        from trl.experimental.gkd import GKDTrainer
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"trl: {error}")
    return GKDTrainer.generalized_jsd_loss  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental':UserWarning")
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_generalized_jsd_is_trls(beta: float, tau: float) -> None:
    theirs = _jsd_of_trl()
    generator = torch.Generator().manual_seed(0)
    student, teacher = 2 * torch.randn(2, 6, 31, generator=generator, dtype=torch.float64)
    slopes = []
    for ours in (True, False):
        leaf = student.clone().requires_grad_()
        if ours:
            row = DIVERGENCE_FUNCTIONS["generalized_jsd"]
            value = row(student_logits=leaf / tau, teacher_logits=teacher / tau, beta=beta).sum()
        else:
            value = theirs(leaf[None], teacher[None], beta=beta, temperature=tau, reduction="sum")
        slopes.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    torch.testing.assert_close(slopes[0], slopes[1])


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_fused_jsd_is_ligers(beta: float) -> None:
    chunked = pytest.importorskip("liger_kernel.chunked_loss", reason="liger_kernel: not installed")
    generator = torch.Generator().manual_seed(0)
    shapes = ((40, 8), (31, 8), (40, 12), (31, 12))
    hidden, weight, teacher, teacher_weight = (
        torch.randn(*shape, generator=generator) for shape in shapes
    )
    labels = torch.randint(31, (40,), generator=generator)
    found = []
    for ours in (True, False):
        leaves = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if ours:
            config = TrialConfig(divergence="generalized_jsd", beta=beta, tau=2.0, scaling="none")
            signal = TeacherSignal(teacher, OutputHead(teacher_weight))
            sums = DistillationLoss(config, 31, fused=True)(
                leaves[0], OutputHead(leaves[1]), labels, signal, LossContext()
            )
            value = sums.total / 40
        else:
            loss = chunked.LigerFusedLinearJSDLoss(
                weight_hard_loss=0.1,
                weight_soft_loss=0.9,
                beta=beta,
                temperature=2.0,
                compiled=False,
            )
            value = loss(*leaves, teacher, teacher_weight, labels)
        value.backward()
        found.append((value.detach(), *(leaf.grad for leaf in leaves)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_fused_jsd_is_trls_chunked_one(beta: float) -> None:
    name = "trl.kernels.chunked_divergence"
    chunked = pytest.importorskip(name, reason="trl: not installed", exc_type=ImportError)
    generator = torch.Generator().manual_seed(0)
    shapes = ((60, 8), (31, 8), (60, 12), (31, 12))
    hidden, weight, teacher, teacher_weight = (
        torch.randn(*shape, generator=generator) for shape in shapes
    )
    labels = torch.randint(31, (60,), generator=generator)
    found = []
    for ours in (True, False):
        leaves = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if ours:
            config = TrialConfig(
                divergence="generalized_jsd",
                beta=beta,
                tau=2.0,
                scaling="none",
                hard_weight=0.0,
                soft_weight=1.0,
            )
            signal = TeacherSignal(teacher, OutputHead(teacher_weight))
            value = DistillationLoss(config, 31, fused=True)(
                leaves[0], OutputHead(leaves[1]), labels, signal, LossContext()
            ).total
        else:
            sides = *leaves, None, teacher, teacher_weight, None
            each, _ = chunked.ChunkedDivergenceFunction.apply(*sides, beta, 2.0)
            value = each.sum()
        value.backward()
        found.append((value.detach(), *(leaf.grad for leaf in leaves)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
