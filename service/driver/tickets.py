"""What the driver hands out with a trial: its file, its folder, and where its board is."""

from dataclasses import dataclass
from pathlib import Path

from service.driver.shared_inputs import SharedInputs
from service.plan.places import checkpoints_folder
from service.search.study_trials import Asked
from service.slots.messages import Ticket
from trainers.files import shelves
from trainers.trial.budget import num_evaluations_of
from trainers.trial.config import TrialConfig
from trainers.trial.trial_file import TrialFile


@dataclass(frozen=True)
class TrialSetting:
    """What all tickets share. `template`: a trial's file without its own config; `shared`: what
    the config then decides; `folder`: the parent of the trials' folders; `board`, `namespace`:
    where the board is found; `checkpoints`: the URL below which they are stored, None for the
    trials' folders.
    """

    template: TrialFile
    shared: SharedInputs
    folder: Path
    board: str
    namespace: str
    sweep_run_id: str
    checkpoints: str | None = None

    def trial(self, asked: Asked, config: TrialConfig) -> TrialFile:
        """Returns the trial's file for the attempt that is asked for."""
        return self.shared.trial(self.template, config).model_copy(
            update={"trial": asked.number, "attempt": asked.attempt}
        )

    def num_evaluations(self, config: TrialConfig) -> int:
        """Returns how many evaluations of a complete trial take place."""
        return num_evaluations_of(config, self.shared.prepared.num_train_examples)

    def ticket(self, trial: TrialFile, run_id: str) -> Ticket:
        """Returns what the trial's Tune actor gets."""
        return Ticket(
            trial=trial,
            output=str(self.folder / str(trial.trial)),
            run_id=run_id,
            board=self.board,
            namespace=self.namespace,
        )

    def move_checkpoints(self, old: int, new: int) -> None:
        """Gives trial `new`, which repeats `old`, the checkpoints of that one: what was paid for is
        not paid for again."""
        # Moved, not copied: the repeat goes on from them alone, and space is paid for once.
        shelves.move(self._checkpoints_of(old), self._checkpoints_of(new))

    def _checkpoints_of(self, number: int) -> Path | str:
        if self.checkpoints is not None:
            return f"{self.checkpoints}/{number}"
        return checkpoints_folder(self.folder, number)
