"""The fused loss equals the plain one: value and every gradient, for each row with each policy."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from fused_loss_support import CONTEXT, PAIRS, compare, make_batch, make_config, run, shrink_chunks
from torch import Tensor

from trainers.losses import DistillationLoss, distillation, soft_term
from trainers.losses.fused import chunks, closed_form
from trainers.losses.own import load as custom
from trainers.signal import OutputHead
from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.traits import MixtureOrder, Policy


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_chunks(monkeypatch)


@pytest.mark.parametrize(("name", "policy"), PAIRS)
def test_equals_the_plain_form_in_float64(name: str, policy: str) -> None:
    compare(make_config(name, policy), make_batch(), 1e-10)


@pytest.mark.parametrize(
    ("name", "policy"), [(name, policy) for name, policy in PAIRS if DIVERGENCES[name].smooth]
)
def test_equals_the_plain_form_in_float32(name: str, policy: str) -> None:
    compare(make_config(name, policy), make_batch(dtype=torch.float32), 1e-5)


@pytest.mark.parametrize("num", [1, 9, 10, 11, 30])
@pytest.mark.parametrize("vocab", [2, 31, 64])
def test_any_number_of_positions_and_entries(num: int, vocab: int) -> None:
    for policy in ("fixed", "cist"):
        compare(make_config("generalized_jsd", policy), make_batch(num, vocab, bias=False), 1e-10)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["forward_kl", "alpha_beta", "token_scaled"])
def test_a_padded_output_matrix_changes_nothing(
    name: str, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "pads", lambda weight: True)
    compare(make_config(name, "fixed"), make_batch(bias=bias), 1e-10)
    assert chunks.product_weight(make_batch()).shape == (64, 8)


@pytest.mark.parametrize("policy", ["fixed", "cist"])
def test_soft_cap_and_scale(policy: str) -> None:
    batch = make_batch()
    assert batch.signal is not None
    for cap, scale in ((None, 0.3), (4.0, 1.0), (4.0, 0.3)):
        head = replace(batch.head, soft_cap=cap, scale=scale)
        teacher = replace(batch.signal.head, soft_cap=cap, scale=1.7)
        signal = replace(batch.signal, head=teacher)
        compare(make_config("forward_kl", policy), replace(batch, head=head, signal=signal), 1e-10)
    # A cap so low that it is felt: the loss is another one.
    capped = replace(batch, head=replace(batch.head, soft_cap=0.5))
    plain, _ = run(TrialConfig(), batch, fused=True)
    assert not torch.isclose(run(TrialConfig(), capped, fused=True)[0].total, plain.total)


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.0), (0.5, 2.0)])
def test_loss_weights(weights: tuple[float, float]) -> None:
    config = TrialConfig(hard_weight=weights[0], soft_weight=weights[1], tau=2.0)
    compare(config, make_batch(), 1e-10)
    sums, _ = run(config, make_batch(), fused=True)
    torch.testing.assert_close(sums.total.detach(), weights[0] * sums.hard + weights[1] * sums.soft)


@pytest.mark.parametrize("fused", [False, True])
def test_without_a_teacher_it_is_the_cross_entropy(fused: bool) -> None:
    batch = replace(make_batch(), signal=None)
    sums, grads = run(TrialConfig(hard_weight=0.1), batch, fused=fused)
    logits = (batch.head.logits(batch.hidden)).requires_grad_()
    expected = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
    torch.testing.assert_close(sums.total, expected)
    torch.testing.assert_close(sums.hard, sums.total.detach())
    assert sums.soft == 0
    (by_logits,) = torch.autograd.grad(expected / 37, logits)
    torch.testing.assert_close(grads[1], by_logits.T @ batch.hidden)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("forward_kl", "fixed"),
        ("adaptive_kl", "cist"),
        ("token_scaled", "fixed"),
        ("forward_kl", "token_adaptive"),
        ("reverse_kl", "curriculum"),
    ],
)
def test_no_positions_give_zero_and_reach_every_parameter(
    fused: bool, name: str, policy: str
) -> None:
    sums, grads = run(make_config(name, policy), make_batch(0), fused=fused)
    assert sums.total == 0 and sums.hard == 0 and sums.soft == 0
    assert all((grad == 0).all() for grad in grads)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("name", "policy"), PAIRS)
def test_what_is_not_a_number_shows_in_the_loss(name: str, policy: str, fused: bool) -> None:
    """It is how a trial that diverges is told; an error in its place would end the worker."""
    batch = make_batch()
    assert batch.signal is not None
    for hidden in (batch.hidden, batch.signal.hidden):
        kept = hidden.detach().clone()
        hidden.data[3] = torch.nan
        sums, _ = run(make_config(name, policy), batch, fused=fused)
        assert sums.soft.isnan() and sums.total.isnan()
        hidden.data.copy_(kept)
    sums, _ = run(make_config(name, policy), batch, fused=fused)
    assert sums.total.isfinite()


def test_a_frozen_head_gets_no_gradient_and_costs_none() -> None:
    batch = make_batch()
    hidden = batch.hidden.clone().requires_grad_()
    loss = DistillationLoss(TrialConfig(tau=2.0), 53, fused=True)
    loss(hidden, batch.head, batch.labels, batch.signal, CONTEXT).total.backward()
    _, grads = run(TrialConfig(tau=2.0), batch, fused=False)
    torch.testing.assert_close(hidden.grad, 37 * grads[0])
    assert batch.head.weight.grad is None


def test_a_frozen_body_trains_the_head_alone() -> None:
    batch = make_batch()
    weight = batch.head.weight.clone().requires_grad_()
    head = replace(batch.head, weight=weight)
    loss = DistillationLoss(TrialConfig(tau=2.0), 53, fused=True)
    loss(batch.hidden, head, batch.labels, batch.signal, CONTEXT).total.backward()
    _, grads = run(TrialConfig(tau=2.0), batch, fused=False)
    torch.testing.assert_close(weight.grad, 37 * grads[1])


def test_tied_embeddings_get_both_gradients() -> None:
    batch = make_batch()
    ids = torch.arange(37) % 53
    found = []
    for fused in (False, True):
        weight = batch.head.weight.clone().requires_grad_()
        hidden = torch.nn.functional.embedding(ids, weight) + batch.hidden
        loss = DistillationLoss(TrialConfig(policy="cist"), 53, fused=fused)
        loss(hidden, OutputHead(weight), batch.labels, batch.signal, CONTEXT).total.backward()
        found.append(weight.grad)
    torch.testing.assert_close(found[0], found[1])


def test_real_vocabulary_is_a_view_and_padding_rows_get_zero() -> None:
    batch = make_batch()
    padded = torch.cat((batch.head.weight, torch.full((3, 8), 9.0))).requires_grad_()
    loss = DistillationLoss(TrialConfig(policy="cist"), 53, fused=True)
    loss(
        batch.hidden, OutputHead(padded[:53]), batch.labels, batch.signal, CONTEXT
    ).total.backward()
    real = replace(batch, head=OutputHead(batch.head.weight))
    _, grads = run(TrialConfig(policy="cist"), real, fused=False)
    assert padded.grad is not None and (padded.grad[53:] == 0).all()
    torch.testing.assert_close(padded.grad[:53], 37 * grads[1])


@pytest.mark.parametrize("grad", ["no_grad", "inference_mode"])
def test_evaluation_needs_no_gradients(grad: str) -> None:
    batch = make_batch()
    with getattr(torch, grad)():
        loss = DistillationLoss(TrialConfig(policy="cist"), 53, fused=True)
        sums = loss(batch.hidden, batch.head, batch.labels, batch.signal, CONTEXT)
    expected, _ = run(TrialConfig(policy="cist"), batch, fused=False)
    torch.testing.assert_close(sums.total, expected.total.detach())
    assert not sums.total.requires_grad


def test_a_second_backward_is_refused() -> None:
    batch = make_batch()
    hidden = batch.hidden.clone().requires_grad_()
    loss = DistillationLoss(TrialConfig(), 53, fused=True)
    total = loss(hidden, batch.head, batch.labels, batch.signal, CONTEXT).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="must be back-propagated once, .* but got a second"):
        total.backward()


def test_a_batch_of_few_logits_or_positions_is_held_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a walk back-propagates once, by autograd as often as wanted; both give the same."""
    batch, found = make_batch(), []
    for logits, positions, is_walked in (
        (37 * 53, 36, False),
        (37 * 53 - 1, 37, False),
        (37 * 53 - 1, 36, True),
    ):
        monkeypatch.setattr(distillation, "FEW_LOGITS", logits)
        monkeypatch.setattr(distillation, "FEW_POSITIONS", positions)
        hidden = batch.hidden.clone().requires_grad_()
        loss = DistillationLoss(TrialConfig(), 53)
        total = loss(hidden, batch.head, batch.labels, batch.signal, CONTEXT).total
        total.backward(retain_graph=True)
        found += [total, hidden.grad.clone()]
        with pytest.raises(RuntimeError, match="once") if is_walked else nullcontext():
            total.backward()
    torch.testing.assert_close(found[:2], found[2:4])
    torch.testing.assert_close(found[:2], found[4:])


