"""The proposed range of rho, and the entropy tables behind it."""

import math

import pytest
import torch

from trainers.losses import soften
from trainers.losses.rho import rho_range
from trainers.trial.config import TrialConfig


@pytest.fixture
def logits() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(1.0, 5.0, 300).unsqueeze(-1)
    return scales * torch.randn(300, 500, generator=generator)


def _entropy(rows: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Categorical(logits=rows).entropy()


def test_tables_are_the_entropies_of_the_policies(logits: torch.Tensor) -> None:
    found = rho_range(logits)
    assert found.log_vocab == pytest.approx(math.log(500))
    for row in found.by_rho:
        config = TrialConfig(policy="cist", rho_per_log_vocab=row.setting)
        entropy = _entropy(soften(config, logits, logits, 500).teacher)
        assert row.rho == pytest.approx(row.setting * math.log(500))
        assert row.mean == pytest.approx(entropy.mean().item(), rel=1e-4)
        assert row.std == pytest.approx(entropy.std(correction=0).item(), rel=1e-3, abs=1e-5)
    for row in found.by_tau:
        assert row.rho is None
        assert row.mean == pytest.approx(_entropy(logits / row.setting).mean().item(), rel=1e-4)


def test_cist_spreads_entropy_less_than_a_fixed_tau_of_the_same_mean(logits: torch.Tensor) -> None:
    found = rho_range(logits)
    for row in found.by_rho:
        if not 0.2 < row.mean / found.log_vocab < 0.8:
            continue
        nearest = min(found.by_tau, key=lambda other: abs(other.mean - row.mean))
        assert row.std < nearest.std


def test_range_keeps_to_soft_labels_that_are_neither_flat_nor_sharp(logits: torch.Tensor) -> None:
    found = rho_range(logits)
    assert found.low < found.high
    assert found.low == pytest.approx(found.low_per_log_vocab * found.log_vocab)
    assert found.high == pytest.approx(found.high_per_log_vocab * found.log_vocab)
    shares = {row.setting: row.mean / found.log_vocab for row in found.by_rho}
    inside = {setting for setting, share in shares.items() if 0.05 <= share <= 0.9}
    assert {found.low_per_log_vocab, found.high_per_log_vocab} <= inside
    assert all(found.low_per_log_vocab <= s <= found.high_per_log_vocab for s in inside)


def test_a_teacher_of_spikes_gets_the_gap_in_which_it_turns_sharp() -> None:
    spikes = torch.zeros(4, 100_000)
    spikes[:, 7] = 10.0
    found = rho_range(spikes)
    assert found.low_per_log_vocab < 1.0 + 0.2 and found.high_per_log_vocab > 0.9
    assert found.low < found.high


@pytest.mark.parametrize("shape", [(0, 5), (5, 1), (5,)])
def test_too_little_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"teacher_logits must be \[N, V\] .* but got"):
        rho_range(torch.zeros(shape))
