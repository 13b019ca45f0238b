"""One of two workers of `test_sharded.py`: `python sharded_pair.py RANK FOLDER` trains the trials
that FOLDER/jobs.json lists, one after the other, each with a process group of its own as in a
slot."""

import json
import os
import signal
import sys
import traceback
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch.distributed.tensor import DTensor
from training_support import Recorder

from trainers.parts import Network
from trainers.tasks import table
from trainers.teachers.online import OnlineTeacher
from trainers.training.run import KeptBetweenTrials, run_trial
from trainers.training.sharded_teacher import ShardedTeacher
from trainers.trial.trial_file import TrialFile
from trainers.world import World, leave

NUM_WORKERS = 2


@dataclass
class Doomed(Recorder):
    """A recorder that fails at step `fail_at`, or whose process is killed at `kill_at`; None:
    never."""

    fail_at: int | None = None
    kill_at: int | None = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keeps the step, or does not."""
        if step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == self.fail_at:
            raise RuntimeError("the first worker fails")
        super().log(step, metrics)


def train(job: dict[str, Any], rank: int, kept: KeptBetweenTrials, group: Any) -> None:
    """Trains a job and writes all that its trial says beside its student."""
    output = Path(job["output"])
    recorder = Doomed(fail_at=job.get("fail_at"), kill_at=job.get("kill_at"))
    result = run_trial(
        TrialFile.model_validate(job["trial"]),
        output,
        reporter=recorder,
        rank=rank,
        process_group=group,
        kept=kept,
        checkpoints=job.get("checkpoints"),
    )
    said = {**asdict(recorder), "weights_sha256": result.weights_sha256}
    (output / f"said-{rank}.json").write_text(json.dumps(said, default=str))


def ask_teacher(asked: dict[str, Any], rank: int, group: Any) -> dict[str, Any]:
    """Asks a teacher in parts, the first worker three times and the other one once, and says how
    far its logits are from those of the whole, and how many of its numbers are here."""
    runtime = table.task_named("causal_lm").runtime()
    data = runtime.open_data(Path(asked["data"]))
    split, num_classes = data.splits["validation"], data.num_classes

    def network() -> Network:
        folder, cpu = Path(asked["teacher"]), torch.device("cpu")
        dtype = getattr(torch, asked["dtype"])
        model = runtime.load_model(folder, cpu, attention=None, dtype=dtype, trust=False)
        return runtime.network(model, num_classes)

    parts, whole = network(), OnlineTeacher(network())
    world = World(rank=rank, size=NUM_WORKERS, group=group)
    teacher = ShardedTeacher(parts, world, split.collate(np.arange(1)))
    errors = []
    batches = [split.collate(np.arange(n + rank, n + rank + 2)) for n in range(3 - 2 * rank)]
    with teacher.uneven():
        for batch in batches:
            found = teacher.signal(batch).logits()
            errors.append(float((found - whole.signal(batch).logits()).abs().max()))
    found = teacher.signal(batches[0]).logits()
    errors.append(float((found - whole.signal(batches[0]).logits()).abs().max()))
    layers = parts.body.h.parameters()
    kept = sum(one.to_local().numel() for one in layers if isinstance(one, DTensor))
    return {
        "errors": errors,
        "kept": kept,
        "whole": sum(p.numel() for p in whole.network.body.h.parameters()),
    }


def main() -> None:
    """Trains the trials that FOLDER/jobs.json lists."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "meeting"), NUM_WORKERS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=NUM_WORKERS)
    kept = KeptBetweenTrials()
    for number, asked in enumerate(json.loads((folder / "asked.json").read_text())):
        group: Any = dist.new_group()
        said = ask_teacher(asked, rank, group)
        (folder / f"asked-{number}-{rank}.json").write_text(json.dumps(said))
        leave(group)
        del group
    for job in json.loads((folder / "jobs.json").read_text()):
        group = dist.new_group()
        gone = weakref.ref(group)
        try:
            train(job, rank, kept, group)
        except RuntimeError as error:
            if "fail_at" not in job:
                raise
            Path(job["output"], f"failed-{rank}.txt").write_text(str(error))
            traceback.clear_frames(error.__traceback__)  # as a slot does
        leave(group)
        del group
        assert gone() is None, f"{job['output']}: its group's threads live on"
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
