"""On a CUDA device: the same losses as on a CPU, deterministic trials, and the cache.

Deterministic algorithms stay on, as in every trial: an operation that has none there fails here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_support import trial

from trainers import numerics
from trainers.losses import DistillationLoss, LossContext
from trainers.signal import OutputHead, TeacherSignal
from trainers.tasks import table
from trainers.teachers.cache import CacheRequest
from trainers.teachers.cache_build import build, plan_cache
from trainers.training.run import KeptBetweenTrials, run_trial
from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.reporting import Outcome, SilentReporter, TrialResult
from trainers.trial.sources import Prepared
from trainers.trial.traits import Policy
from trainers.trial.trial_file import TrialFile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PAIRS = [(name, policy) for name, row in DIVERGENCES.items() for policy in sorted(row.policies)]
POSITIONS, WIDTH, TEACHER_WIDTH, VOCAB = 70, 32, 48, 1009


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """The switches of a trial, set back afterwards."""
    numerics.apply(numerics.resolve("cuda", Precision.FLOAT32, 1))
    yield
    torch.use_deterministic_algorithms(False)


def config_of(divergence: str, policy: str) -> TrialConfig:
    has_tau = "tau" in POLICIES[Policy(policy)].parameters
    return TrialConfig(divergence=divergence, policy=policy, **({"tau": 2.0} if has_tau else {}))


def run(config: TrialConfig, device: str, *, fused: bool, bfloat16: bool = False) -> list[Tensor]:
    """The mean loss and its gradients by hidden states and output matrix, as float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)

    def draw(rows: int, width: int, scale: float) -> Tensor:
        return (torch.randn(rows, width, generator=generator) * scale).to(device)

    hidden, weight = draw(POSITIONS, WIDTH, 1.0), draw(VOCAB, WIDTH, 3 / WIDTH**0.5)
    signal = TeacherSignal(
        draw(POSITIONS, TEACHER_WIDTH, 1.0),
        OutputHead(draw(VOCAB, TEACHER_WIDTH, 4 / TEACHER_WIDTH**0.5)),
    )
    labels = torch.randint(VOCAB, (POSITIONS,), generator=generator).to(device)
    leaves = [hidden.requires_grad_(), weight.requires_grad_()]
    ids = torch.arange(POSITIONS, device=device) // 9
    loss = DistillationLoss(config, VOCAB, fused=fused).to(device)
    with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
        context = LossContext(sequence_ids=ids, step=3, num_steps=10)
        sums = loss(leaves[0], OutputHead(leaves[1]), labels, signal, context)
    (sums.total / POSITIONS).backward()
    found = [sums.total.detach(), *(leaf.grad for leaf in leaves)]
    return [value.double().cpu() for value in found if value is not None]


@pytest.mark.parametrize(("divergence", "policy"), PAIRS)
def test_the_fused_loss_is_the_cpu_s_plain_one(divergence: str, policy: str) -> None:
    config = config_of(divergence, policy)
    expected, found = run(config, "cpu", fused=False), run(config, "cuda", fused=True)
    for one, other in zip(expected, found, strict=True):
        assert (other - one).norm() <= 1e-4 * one.norm()
    again = run(config, "cuda", fused=True)
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "generalized_jsd"])
@pytest.mark.parametrize("policy", ["fixed", "cist"])
def test_bfloat16_stays_as_near_to_float32_as_whole_logits(divergence: str, policy: str) -> None:
    """Under cist that is not near: rounded logits tie, and the largest one has the gradient of the
    temperature."""
    config = config_of(divergence, policy)
    exact = run(config, "cuda", fused=False)
    plain = run(config, "cuda", fused=False, bfloat16=True)
    fused = run(config, "cuda", fused=True, bfloat16=True)
    for one, whole, ours in zip(exact, plain, fused, strict=True):
        assert 0 < (ours - one).norm() <= 1.1 * (whole - one).norm() + 1e-3 * one.norm()


def on_cuda(prepared: Prepared, **config: Any) -> TrialFile:
    return trial(prepared, **config).model_copy(update={"device": "cuda"})


def train(file: TrialFile, output: Path, kept: KeptBetweenTrials | None = None) -> TrialResult:
    return run_trial(file, output, reporter=SilentReporter(), kept=kept)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_trial_gives_the_same_bits_in_a_used_slot(
    prepared: Prepared, tmp_path: Path, precision: str
) -> None:
    file, kept = on_cuda(prepared, precision=precision, tau=2.0), KeptBetweenTrials()
    other = on_cuda(prepared, precision=precision, policy="cist", seed=5)
    train(other, tmp_path / "other", kept)
    used, fresh = train(file, tmp_path / "used", kept), train(file, tmp_path / "fresh")
    assert used.outcome is Outcome.COMPLETED
    assert used.weights_sha256 == fresh.weights_sha256
    assert used.metrics == fresh.metrics


def test_the_cache_trains_what_the_online_teacher_does(prepared: Prepared, tmp_path: Path) -> None:
    file = on_cuda(prepared, precision="float32", tau=2.0, generation_prompts=0)
    online = train(file, tmp_path / "online")
    request = CacheRequest(
        task=table.task_named("causal_lm"),
        teacher=Path(prepared.teacher),
        data=Path(prepared.data),
        numerics=numerics.resolve("cuda", Precision.FLOAT32, 1),
        attention=None,
        dtype="float32",
        storage="float32",
    )
    folder = build(plan_cache(request, tmp_path / "home"))
    paths = file.paths.model_copy(update={"teacher_cache": str(folder)})
    source = {"paths": paths, "teacher_source": "cache:float32"}
    cached = train(file.model_copy(update=source), tmp_path / "cached")
    for name, value in online.metrics.items():
        assert cached.metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
