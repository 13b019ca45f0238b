"""The fused loss in low precision, at extremes, and on a GPU."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from fused_loss_support import CONTEXT, PAIRS, compare, make_batch, make_config, run, shrink_chunks
from torch import Tensor

from trainers.losses import DIVERGENCE_FUNCTIONS, DistillationLoss
from trainers.losses.context import LossInputs
from trainers.losses.fused import weight_gradient
from trainers.losses.fused.closed_form import CLOSED_FORMS
from trainers.losses.fused.closed_parts import DivergenceInput
from trainers.losses.passes import BatchSettings
from trainers.losses.soft_term import SoftTerm
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.config import TrialConfig


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_chunks(monkeypatch)


@pytest.mark.parametrize(("name", "policy"), [("forward_kl", "fixed"), ("reverse_kl", "cist")])
def test_bfloat16_sums_the_weight_gradient_in_float32(name: str, policy: str) -> None:
    low = make_batch(200, dtype=torch.bfloat16)
    assert low.head.bias is not None and low.signal is not None
    high = LossInputs(
        low.hidden.double(),
        OutputHead(low.head.weight.double(), low.head.bias.double()),
        low.labels,
        TeacherSignal(
            low.signal.hidden.double(),
            OutputHead(low.signal.head.weight.double(), low.signal.head.bias.double()),  # type: ignore[union-attr]
        ),
    )
    config = make_config(name, policy)
    _, exact = run(config, high, fused=False)
    _, plain = run(config, low, fused=False)
    _, found = run(config, low, fused=True)
    for grad, other, reference in zip(found, plain, exact, strict=True):
        assert grad.dtype == torch.bfloat16
        # The plain form adds up all positions in one product: 20 chunks must not be worse.
        error, others = ((g.double() - reference).norm() for g in (grad, other))
        assert error < 1.1 * others


def test_autocast_computes_products_in_bfloat16_and_keeps_float32_gradients() -> None:
    batch = make_batch(dtype=torch.float32)
    config = make_config("forward_kl", "cist")
    plain, plain_grads = run(config, batch, fused=False, autocast=True)
    fused, fused_grads = run(config, batch, fused=True, autocast=True)
    exact, _ = run(config, batch, fused=True)
    assert fused.total.dtype == torch.float32
    assert fused.total.item() == pytest.approx(plain.total.item(), rel=1e-3)
    assert fused.total.item() != exact.total.item()
    for expected, found in zip(plain_grads, fused_grads, strict=True):
        assert found.dtype == torch.float32
        assert (found - expected).norm() / expected.norm() < 0.02


def test_products_are_added_unrounded_where_torch_can(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_addmm, calls = torch.addmm, 0

    def addmm(total: Tensor, first: Tensor, second: Tensor, **given: Any) -> Tensor:
        """What a GPU does when asked for another dtype of the sum."""
        nonlocal calls
        if "out_dtype" not in given:
            return plain_addmm(total, first, second, **given)
        calls += 1
        wide = given["out_dtype"]
        return given["out"].copy_(total + first.to(wide) @ second.to(wide))  # type: ignore[no-any-return]

    low = make_batch(200, dtype=torch.bfloat16)
    config = make_config("forward_kl", "fixed")
    _, rounded = run(config, low, fused=True)
    monkeypatch.setattr(torch, "addmm", addmm)
    weight_gradient.adds_unrounded.cache_clear()
    try:
        _, found = run(config, low, fused=True)
    finally:
        weight_gradient.adds_unrounded.cache_clear()
    assert calls == 61  # one to try, then three parts of the matrix for each chunk of 10 positions
    torch.testing.assert_close(found[1], rounded[1], rtol=0.05, atol=1e-3)


WITH_LABELS = ["decoupled", "diverse_reverse_kl", "entropy_gated"]


@pytest.mark.parametrize("name", [*DIVERGENCE_FUNCTIONS, *WITH_LABELS])
@pytest.mark.parametrize("offsets", [(0.0, 0.0), (-100.0, -100.0), (-100.0, 0.0)])
def test_a_student_close_to_its_teacher_is_measured_as_exactly_as_by_the_plain_form(
    name: str, offsets: tuple[float, float]
) -> None:
    """Logits of GPT-2 lie about -100: a normaliser rounded at that size moves a whole row."""
    generator = torch.Generator().manual_seed(1)
    teacher = 2.5 * torch.randn(32, 4000, generator=generator)
    student = teacher + 0.05 * torch.randn(32, 4000, generator=generator)
    student, teacher = student + offsets[0], teacher + offsets[1]
    term = SoftTerm(TrialConfig(divergence=name, scaling="none"), 4000)
    labels = torch.arange(32)
    exact, plain = (
        term.values(*logits, labels, BatchSettings())
        for logits in ((student.double(), teacher.double()), (student, teacher))
    )
    given = DivergenceInput(
        student, teacher.clone(), labels.unsqueeze(-1), term.parameters, unsoftened=teacher
    )
    found, _ = CLOSED_FORMS[name](given, torch.ones(32, 1))
    assert (found - exact).abs().max() <= 3 * (plain - exact).abs().max() + 1e-6 * exact.max()


@pytest.mark.parametrize(
    ("name", "policy"), [(name, policy) for name, policy in PAIRS if policy in ("fixed", "none")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_80_stay_finite(name: str, policy: str, dtype: torch.dtype) -> None:
    signs = torch.randn(12, 53, generator=torch.Generator().manual_seed(0)).sign()
    eye = OutputHead(torch.eye(53, dtype=dtype).requires_grad_())
    hidden = (80 * signs).to(dtype).requires_grad_()
    signal = TeacherSignal(
        (80 * signs.roll(1, 0)).to(dtype), OutputHead(torch.eye(53, dtype=dtype))
    )
    context = replace(CONTEXT, sequence_ids=torch.zeros(12))
    config = TrialConfig(divergence=name, policy=policy)
    loss, labels = DistillationLoss(config, 53, fused=True), torch.zeros(12).long()
    sums = loss(hidden, eye, labels, signal, context)
    sums.total.backward()
    assert sums.total.isfinite() and hidden.grad is not None
    assert hidden.grad.isfinite().all() and eye.weight.grad.isfinite().all()  # type: ignore[union-attr]


def _on(device: str, batch: LossInputs) -> LossInputs:
    assert batch.signal is not None and batch.head.bias is not None
    theirs = batch.signal.head
    assert theirs.bias is not None
    return LossInputs(
        batch.hidden.to(device),
        OutputHead(batch.head.weight.to(device), batch.head.bias.to(device)),
        batch.labels.to(device),
        TeacherSignal(
            batch.signal.hidden.to(device),
            OutputHead(theirs.weight.to(device), theirs.bias.to(device)),
        ),
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("name", "policy"), PAIRS)
def test_equals_the_plain_form_on_a_gpu_where_bits_must_repeat(
    name: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        compare(make_config(name, policy), _on("cuda", make_batch()), 1e-10)
        low = _on("cuda", make_batch(dtype=torch.bfloat16))
        first, second = (run(make_config(name, policy), low, fused=True) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first[0].total, second[0].total)
    for once, again in zip(first[1], second[1], strict=True):
        assert torch.equal(once, again) and once.isfinite().all()
