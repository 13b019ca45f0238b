"""What a CPU cannot show: trials on a GPU, the same twice, and the same online and cached."""

from pathlib import Path

import pytest
import torch
from cache_support import cached_trial
from training_support import Recorder, trial

from trainers import numerics
from trainers.config import Precision
from trainers.run import run_trial
from trainers.sources import Prepared
from trainers.teachers import cache_build
from trainers.teachers.cache import CacheRequest
from trainers.trial_file import TrialFile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def on_gpu(prepared: Prepared, precision: Precision, **config: object) -> TrialFile:
    resolved = numerics.resolve("cuda", precision, 1)
    made = trial(prepared, tau=2.0, precision=precision, **config)
    return made.model_copy(update={"device": "cuda", "numerics": resolved})


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.BFLOAT16])
def test_the_same_trial_gives_the_same_bits(
    prepared: Prepared, tmp_path: Path, precision: Precision
) -> None:
    file = on_gpu(prepared, precision)
    results = [run_trial(file, tmp_path / str(i), reporter=Recorder()) for i in range(2)]
    assert results[0].weights_sha256 == results[1].weights_sha256
    assert results[0].metrics == results[1].metrics


@pytest.mark.parametrize(
    ("precision", "bound"), [(Precision.FLOAT32, 1e-5), (Precision.BFLOAT16, 2e-2)]
)
def test_a_trial_trains_the_same_online_and_cached(
    prepared: Prepared, tmp_path: Path, precision: Precision, bound: float
) -> None:
    file = on_gpu(prepared, precision, steps=50, generation_prompts=0)
    plan = cache_build.plan_cache(CacheRequest.of_trial(file), tmp_path / "caches")
    cache_build.build(plan)
    cache_build.release()
    online, cached = Recorder(), Recorder()
    run_trial(file, tmp_path / "online", reporter=online)
    run_trial(cached_trial(file, plan), tmp_path / "cached", reporter=cached)
    for step in range(1, 51):
        assert cached.steps[step]["loss"] == pytest.approx(online.steps[step]["loss"], rel=bound)
