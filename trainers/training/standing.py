"""What trains the trials of a slot: `run_trial`, with all that stays loaded between them."""

import functools
import importlib
from pathlib import Path
from typing import Any, Protocol

from trainers.trial.reporting import Reporter, TrialResult
from trainers.trial.trial_file import TrialFile


class TrialFunction(Protocol):
    """`trainers.training.run.run_trial` with all that a slot keeps between trials, or what a test
    puts there."""

    def __call__(
        self,
        trial: TrialFile,
        output: Path,
        *,
        reporter: Reporter,
        rank: int,
        local_rank: int,
        process_group: Any,
    ) -> TrialResult:
        """Returns how the trial ended; raises what went wrong."""


def standing_trainer(
    checkpoint_every_s: float | None = None, checkpoints: str | None = None
) -> TrialFunction:
    """Returns `run_trial` for one process: data, teacher and the students' start stay loaded.
    `checkpoints`: see `run_trial`."""
    from trainers.training.run import run_trial
    from trainers.training.start import KeptBetweenTrials

    return functools.partial(
        run_trial,
        kept=KeptBetweenTrials(),
        checkpoint_every_s=checkpoint_every_s,
        checkpoints=checkpoints,
    )


def load_trainer(task: str) -> None:
    """Imports what `run_trial` needs for the task, in a process that trains, or that is forked for
    those that do."""
    from trainers.tasks import table

    # Of what a trial comes to load in its course, the most costly.
    for name in ("trainers.training.run", "transformers.modeling_utils"):
        importlib.import_module(name)
    table.task_named(task).runtime()
