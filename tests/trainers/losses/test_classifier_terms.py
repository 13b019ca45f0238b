"""The soft losses of image classification, against numbers of a NumPy program in float64 whose
gradients were checked by autograd, and against formulas written out here."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext
from trainers.losses.passes import BatchSettings
from trainers.losses.soft_term import SoftTerm
from trainers.losses.weighted import centred_mse
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.config import TrialConfig

ROW = torch.tensor([[0.5, -1.0, 2.0, 0.3, -0.4]], dtype=torch.float64)
ROW_TEACHER = torch.tensor([[1.2, 0.1, 1.5, -0.7, -1.1]], dtype=torch.float64)
BATCH = torch.tensor(
    [[0.5, -1, 2], [0.2, 1, -0.5], [1.5, 0.3, -0.7], [-0.2, 0.1, 0.4]], dtype=torch.float64
)
BATCH_TEACHER = torch.tensor(
    [[1.2, 0.1, 1.5], [-0.3, 2, 0.4], [2.2, -0.5, 0.1], [0.3, 0.6, -0.9]], dtype=torch.float64
)
LABELS = (2, 1, 0, 1)


def mean_of(
    student: Tensor, teacher: Tensor, labels: tuple[int, ...], **config: Any
) -> tuple[float, Tensor]:
    """Mean of the soft loss over the rows, and its gradient; that of the walk in chunks is held to
    it."""
    leaf = student.clone().requires_grad_()
    term = SoftTerm(TrialConfig.model_validate(config), student.shape[-1])
    value = term.values(leaf, teacher, torch.tensor(labels), BatchSettings()).mean()
    value.backward()
    assert leaf.grad is not None
    walked = leaf.detach().clone().requires_grad_()
    eye = OutputHead(torch.eye(student.shape[-1], dtype=torch.float64))
    sums = DistillationLoss(term.config, student.shape[-1], fused=True)(
        walked, eye, torch.tensor(labels), TeacherSignal(teacher, eye), LossContext()
    )
    (sums.total / len(student)).backward()
    assert walked.grad is not None
    assert sums.soft.item() / len(student) == pytest.approx(value.item(), rel=1e-10, abs=1e-12)
    hard = student.softmax(-1) - torch.nn.functional.one_hot(torch.tensor(labels), len(student[0]))
    whole = 0.1 * hard / len(student) + 0.9 * leaf.grad
    torch.testing.assert_close(walked.grad, whole, rtol=1e-9, atol=1e-10)
    return value.item(), leaf.grad


@pytest.mark.parametrize(
    ("label", "value", "slope"),
    [
        (0, 3.7406502634, [-0.2543188161, -3.4326962052, 0.0950743037, 2.316537081, 1.2754036366]),
        (2, 3.0954504576, [-1.592863394, -1.8803977805, 0.1177081382, 2.0644545217, 1.2910985146]),
        (4, 0.5593681782, [0.1023726449, 0.0703596213, 0.1489513194, 0.0973798721, -0.4190634576]),
    ],
)
def test_refined_where_the_teacher_is_wrong_right_and_ranks_nothing_below(
    label: int, value: float, slope: list[float]
) -> None:
    found, by_logits = mean_of(
        ROW, ROW_TEACHER, (label,), divergence="refined", tau=4.0, target_tau=4.0
    )
    assert found == pytest.approx(value, abs=1e-9)
    assert by_logits[0].tolist() == pytest.approx(slope, abs=1e-9)


def test_refined_where_the_teacher_is_right_has_the_others_of_decoupled() -> None:
    weights = {"target_weight": 0.0, "non_target_weight": 3.0, "tau": 2.0}
    label = int(ROW_TEACHER.argmax())
    refined, decoupled = (
        mean_of(ROW, ROW_TEACHER, (label,), divergence=name, **weights)
        for name in ("refined", "decoupled")
    )
    assert refined[0] == pytest.approx(decoupled[0], rel=1e-12)
    torch.testing.assert_close(refined[1], decoupled[1])


def test_improved_kl() -> None:
    found, slope = mean_of(ROW, ROW_TEACHER, (0,), divergence="improved_kl", tau=4.0)
    assert found == pytest.approx(4.3189341122, abs=1e-9)
    expected = [-1.2659027543, -1.8925383838, 0.6937594391, 1.4742142388, 0.9904674601]
    assert slope[0].tolist() == pytest.approx(expected, abs=1e-9)


def test_improved_kl_with_uniform_weights_is_the_centred_square() -> None:
    only_pairs = {"cross_entropy_weight": 0.0, "pair_weight": 1.0, "pair_tau": 1000.0}
    found, _ = mean_of(BATCH, BATCH_TEACHER / 1e6, LABELS, divergence="improved_kl", **only_pairs)
    expected = centred_mse(student_logits=BATCH, teacher_logits=BATCH_TEACHER / 1e6).mean()
    assert found == pytest.approx(expected.item(), rel=1e-6)


def test_concrete_score_weighted_by_the_teacher_twice_is_improved_kls_pairs() -> None:
    pairs = {"cross_entropy_weight": 0.0, "pair_weight": 1.0, "pair_tau": 1.0}
    ours = mean_of(ROW, ROW_TEACHER, (0,), divergence="improved_kl", **pairs)
    other = mean_of(
        ROW, ROW_TEACHER, (0,), divergence="concrete_score", weighting="teacher_teacher"
    )
    assert ours[0] == pytest.approx(other[0], rel=1e-12)
    torch.testing.assert_close(ours[1], other[1])


def test_generalized_kl() -> None:
    found, slope = mean_of(ROW, ROW_TEACHER, (0,), divergence="generalized_kl", tau=4.0)
    assert found == pytest.approx(5.6279990516, abs=1e-9)
    expected = [-1.9578549813, -2.7547694597, 1.1819232977, 2.1242595587, 1.4064415846]
    assert slope[0].tolist() == pytest.approx(expected, abs=1e-9)


def test_generalized_kl_divides_by_the_weights_of_the_whole_batch() -> None:
    only_pairs = {"cross_entropy_weight": 0.0, "pair_weight": 2.0}
    found, _ = mean_of(BATCH, BATCH_TEACHER, LABELS, divergence="generalized_kl", **only_pairs)
    weights = (BATCH_TEACHER / 4).softmax(-1) ** 0.3
    gaps = BATCH_TEACHER - BATCH
    above, below = 0.0, 0.0
    for weight, gap in zip(weights.tolist(), gaps.tolist(), strict=True):
        for a, of_a in zip(weight, gap, strict=True):
            for b, of_b in zip(weight, gap, strict=True):
                above += a * b * (of_a - of_b) ** 2 / 4
                below += a * b
    assert found == pytest.approx(2 * above / below, rel=1e-12)


def test_generalized_kl_of_one_row_with_power_1_is_improved_kl() -> None:
    same = {"pair_tau": 3.0, "pair_weight": 5.0}
    ours = mean_of(ROW, ROW_TEACHER, (0,), divergence="generalized_kl", pair_power=1.0, **same)
    other = mean_of(ROW, ROW_TEACHER, (0,), divergence="improved_kl", **same)
    assert ours[0] == pytest.approx(other[0], rel=1e-12)
    torch.testing.assert_close(ours[1], other[1])


def test_logit_standardization_with_the_teachers_scaling_is_normkd() -> None:
    """NormKD's standard deviation divides by V - 1, ours by V."""
    tau = 2 * math.sqrt(5 / 4)
    found, slope = mean_of(
        ROW, ROW_TEACHER, (0,), policy="logit_standardization", tau=tau, scaling="teacher_squared"
    )
    assert found == pytest.approx(0.2933222966, abs=1e-9)
    expected = [-0.2068960826, -0.0696213499, 0.0208260312, 0.1349302707, 0.1207611305]
    assert slope[0].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("outliers", "total"), [("hard_loss", 0.4640433722), ("hard_target", 6.8894275583)]
)
def test_entropy_gated(outliers: str, total: float) -> None:
    shares = {"entropy_min": 1.0 / math.log(3), "entropy_max": 1.08 / math.log(3)}
    soft, _ = mean_of(
        BATCH,
        BATCH_TEACHER,
        LABELS,
        divergence="entropy_gated",
        tau=4.0,
        outliers=outliers,
        **shares,
    )
    hard = torch.nn.functional.cross_entropy(BATCH, torch.tensor(LABELS)).item()
    assert 0.1 * hard + 0.9 * soft == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(("tau", "value"), [(1.0, 0.6254976343), (4.0, 0.7893240747)])
