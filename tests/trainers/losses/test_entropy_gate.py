"""Forward KL added to any divergence where the teacher is unsure: EOPD's loss by token."""

from pathlib import Path

import pytest
import torch
from fused_loss_support import ROWS, compare, make_batch, make_config, run, shrink_chunks
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext
from trainers.losses.observed import OWN, LogitRows, Observer
from trainers.losses.passes import BatchSettings
from trainers.losses.soft_term import SoftTerm
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.config import TrialConfig

GATE = {"forward_weight": 0.7, "entropy_threshold": 3.75}
STUDENT = torch.tensor([[0.5, -1.0, 2.0, 0.3, -0.4]], dtype=torch.float64)
TEACHER = torch.tensor([[1.2, 0.1, 1.5, -0.7, -1.1]], dtype=torch.float64)
FORWARD = (
    0.2184764294,
    [-0.1967016452, -0.0813116475, 0.1863963084, 0.067138132, 0.0244788524],
)


def soft_loss(fused: bool, **fields: object) -> tuple[float, Tensor]:
    """Value and gradient by the logits of the one row."""
    config = TrialConfig.model_validate({"hard_weight": 0, "soft_weight": 1, **fields})
    leaf = STUDENT.clone().requires_grad_()
    eye = torch.eye(5, dtype=torch.float64)
    sums = DistillationLoss(config, 5, fused=fused)(
        leaf,
        OutputHead(eye),
        torch.tensor([0]),
        TeacherSignal(TEACHER, OutputHead(eye)),
        LossContext(sequence_ids=torch.zeros(1)),
    )
    sums.total.backward()
    assert leaf.grad is not None
    return sums.soft.item(), leaf.grad[0]


# H(p) of TEACHER is 1.2381824325 nats.
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "alpha_beta", "decoupled"])
@pytest.mark.parametrize(("threshold", "is_added"), [(0.8, True), (1.2381, True), (1.2382, False)])
def test_forward_kl_is_added_where_the_teachers_entropy_reaches_the_threshold(
    fused: bool, divergence: str, threshold: float, is_added: bool
) -> None:
    alone, with_gate = (
        soft_loss(fused, divergence=divergence, **fields)
        for fields in ({}, {"forward_weight": 0.5, "entropy_threshold": threshold})
    )
    share = 0.5 if is_added else 0.0
    assert with_gate[0] - alone[0] == pytest.approx(share * FORWARD[0], abs=1e-9)
    added = (with_gate[1] - alone[1]).tolist()
    assert added == pytest.approx([share * slope for slope in FORWARD[1]], abs=1e-9)


# entropy_aware takes both parameters itself.
@pytest.mark.parametrize(("name", "policy"), [one for one in ROWS if one[0] != "entropy_aware"])
def test_it_is_scaled_and_softened_as_the_policy_says(name: str, policy: str) -> None:
    """The divergence aside: not weighted by a sequence, not to a mixed teacher, at any policy."""
    batch, rest = make_batch(), {"soft_weight": 1.0, "hard_weight": 0.1}
    assert batch.signal is not None
    with_gate, alone = (
        run(make_config(name, policy, **fields, **rest), batch, fused=False)[0].soft
        for fields in (GATE, {})
    )
    config = make_config(name, policy, **rest)
    loss = DistillationLoss(config, 53).double()
    softened = loss.softened(batch.head.logits(batch.hidden), batch.signal.logits())
    q, p = softened.student.softmax(-1), softened.teacher.softmax(-1)
    is_unsure = -(p * p.log()).sum(-1) >= 3.75
    assert policy != "fixed" or 0 < is_unsure.sum() < 37
    added = (softened.weight * is_unsure * 0.7 * (p * (p / q).log()).sum(-1)).sum()
    torch.testing.assert_close(with_gate - alone, added)


@pytest.mark.parametrize(("name", "policy"), ROWS)
def test_the_fused_form_equals_the_plain_one(
    name: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_chunks(monkeypatch)
    compare(make_config(name, policy, **GATE), make_batch(), 1e-10)


@pytest.mark.parametrize("fused", [False, True])
def test_reverse_kl_with_it_is_entropy_aware(fused: bool) -> None:
    fields = {"forward_weight": 1.0, "entropy_threshold": 0.8, "tau": 2.0}
    ours = soft_loss(fused, divergence="reverse_kl", **fields)
    theirs = soft_loss(fused, divergence="entropy_aware", **fields)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-12)
    torch.testing.assert_close(ours[1], theirs[1])


@pytest.mark.parametrize("fused", [False, True])
def test_a_weight_of_0_changes_no_bit(fused: bool) -> None:
    without, with_gate = (
        run(TrialConfig(policy="cist", **fields), make_batch(), fused=fused)
        for fields in ({}, {"forward_weight": 0.0})
    )
    assert torch.equal(without[0].total, with_gate[0].total)
    assert all(torch.equal(a, b) for a, b in zip(without[1], with_gate[1], strict=True))


def test_the_threshold_has_a_default_and_stands_for_nothing_alone() -> None:
    assert TrialConfig(forward_weight=2.0).entropy_threshold == 0.8
    assert TrialConfig().entropy_threshold is None
    with pytest.raises(ValueError, match="entropy_threshold belongs to entropy_aware, any diverge"):
        TrialConfig(entropy_threshold=0.5)
    with pytest.raises(ValueError, match="<= forward_weight <= 100.0 must hold, but got .*=-1"):
        TrialConfig(forward_weight=-1.0)


SOURCE = """
def squared(*, student_logits, teacher_logits):
    return (student_logits.log_softmax(-1) - teacher_logits.log_softmax(-1)).square().sum(-1)

def with_its_own(*, student_logits, teacher_logits, forward_weight=1.0):
    return forward_weight * squared(student_logits=student_logits, teacher_logits=teacher_logits)
"""


def test_a_divergence_of_the_users_own_has_it_unless_it_takes_the_parameter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gated_losses.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    values = []
    for name, fields in (
        ("squared", {}),
        ("squared", {"forward_weight": 0.5}),
        ("with_its_own", {"forward_weight": 3.0}),
    ):
        config = TrialConfig(divergence=f"gated_losses:{name}", **fields)
        term = SoftTerm(config, 5)
        values.append(term.values(STUDENT, TEACHER, torch.tensor([0]), BatchSettings()).item())
    assert values[1] - values[0] == pytest.approx(0.5 * FORWARD[0], abs=1e-9)
    assert values[2] == pytest.approx(3 * values[0])


def test_diagnostics_see_it_in_the_trials_own_gradient_alone() -> None:
    seen = []
    for fields in ({}, {"forward_weight": 1.0}):
        loss = DistillationLoss(TrialConfig(**fields), 5)
        rows = LogitRows(STUDENT, TEACHER, torch.tensor([0]), BatchSettings())
        observer = Observer(loss, LossContext())
        seen.append(observer.look(rows, with_ladder=False).gradients)
    assert seen[1][OWN].square == pytest.approx(4 * seen[0][OWN].square)
    for name in ("forward_kl", "reverse_kl"):
        assert torch.equal(seen[0][name].square, seen[1][name].square)