def test_logits_of_all_positions_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    widest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal widest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(tensor, Tensor) and tensor.dim() == 2 and tensor.shape[1] == 53:
                    widest = max(widest, tensor.shape[0])
            return out

    batch = make_batch()
    leaf = batch.hidden.clone().requires_grad_()
    for name, policy in (("generalized_jsd", "cist"), ("token_scaled", "fixed")):
        with Watch():
            loss = DistillationLoss(make_config(name, policy), 53, fused=True)
            ids = replace(CONTEXT, sequence_ids=torch.arange(37) // 9)
            loss(leaf, batch.head, batch.labels, batch.signal, ids).total.backward()
    assert 0 < widest <= 12  # a chunk of 10, or the transposed matrix of 12 rows


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("generalized_jsd", {"beta": 0.0}),
        ("generalized_jsd", {"beta": 1.0}),
        ("generalized_jsd", {"beta": 0.2, "unit_curvature": True}),
        ("jeffreys", {"weight": 0.9}),
        ("skew_forward_kl", {"alpha": 0.0}),
        ("skew_forward_kl", {"alpha": 0.7}),
        ("skew_reverse_kl", {"alpha": 0.0}),
        ("skew_reverse_kl", {"alpha": 0.7, "detach_mixture": True}),
        ("adaptive_kl", {"head_mass": 0.2}),
        ("adaptive_kl", {"head_mass": 1.0}),
        ("entropy_switched", {"entropy_weight": 7.0}),
        ("entropy_aware", {"forward_weight": 3.0, "entropy_threshold": 3.0}),
        ("entropy_aware", {"reverse_weight": 0.0, "entropy_threshold": 3.75}),
        ("alpha_beta", {"alpha": 0.0, "beta": 0.0}),
        ("alpha_beta", {"alpha": 0.0, "beta": 0.6}),
        ("alpha_beta", {"alpha": 0.6, "beta": 0.0}),
        ("alpha_beta", {"alpha": 0.6, "beta": -0.6}),
        ("alpha_beta", {"alpha": 1.2, "beta": 0.3}),
        ("alpha_mixture", {"alpha": -1.0, "mixture_weight": 0.1}),
        ("alpha_mixture", {"alpha": 1.0, "mixture_order": "student_mixture"}),
        ("alpha_mixture", {"alpha": 3.0, "mixture_order": "mixture_teacher"}),
        ("alpha_mixture", {"alpha": -5.0, "mixture_order": "mixture_student"}),
        *[
            ("alpha_mixture", {"mixture_divergence": "alpha_beta", "mixture_order": str(order)})
            for order in MixtureOrder
        ],
        ("concrete_score", {"weighting": "uniform_student"}),
        ("concrete_score", {"weighting": "teacher_student"}),
        ("concrete_score", {"weighting": "teacher_teacher"}),
        ("decoupled", {"target_weight": 3.0, "non_target_weight": 0.5}),
        ("normalised", {"gamma": 0.3}),
        ("diverse_reverse_kl", {"gamma": 0.0}),
        ("diverse_reverse_kl", {"gamma": 3.0}),
        ("refined", {"target_weight": 0.0}),
        ("refined", {"target_tau": 4.0, "non_target_weight": 0.5}),
        ("improved_kl", {"pair_tau": 2.0, "cross_entropy_weight": 0.3}),
        ("entropy_gated", {"entropy_max": 0.93}),
        ("entropy_gated", {"entropy_max": 0.93, "outliers": "hard_target"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("policy", ["fixed", "cist"])
def test_settings_of_written_gradients(name: str, fields: dict[str, object], policy: str) -> None:
    batch = make_batch()
    scaled = replace(batch, head=replace(batch.head, scale=0.4))
    compare(make_config(name, policy, **fields), scaled, 1e-10)
    detached = {} if policy == "fixed" else {"detach_student_temperature": True}
    compare(make_config(name, policy, scaling="none", **fields, **detached), batch, 1e-10)


@pytest.mark.parametrize("scaling", ["none", "tau", "tau_squared"])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("forward_kl", {}),
        ("reverse_kl", {}),
        ("generalized_jsd", {"beta": 0.3, "unit_curvature": True}),
        ("generalized_jsd", {"beta": 0.0}),
        ("generalized_jsd", {"beta": 1.0}),
    ],
    ids=str,
)
def test_a_learned_temperature_climbs_the_soft_loss(
    name: str, fields: dict[str, object], scaling: str
) -> None:
    """Its gradient, reversed, is the derivative of the value: by differences, in either form."""
    config = make_config(name, "curriculum", scaling=scaling, curriculum_ramp=0.0, **fields)
    batch = make_batch()
    for fused in (False, True):
        loss = DistillationLoss(config, 53, fused=fused).double()
        given = (batch.hidden, batch.head, batch.labels, batch.signal, CONTEXT)
        loss(*given).total.backward()
        assert loss.temperature is not None and loss.temperature.theta.grad is not None
        found, values = loss.temperature.theta.grad.item(), []
        for step in (1e-5, -2e-5):
            loss.temperature.theta.data += step
            values.append(loss(*given).soft.item())
        slope = config.soft_weight * (values[0] - values[1]) / 2e-5
        assert found == pytest.approx(-slope, rel=1e-6)


def own_divergence(*, student_logits: Tensor, teacher_logits: Tensor, alpha: float = 0.3) -> Tensor:
    """What a user might write: its gradient is not known here."""
    gap = student_logits.log_softmax(-1) - teacher_logits.detach().log_softmax(-1)
    return alpha * gap.square().mean(-1)


@pytest.mark.parametrize(
    "policy", sorted(p for p, row in POLICIES.items() if p != Policy.NONE and not row.learned)
)
def test_a_divergence_of_the_users_own_equals_its_plain_form(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft_term, "load", lambda name: own_divergence)
    monkeypatch.setattr(custom, "load", lambda name: own_divergence)
    config = make_config("mine:own_divergence", policy, alpha=0.7)
    batch = make_batch()
    compare(config, batch, 1e-10)
    compare(config, replace(batch, head=replace(batch.head, soft_cap=4.0, scale=0.3)), 1e-10)


def test_written_gradients_are_the_ones_used(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for name, function in closed_form.CLOSED_FORMS.items():

        def watched(*given, name=name, function=function):  # type: ignore[no-untyped-def]
            called.append(name)
            return function(*given)

        monkeypatch.setitem(closed_form.CLOSED_FORMS, name, watched)
    for name in closed_form.CLOSED_FORMS:
        run(TrialConfig(divergence=name), make_batch(), fused=True)
        run(TrialConfig(divergence=name), make_batch(), fused=False)
    assert set(called) == set(closed_form.CLOSED_FORMS)
    # 15 blocks of 37 positions each, in the fused form alone.
    assert len(called) == len(closed_form.CLOSED_FORMS) * 15
