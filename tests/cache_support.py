"""A small teacher cache: its request, plan and opening; and how to damage a file."""

from pathlib import Path
from typing import Any

import torch

from trainers import numerics
from trainers.tasks import table
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.teachers import cache_build
from trainers.teachers.cache import CachePlan, CacheRequest
from trainers.teachers.cached import CachedTeacher
from trainers.trial.fields import Precision
from trainers.trial.sources import Prepared
from trainers.trial.trial_file import TrialFile

SMALL_SHARD = 8192
TASK = table.task_named("causal_lm")
CPU = torch.device("cpu")


def wanted(prepared: Prepared, **changed: Any) -> CacheRequest:
    values: dict[str, Any] = {
        "task": TASK,
        "teacher": Path(prepared.teacher),
        "data": Path(prepared.data),
        "numerics": numerics.resolve("cpu", Precision.FLOAT32, 1),
        "attention": None,
        "dtype": "float32",
        "storage": "float32",
    }
    return CacheRequest(**(values | changed))


def planned(prepared: Prepared, root: Path, **changed: Any) -> CachePlan:
    return cache_build.plan_cache(wanted(prepared, **changed), root, shard_bytes=SMALL_SHARD)


def splits(prepared: Prepared) -> dict[str, TokenSplit]:
    return {name: TokenSplit.open(Path(prepared.data), name) for name in ("train", "validation")}


def opened(plan: CachePlan, prepared: Prepared) -> CachedTeacher:
    return CachedTeacher(plan.folder, splits(prepared), CPU)


def cached_trial(file: TrialFile, plan: CachePlan) -> TrialFile:
    paths = file.paths.model_copy(update={"teacher_cache": str(plan.folder)})
    source = f"cache:{plan.request.storage}"
    return file.model_copy(update={"paths": paths, "teacher_source": source})


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
