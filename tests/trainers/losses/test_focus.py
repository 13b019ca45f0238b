"""AdaKD's focus on hard positions (LATF): the published example of its schedule, the positions that
it keeps, and its state; numbers of a NumPy program in float64."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from fused_loss_support import CONTEXT, ROWS, compare, make_batch, make_config, run, shrink_chunks
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext, LossSums
from trainers.losses.passes import adaptive_temperature, hellinger, kept_positions
from trainers.losses.schedules import FocusSchedule
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.config import TrialConfig

STUDENT = torch.tensor(
    [[0.5, -1, 2], [0.2, 1, -0.5], [1.5, 0.3, -0.7], [-0.2, 0.1, 0.4]], dtype=torch.float64
)
TEACHER = torch.tensor(
    [[1.2, 0.1, 1.5], [-0.3, 2, 0.4], [2.2, -0.5, 0.1], [0.3, 0.6, -0.9]], dtype=torch.float64
)
LOSSES = (4.0, 3.6, 3.0, 2.6, 2.4, 2.3, 3.5, 4.2)
SHARES = (1.0, 1.0, 0.95, 0.9025, 0.857375, 0.81450625, 0.8552315625, 0.8979931406)


def schedule(**fields: float) -> FocusSchedule:
    given = {"rate": 0.05, "tolerance": 0.05, "decay": 0.5, "warmup": 0.0, "least": 0.1}
    return FocusSchedule(**(given | fields))


def shares(of: FocusSchedule, losses: tuple[float, ...]) -> Iterator[float]:
    for step, loss in enumerate(losses):
        of.finish_step(loss, LossContext(step=step, num_steps=100))
        yield of.share


def test_the_share_falls_and_rises_with_the_loss() -> None:
    assert list(shares(schedule(), LOSSES)) == pytest.approx(SHARES, abs=1e-10)


def test_it_stays_between_its_ends() -> None:
    falling = tuple(0.5**step for step in range(9))
    kept = schedule(rate=0.5, decay=0.0, least=0.2)
    assert list(shares(kept, falling))[-1] == 0.2
    assert list(shares(kept, tuple(reversed(falling))))[-1] == 1.0


def test_it_starts_after_its_warm_up_and_averages_from_the_first_step() -> None:
    warming = schedule(warmup=0.03, decay=0.9)
    assert list(shares(warming, (8.0, 4.0, 4.0))) == [1.0] * 3
    assert warming.average == pytest.approx(0.9 * (0.9 * 8 + 0.1 * 4) + 0.1 * 4)
    assert warming.reference is None
    warming.finish_step(4.0, LossContext(step=3, num_steps=100))
    assert warming.reference == warming.average and warming.share == 1.0


def test_a_rate_of_0_keeps_all_positions() -> None:
    assert set(shares(schedule(rate=0.0), LOSSES)) == {1.0}


def test_the_hardest_positions_are_kept() -> None:
    scores = hellinger(STUDENT, TEACHER)
    assert scores.tolist() == pytest.approx(
        [0.2144784558, 0.1863404766, 0.1696732005, 0.2658243058], abs=1e-9
    )
    assert kept_positions(scores, 1.0) is None
    kept = {share: kept_positions(scores, share) for share in (0.99, 0.5, 0.1)}
    assert [None if k is None else k.tolist() for k in kept.values()] == [
        pytest.approx([4 / 3, 4 / 3, 0, 4 / 3]),
        [2, 0, 0, 2],
        [0, 0, 0, 4],  # never less than one
    ]
    temperatures = adaptive_temperature(
        TrialConfig(policy="token_adaptive", adaptivity=0.5), scores, kept[0.5]
    )
    assert temperatures[[3, 0]].tolist() == pytest.approx([0.8996988542, 1.0], abs=1e-9)


def focused(share: float, *, fused: bool, **fields: object) -> tuple[LossSums, Tensor]:
    """Mean soft loss of the four rows with a share of them kept, and its gradient."""
    config = TrialConfig.model_validate(
        {"hard_weight": 0, "soft_weight": 1, "focus_rate": 0.1, **fields}
    )
    loss, eye = DistillationLoss(config, 3, fused=fused), torch.eye(3, dtype=torch.float64)
    assert loss.focus is not None
    loss.focus.share = share
    leaf = STUDENT.clone().requires_grad_()
    signal = TeacherSignal(TEACHER, OutputHead(eye))
    sums = loss(leaf, OutputHead(eye), torch.zeros(4).long(), signal, LossContext())
    (sums.total / 4).backward()
    assert leaf.grad is not None
    return sums, leaf.grad


@pytest.mark.parametrize("fused", [False, True])
def test_the_mean_is_over_kept_positions(fused: bool) -> None:
    sums, slope = focused(0.5, fused=fused, divergence="reverse_kl")
    assert sums.soft.item() / 4 == pytest.approx(0.2526575176, abs=1e-9)
    expected = [
        [-0.0812533557, -0.0259525889, 0.1072059446],
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
        [-0.0942182994, -0.1271814012, 0.2213997006],
    ]
    torch.testing.assert_close(
        slope, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("fused", [False, True])
def test_with_token_adaptive_the_median_is_of_the_kept(fused: bool) -> None:
    """Both halves of AdaKD; temperatures take no gradient here."""
    fields = {"divergence": "reverse_kl", "policy": "token_adaptive", "adaptivity": 0.5}
    sums, slope = focused(0.5, fused=fused, **fields)
    assert sums.soft.item() / 4 == pytest.approx(0.2508289109, abs=1e-9)
    expected = [-0.0812533557, -0.0259525889, 0.1072059446]
    assert slope[0].tolist() == pytest.approx(expected, abs=1e-9)


FOCUSED = [(name, policy) for name, policy in ROWS if not DIVERGENCES[name].couples_rows]


@pytest.mark.parametrize(("name", "policy"), FOCUSED)
def test_the_fused_form_equals_the_plain_one(
    name: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_chunks(monkeypatch)
    monkeypatch.setattr(FocusSchedule, "__init__", _at_a_third)
    gate = {} if name == "entropy_aware" else {"forward_weight": 0.7, "entropy_threshold": 3.75}
    compare(make_config(name, policy, focus_rate=0.1, **gate), make_batch(), 1e-10)


def _at_a_third(self: FocusSchedule, **fields: float) -> None:
    torch.nn.Module.__init__(self)
    self.share, self.average, self.reference = 1 / 3, None, None


@pytest.mark.parametrize("fused", [False, True])
def test_the_hard_loss_is_of_all_positions(fused: bool) -> None:
    some, all_of_them = (focused(s, fused=fused, hard_weight=0.5)[0] for s in (0.5, 1.0))
    assert torch.equal(some.hard, all_of_them.hard)
    assert some.soft != all_of_them.soft


@pytest.mark.parametrize("fused", [False, True])
def test_with_all_positions_it_is_the_plain_loss_to_the_bit(fused: bool) -> None:
    without, with_focus = (
        run(TrialConfig(policy="cist", **fields), make_batch(), fused=fused)
        for fields in ({}, {"focus_rate": 0.1})
    )
    assert torch.equal(without[0].total, with_focus[0].total)
    assert all(torch.equal(a, b) for a, b in zip(without[1], with_focus[1], strict=True))


def test_parts_of_a_batch_count_by_their_positions() -> None:
    """Each micro-batch of each worker keeps its own hardest; their means are weighted by how many
    positions they have, so that sums over the parts are divided once, as for every loss."""
    loss = DistillationLoss(TrialConfig(focus_rate=0.1), 53, fused=True).double()
    assert loss.focus is not None
    loss.focus.share = 0.4
    batch = make_batch()
    assert batch.signal is not None
    found = 0.0
    for rows in (slice(0, 10), slice(10, 10), slice(10, 37)):
        signal = replace(batch.signal, hidden=batch.signal.hidden[rows])
        sums = loss(batch.hidden[rows], batch.head, batch.labels[rows], signal, CONTEXT)
        logits = batch.head.logits(batch.hidden[rows]), signal.logits()
        q, p = (side.softmax(-1) for side in logits)
        kept = hellinger(*logits).argsort(descending=True)[: int(0.4 * len(q))]
        mean = (p * (p / q).log()).sum(-1)[kept].mean() if len(q) else 0.0
        assert float(sums.soft) == pytest.approx(len(q) * float(mean))
        found += float(sums.soft)
    assert found > 0


def test_its_state_is_in_the_checkpoint() -> None:
    config = TrialConfig(focus_rate=0.05, focus_tolerance=0.05, focus_decay=0.5, focus_warmup=0.0)
    loss, again = (DistillationLoss(config, 7) for _ in range(2))
    for step, value in enumerate(LOSSES[:5]):
        loss.finish_step(value, step=step, num_steps=100)
    again.load_state_dict(loss.state_dict())
    for step, value in enumerate(LOSSES[5:], start=5):
        again.finish_step(value, step=step, num_steps=100)
    assert again.focus is not None
    assert again.focus.share == pytest.approx(SHARES[-1], abs=1e-10)


def test_defaults_and_what_it_does_not_go_with() -> None:
    config = TrialConfig(focus_rate=0.1)
    assert (config.focus_tolerance, config.focus_decay, config.focus_warmup) == (0.1, 0.99, 0.05)
    assert config.focus_least == 0.1
    assert not any(name.startswith("focus") for name in TrialConfig().model_dump())
    with pytest.raises(ValueError, match="focus_least belongs to any divergence with focus_rate"):
        TrialConfig(focus_least=0.2)
    with pytest.raises(ValueError, match="focus_rate must be left out with divergence 'correlati"):
        TrialConfig(divergence="correlation", focus_rate=0.1)
    image = {"task": "image_classification", "regions": 2, "focus_rate": 0.1}
    with pytest.raises(ValueError, match="regions = 1 must hold with focus_rate '0.1'"):
        TrialConfig.model_validate(image)
