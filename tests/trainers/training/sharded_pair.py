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

import torch
from torch import distributed as dist
from training_support import Recorder

from trainers.training.run import KeptBetweenTrials, run_trial
from trainers.trial.trial_file import TrialFile
from trainers.world import leave

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


def main() -> None:
    """Trains the trials that FOLDER/jobs.json lists."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "meeting"), NUM_WORKERS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=NUM_WORKERS)
    kept = KeptBetweenTrials()
    for job in json.loads((folder / "jobs.json").read_text()):
        group: Any = dist.new_group()
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