def test_correlation(tau: float, value: float) -> None:
    """Theirs adds 1e-8 to the norms, which shows from the seventh digit on."""
    found, slope = mean_of(
        BATCH, BATCH_TEACHER, LABELS, divergence="correlation", tau=tau, scaling="none"
    )
    assert found == pytest.approx(value, abs=1e-6)
    if tau == 1.0:
        assert slope[0].tolist() == pytest.approx(
            [-0.0419856004, 0.0060103526, 0.0359752478], abs=1e-6
        )
        assert slope[3].tolist() == pytest.approx(
            [0.1038729709, -0.3887518412, 0.2848788703], abs=1e-6
        )


def products(tau: float) -> tuple[float, float]:
    """The class and the batch part at one temperature, entry by entry."""
    q, p = ((side / tau).softmax(-1).tolist() for side in (BATCH, BATCH_TEACHER))
    rows, classes = range(4), range(3)

    def gram(x: list[list[float]], a: int, b: int, *, by_class: bool) -> float:
        if by_class:
            return sum(x[n][a] * x[n][b] for n in rows)
        return sum(x[a][c] * x[b][c] for c in classes)

    by_class, by_row = (
        sum(
            (gram(q, a, b, by_class=kind) - gram(p, a, b, by_class=kind)) ** 2
            for a in among
            for b in among
        )
        / len(among)
        for kind, among in ((True, classes), (False, rows))
    )
    return by_class, by_row


