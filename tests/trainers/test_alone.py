"""`python -m trainers` with a teacher cache: read where it lies, built again where it is gone."""

import json
import shutil
from pathlib import Path

from training_support import trial

from trainers import numerics
from trainers.__main__ import main
from trainers.tasks import table
from trainers.teachers import cache_build
from trainers.teachers.cache import CacheRequest
from trainers.trial.fields import Precision
from trainers.trial.sources import Prepared


def test_a_cache_that_is_gone_is_built_again_and_gives_the_same_bits(
    prepared: Prepared, tmp_path: Path
) -> None:
    file = trial(prepared, tau=2.0)
    file = file.model_copy(update={"numerics": numerics.resolve("cpu", Precision.FLOAT32, 1)})
    plan = cache_build.plan_cache(
        CacheRequest.of_trial(file, table.task_named("causal_lm")), tmp_path
    )
    cache_build.build(plan)
    paths = file.paths.model_copy(update={"teacher_cache": str(plan.folder)})
    cached = file.model_copy(update={"paths": paths, "teacher_source": "cache:float32"})
    cached.write(tmp_path / "trial.json")
    hashes = []
    for name in ("here", "gone"):
        output = tmp_path / name
        assert main([str(tmp_path / "trial.json"), "--output", str(output)]) == 0
        hashes.append(json.loads((output / "result.json").read_text())["weights_sha256"])
        assert (output / "caches" / plan.key).is_dir() == (name == "gone")
        shutil.rmtree(plan.folder, ignore_errors=True)
    assert hashes[0] == hashes[1]
