"""The GPU's kernel, interpreted on a CPU, against the closed form in float64."""

import os

import pytest
import torch
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext
from trainers.losses.fused import kernel
from trainers.losses.fused import walk as fused
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.config import TrialConfig

if torch.cuda.is_available():
    pytest.skip("compiled, the kernel is held to this in test_gpu", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # read when the kernel is imported
pytest.importorskip("triton", reason="needs triton, which comes with torch's CUDA builds")

CONFIGS = {
    "forward KL": {"divergence": "forward_kl", "tau": 2.0},
    "reverse KL": {"divergence": "reverse_kl", "tau": 0.7, "hard_weight": 0.5},
    "JSD": {"divergence": "generalized_jsd", "tau": 2.0, "beta": 0.3},
    "JSD, unit curvature": {
        "divergence": "generalized_jsd",
        "beta": 0.8,
        "unit_curvature": True,
        "policy": "fixed_teacher",
        "tau": 3.0,
    },
    "JSD's end": {"divergence": "generalized_jsd", "beta": 1.0, "tau": 2.0, "scaling": "none"},
    "forward KL, CIST": {"divergence": "forward_kl", "policy": "cist"},
    "reverse KL, CIST": {"divergence": "reverse_kl", "policy": "cist", "rho": 5.0},
    "JSD, CIST": {"divergence": "generalized_jsd", "policy": "cist", "beta": 0.3},
    "CIST, detached": {
        "divergence": "forward_kl",
        "policy": "cist",
        "detach_student_temperature": True,
    },
    "dynamic": {"divergence": "reverse_kl", "policy": "dynamic", "tau": 2.0},
    "token adaptive": {"divergence": "forward_kl", "policy": "token_adaptive", "tau": 2.0},
}


def run(config: TrialConfig, dtype: torch.dtype, vocab: int) -> list[Tensor]:
    """Sums and gradients by hidden states and output matrix, in float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(rows: int, width: int, scale: float) -> Tensor:
        drawn = torch.randn(rows, width, generator=generator, dtype=torch.float64)
        return (drawn * scale).to(torch.float32).to(dtype)

    hidden, weight = draw(7, 8, 1.0).requires_grad_(), draw(vocab, 8, 1.0).requires_grad_()
    signal = TeacherSignal(draw(7, 12, 1.0), OutputHead(draw(vocab, 12, 1.2)))
    labels = torch.randint(vocab, (7,), generator=generator)
    loss = DistillationLoss(config, vocab, fused=True)
    sums = loss(hidden, OutputHead(weight), labels, signal, LossContext(step=1, num_steps=10))
    sums.total.backward()
    assert hidden.grad is not None and weight.grad is not None
    return [t.double() for t in (sums.total, sums.hard, sums.soft, hidden.grad, weight.grad)]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("vocab", [61, 5003])
def test_equals_the_closed_form(name: str, vocab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrialConfig(**CONFIGS[name])  # type: ignore[arg-type]
    expected = run(config, torch.float64, vocab)
    asked = []

    def everywhere(config: TrialConfig, hidden: Tensor) -> bool:
        asked.append(config)
        return True

    monkeypatch.setattr(fused, "has_kernel", everywhere)
    found = run(config, torch.float32, vocab)
    assert asked
    for one, other in zip(expected, found, strict=True):
        assert (other - one).norm() <= 2e-5 * one.norm()


def test_a_cpu_and_other_rows_go_another_way() -> None:
    config, on_gpu = TrialConfig(), torch.zeros(1, device="meta")
    assert not kernel.has_kernel(config, torch.zeros(1))
    assert set(kernel.WITH_KERNEL) < set(DIVERGENCES)
    assert not kernel.has_kernel(TrialConfig(divergence="jeffreys"), on_gpu)


def test_logits_out_of_exp_s_range_stay_finite() -> None:
    from trainers.losses.fused import row_kernel

    products = torch.tensor([[80.0, -80.0, 0.0], [-1e4, 0.0, 1e4]]).to(torch.bfloat16)
    teacher = products.flip(-1).contiguous()
    ones, labels = torch.ones(2), torch.tensor([1, 0])
    for kind in (row_kernel.FORWARD_KL, row_kernel.REVERSE_KL, row_kernel.GENERALIZED_JSD):
        work = row_kernel.RowWork(ones, ones, ones, ones, labels, kind, 0.5, 0.1)
        gradient = products.clone()
        hard, soft = row_kernel.values_and_gradient(gradient, teacher, labels, work)
        assert all(torch.isfinite(t).all() for t in (hard, soft, gradient))


@pytest.mark.parametrize("label", [-100, 3])
def test_a_label_outside_the_vocabulary_is_no_number(label: int) -> None:
    from trainers.losses.fused import row_kernel

    # The rows lie in a larger one: what is read beside them would be a number.
    products, teacher = torch.randn(2, 6, 203)[:, 2:4, 100:103]
    ones, labels = torch.ones(2), torch.tensor([1, label])
    work = row_kernel.RowWork(ones, ones, ones, None, None, row_kernel.FORWARD_KL, 0.0, 0.1)
    hard, _ = row_kernel.values_and_gradient(products, teacher, labels, work)
    assert hard.isnan().tolist() == [False, True]
