"""What is to be done with a sweep besides running its plan: trials to repeat, knowledge to start
with.

Plain data, so that it travels to a Ray job as JSON.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from service.plan.plan import SweepPlan
from service.search.study import StudyStore
from service.search.study_trials import read_trials
from service.spec.paths import storage_folder
from service.states import TrialState
from trainers.files.shelves import is_url

JOURNAL = "study.journal"
ENDED = "ended"  # in the sweep's folder: how its last driver ended, written before Ray is left
SHOWN_REFUSALS = 5


class Wishes(BaseModel):
    """retry: numbers of trials to repeat; retry_failed: all failed ones; warm_start: id of an
    earlier sweep in the same storage, whose finished trials the sampler learns from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retry: tuple[int, ...] = ()
    retry_failed: bool = False
    warm_start: str | None = None

    def fulfil(self, store: StudyStore, plan: SweepPlan, home: Path) -> Iterator[str]:
        """Brings the study to what is wished; yields what to tell the user. Each may be wished
        again. Raises `ValueError` for a trial that cannot be repeated, `JobError` when the earlier
        sweep is not there."""
        records = store.records()
        repeated = {record.retry_of for record in records}
        failed = [r.number for r in records if r.state is TrialState.FAILED]
        wanted = [*self.retry, *(failed if self.retry_failed else [])]
        for number in sorted(set(wanted) - repeated):
            store.retry(number)
            yield f"trial {number} is in line again"
        if self.warm_start is not None:
            yield from _warm_start(store, plan, home, source=self.warm_start)


def sweep_folder(plan: SweepPlan, home: Path) -> Path:
    """Returns the folder of all that this sweep writes; where the storage path is a URL, of all but
    its checkpoints."""
    return storage_folder(plan.spec, home) / "sweeps" / plan.sweep_id


def checkpoints_url(plan: SweepPlan) -> str | None:
    """Returns the URL below which the trials' checkpoints lie, by number; None when they lie in the
    sweep's folder."""
    path = plan.spec.storage.path
    return f"{path.rstrip('/')}/sweeps/{plan.sweep_id}/trials" if path and is_url(path) else None


def study_storage(plan: SweepPlan, folder: Path) -> str:
    """Returns where the Optuna study lies: a database's URL, or the journal in the sweep's
    folder."""
    return plan.spec.storage.study_url or str(folder / JOURNAL)


def _warm_start(store: StudyStore, plan: SweepPlan, home: Path, *, source: str) -> Iterator[str]:
    storage = study_storage(plan, sweep_folder(plan, home).with_name(source))
    ended = [trial for trial in read_trials(storage, source) if trial.state.is_terminal]
    used, refused = store.import_trials(ended)
    yield f"the sampler starts with {used} of the {len(ended)} finished trials of {source}"
    for trial, reason in refused[:SHOWN_REFUSALS]:
        yield f"trial {trial.number} of {source} is of no use: {reason}"
    if len(refused) > SHOWN_REFUSALS:
        yield f"and {len(refused) - SHOWN_REFUSALS} more"