def test_the_products_are_those_of_the_published_example() -> None:
    assert products(2.0) == pytest.approx((0.0344852219, 0.010702232), abs=1e-9)
    assert products(4.0) == pytest.approx((0.005557641, 0.0007796939), abs=1e-9)


def kl_rows(tau: float) -> Tensor:
    q, p = ((side / tau).softmax(-1) for side in (BATCH, BATCH_TEACHER))
    return tau**2 * (p * (p / q).log()).sum(-1)


def test_multi_level_sums_five_temperatures() -> None:
    taus = (4.0, 3.0, 5.0, 2.0, 6.0)
    found, _ = mean_of(
        BATCH, BATCH_TEACHER, LABELS, divergence="multi_level", tau=4.0, masks="none"
    )
    expected = sum(kl_rows(tau).mean().item() + sum(products(tau)) for tau in taus)
    assert found == pytest.approx(expected, rel=1e-9)


def test_masks_per_sample_and_as_published() -> None:
    only_kl = {"divergence": "multi_level", "tau": 4.0, "class_weight": 0.0, "batch_weight": 0.0}
    kept = torch.tensor([1.0, 0, 0, 1])  # the two rows of which the teacher is least sure
    taus = (4.0, 3.0, 5.0, 2.0, 6.0)
    found, _ = mean_of(BATCH, BATCH_TEACHER, LABELS, masks="per_sample", **only_kl)
    expected = sum((kept * kl_rows(tau)).mean().item() for tau in taus)
    assert found == pytest.approx(expected, rel=1e-9)
    # one temperature of it, as in the published example
    assert (kept * kl_rows(2.0)).mean().item() == pytest.approx(0.1347569037, abs=1e-9)
    found, _ = mean_of(BATCH, BATCH_TEACHER, LABELS, masks="as_published", **only_kl)
    assert found == pytest.approx(0.5 * sum(kl_rows(tau).mean().item() for tau in taus), rel=1e-9)


def test_classes_are_masked_by_the_teacher_at_temperature_1() -> None:
    only_classes = {"divergence": "multi_level", "tau": 4.0, "batch_weight": 0.0}
    found, _ = mean_of(BATCH, BATCH_TEACHER, LABELS, **only_classes)
    rest, _ = mean_of(BATCH, BATCH_TEACHER, LABELS, **only_classes, class_weight=0.0)
    kept = torch.tensor([0.0, 1, 1])  # as the published example has them
    expected = 0.0
    for tau in (4.0, 3.0, 5.0, 2.0, 6.0):
        q, p = ((side / tau).softmax(-1) for side in (BATCH, BATCH_TEACHER))
        expected += (kept[:, None] * (q.T @ q - p.T @ p) ** 2).sum().item() / 3
    assert found - rest == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "divergence", [name for name, row in DIVERGENCES.items() if row.couples_rows]
)
def test_a_batch_term_is_never_chunked(divergence: str) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight, teacher = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((200, 8), (30, 8), (200, 30))
    )
    signal = TeacherSignal(teacher, OutputHead.identity(30, torch.device("cpu"), torch.float64))
    config = TrialConfig(divergence=divergence)
    sums = [
        DistillationLoss(config, 30, fused=fused)(
            hidden, OutputHead(weight), torch.arange(200) % 30, signal, LossContext()
        )
        for fused in (True, False)
    ]
    assert torch.equal(sums[0].soft, sums[1].soft)
    halves = DistillationLoss(config, 30)(
        hidden[:100],
        OutputHead(weight),
        torch.arange(100) % 30,
        TeacherSignal(teacher[:100], signal.head),
        LossContext(),
    )
    assert not torch.allclose(halves.soft * 2, sums[0].soft)


def test_the_soft_weight_rises_over_its_warm_up() -> None:
    config = TrialConfig(soft_warmup=0.5)
    head = OutputHead.identity(5, torch.device("cpu"), torch.float64)
    loss = DistillationLoss(config, 5)
    labels, signal = torch.tensor([1]), TeacherSignal(ROW_TEACHER, head)
    for step, share in ((0, 0.2), (2, 0.6), (4, 1.0), (9, 1.0)):
        sums = loss(ROW, head, labels, signal, LossContext(step=step, num_steps=10))
        total = 0.1 * sums.hard + share * 0.9 * sums.soft
        assert sums.total.item() == pytest.approx(total.item(), rel=1e-12)
