"""What to change in a sweep's Optuna study before its trials run: trials to repeat, an earlier
sweep to learn from.

Plain data, so that it travels to a Ray job as JSON.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from service.plan.places import study_storage, sweep_folder
from service.plan.plan import SweepPlan
from service.states import TrialState

if TYPE_CHECKING:
    from service.search.study import StudyStore

SHOWN_REFUSALS = 5


class StudyChanges(BaseModel):
    """retry: numbers of trials to repeat; retry_failed: all failed ones; warm_start: id of an
    earlier sweep in the same storage, whose finished trials the sampler learns from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retry: tuple[int, ...] = ()
    retry_failed: bool = False
    warm_start: str | None = None

    def apply(self, store: "StudyStore", plan: SweepPlan, home: Path) -> Iterator[str]:
        """Changes the study and yields what to tell the user; to apply it twice is to apply it
        once. Raises `ValueError` for a trial that cannot be repeated, `JobError` when the earlier
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


def _warm_start(store: "StudyStore", plan: SweepPlan, home: Path, *, source: str) -> Iterator[str]:
    from service.search.study_trials import read_trials

    storage = study_storage(plan, sweep_folder(plan, home).with_name(source))
    ended = [trial for trial in read_trials(storage, source) if trial.state.is_terminal]
    used, refused = store.import_trials(ended)
    yield f"the sampler starts with {used} of the {len(ended)} finished trials of {source}"
    for trial, reason in refused[:SHOWN_REFUSALS]:
        yield f"trial {trial.number} of {source} cannot be used: {reason}"
    if len(refused) > SHOWN_REFUSALS:
        yield f"and {len(refused) - SHOWN_REFUSALS} more"
