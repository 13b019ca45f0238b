"""What is to be done with a sweep besides running its plan: trials to repeat, knowledge to start
with.

Plain data, so that it travels to a Ray job as JSON.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from service.plan.places import study_storage, sweep_folder
from service.plan.plan import SweepPlan
from service.search.study import StudyStore
from service.search.study_trials import read_trials
from service.states import TrialState

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


def _warm_start(store: StudyStore, plan: SweepPlan, home: Path, *, source: str) -> Iterator[str]:
    storage = study_storage(plan, sweep_folder(plan, home).with_name(source))
    ended = [trial for trial in read_trials(storage, source) if trial.state.is_terminal]
    used, refused = store.import_trials(ended)
    yield f"the sampler starts with {used} of the {len(ended)} finished trials of {source}"
    for trial, reason in refused[:SHOWN_REFUSALS]:
        yield f"trial {trial.number} of {source} is of no use: {reason}"
    if len(refused) > SHOWN_REFUSALS:
        yield f"and {len(refused) - SHOWN_REFUSALS} more"
