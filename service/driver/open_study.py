"""The study that a driver works on, with the trials that come before all others, and the changes
that a user asked for."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from service.driver.study_changes import StudyChanges
from service.events import SweepGoesOn
from service.plan.evaluations import num_evaluations
from service.plan.places import study_storage, sweep_folder
from service.plan.plan import SweepPlan
from service.search.ask import enqueue, retry
from service.search.study import StudyStore
from service.search.study_trials import Search, best_trial, read_trials
from service.search.warm_start import import_trials
from service.states import TrialState

SHOWN_REFUSALS = 5


def open_study(plan: SweepPlan, folder: Path) -> StudyStore:
    """Returns the sweep's study. Its next trials are the control trials, if it is new, and repeats
    of trials that an older version ended as cancelled: those of this one keep their numbers."""
    spec = plan.spec
    folder.mkdir(parents=True, exist_ok=True)
    store = StudyStore.open(
        study_storage(plan, folder),
        plan.sweep_id,
        Search(
            space=plan.spec.search,
            sampler=spec.sampler,
            early_stopping=spec.early_stopping,
            num_evaluations=num_evaluations(spec, None),
            directions=tuple(objective.direction for objective in spec.objective),
        ),
    )
    # Each start of a driver comes here, also after one that died half-way through this: what is
    # enqueued already is found by its label, or by the trial that it repeats.
    records = store.records()
    present = {record.label for record in records}
    for control in plan.controls:
        if control.label not in present:
            enqueue(store, control.values, label=control.label)
    repeated = {record.retry_of for record in records}
    for record in records:
        is_ended = record.state is TrialState.CANCELLED and not record.is_held
        if is_ended and record.number not in repeated:
            retry(store, record.number)
    return store


def so_far(store: StudyStore, plan: SweepPlan) -> SweepGoesOn | None:
    """Returns what came of the trials that earlier drivers ended, without those that have a repeat;
    None when there are none."""
    records = store.records()
    repeated = {record.retry_of for record in records}
    ended = [r for r in records if r.state.is_terminal and r.number not in repeated]
    if not ended:
        return None
    counts = Counter(str(record.state) for record in ended)
    best = best_trial(ended, plan.spec.objective[0].direction)
    if best is None:
        return SweepGoesOn(dict(counts))
    return SweepGoesOn(dict(counts), best.number, best.objective, best.label, best.values)


def apply_changes(
    changes: StudyChanges, store: StudyStore, plan: SweepPlan, *, home: Path
) -> Iterator[str]:
    """Changes the study and yields what to tell the user; to apply it twice is to apply it once.
    Raises `ValueError` for a trial that cannot be repeated, `JobError` when the earlier sweep is
    not there."""
    records = store.records()
    repeated = {record.retry_of for record in records}
    failed = [r.number for r in records if r.state is TrialState.FAILED]
    wanted = [*changes.retry, *(failed if changes.retry_failed else [])]
    for number in sorted(set(wanted) - repeated):
        retry(store, number)
        yield f"trial {number} is in line again"
    if changes.warm_start is not None:
        yield from _warm_start(store, plan, home, source=changes.warm_start)


def _warm_start(store: StudyStore, plan: SweepPlan, home: Path, *, source: str) -> Iterator[str]:
    storage = study_storage(plan, sweep_folder(plan, home).with_name(source))
    ended = [trial for trial in read_trials(storage, source) if trial.state.is_terminal]
    used, refused = import_trials(store, ended)
    yield f"the sampler starts with {used} of the {len(ended)} finished trials of {source}"
    for trial, reason in refused[:SHOWN_REFUSALS]:
        yield f"trial {trial.number} of {source} cannot be used: {reason}"
    if len(refused) > SHOWN_REFUSALS:
        yield f"and {len(refused) - SHOWN_REFUSALS} more"
