"""The study that a driver works on, with the trials that come before all others, and the changes
that a user asked for."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.driver.study_changes import StudyChanges
from service.driver.study_line import compared
from service.errors import JobError, PlanError
from service.events import SweepGoesOn
from service.plan.evaluations import num_evaluations
from service.plan.places import study_storage, sweep_folder
from service.plan.plan import SweepPlan
from service.search.ask import REPEATABLE, enqueue, retry
from service.search.study import StudyStore
from service.search.study_trials import Search, StudyTrial, best_trial, read_trials
from service.search.warm_start import has_imported, import_trials, unusable
from service.states import TrialState

SHOWN_REFUSALS = 5


def open_study(plan: SweepPlan, folder: Path) -> StudyStore:
    """Returns the sweep's study. Its next trials are the control trials, if it is new, and repeats
    of trials that an older version ended as cancelled: those of this one keep their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    store = StudyStore.open(study_storage(plan, folder), plan.sweep_id, _search_of(plan))
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


def _search_of(plan: SweepPlan) -> Search:
    spec = plan.spec
    return Search(
        space=spec.search,
        sampler=spec.sampler,
        early_stopping=spec.early_stopping,
        num_evaluations=num_evaluations(spec, None),
        directions=tuple(objective.direction for objective in spec.objective),
        metrics=tuple(objective.metric for objective in spec.objective),
        only_in_line=spec.is_study,
    )


def so_far(store: StudyStore, plan: SweepPlan) -> SweepGoesOn | None:
    """Returns what came of the trials that earlier drivers ended, without those that have a repeat;
    None when there are none."""
    records = store.records()
    repeated = {record.retry_of for record in records}
    ended = [r for r in records if r.state.is_terminal and r.number not in repeated]
    if not ended:
        return None
    counts = Counter(str(record.state) for record in ended)
    best = best_trial(compared(plan, ended), plan.spec.objective[0].direction)
    if best is None:
        return SweepGoesOn(dict(counts))
    return SweepGoesOn(dict(counts), best.number, best.objective, best.label, best.values)


def apply_changes(
    changes: StudyChanges, store: StudyStore, plan: SweepPlan, *, home: Path
) -> Iterator[str]:
    """Changes the study and yields what to tell the user; to apply it twice is to apply it once.
    Raises `JobError` when the earlier sweep is not there."""
    # `check_repeats` has refused what cannot be repeated; a driver that died after it had applied
    # this, and is started again, finds nothing left of it.
    for number in sorted(_repeatable(changes, store.records())):
        retry(store, number)
        yield f"trial {number} is in line again"
    if plan.warm_start is not None:
        yield from _warm_start(store, plan.warm_start, plan, home)


def trials_of(plan: SweepPlan, home: Path) -> list[StudyTrial]:
    """Returns the trials of the sweep's study, which may be in use. Raises `JobError` or
    `PlanError` where it is not within reach."""
    return read_trials(study_storage(plan, sweep_folder(plan, home)), plan.sweep_id)


def check_repeats(changes: StudyChanges, sweep_id: str, records: Sequence[StudyTrial]) -> None:
    """Raises `PlanError` unless all trials that are to be repeated can be, and there are any."""
    possible = _repeatable(changes, records)
    if changes.retry_failed and not possible:
        raise PlanError(
            f"retry: a trial of sweep {sweep_id} must have failed, but none has that was not "
            "repeated: nothing to retry. Trials that diverged or were cancelled are repeated by "
            f"number: kd-sweep retry {sweep_id} NUMBER."
        )
    refused = set(changes.retry) - set(possible)
    if refused:
        number = min(refused)
        raise PlanError(
            f"retry: trial {number} of sweep {sweep_id} must have failed, diverged or been "
            f"cancelled, and not be repeated yet, but {_what_it_is(number, records)}. `kd-sweep "
            f"trials {sweep_id}` lists them."
        )


def _repeatable(changes: StudyChanges, records: Sequence[StudyTrial]) -> list[int]:
    """Returns the numbers of the wanted trials that can be repeated."""
    repeated = {record.retry_of for record in records}
    return [
        record.number
        for record in records
        if record.state in REPEATABLE
        and record.number not in repeated
        and (
            record.number in changes.retry
            or (changes.retry_failed and record.state is TrialState.FAILED)
        )
    ]


def _what_it_is(number: int, records: Sequence[StudyTrial]) -> str:
    repeats = [record.number for record in records if record.retry_of == number]
    if repeats:
        return f"trial {repeats[-1]} repeats it"
    states = [record.state for record in records if record.number == number]
    return f"it is {states[0]}" if states else "there is none of this number"


def check_warm_start(plan: SweepPlan, trials: Sequence[StudyTrial]) -> str:
    """Returns what the sampler will know of the sweep that the plan starts with, which has ended
    `trials`. Raises `PlanError` when none of them fits this search."""
    search = _search_of(plan)
    reasons = [reason for trial in trials if (reason := unusable(search, trial)) is not None]
    if len(reasons) == len(trials):
        first = f", the first because {reasons[0]}" if reasons else ""
        raise PlanError(
            f"--from {plan.warm_start}: one of its finished trials must fit this search, but none "
            f"of {len(trials)} does{first}. Start without it, or with another sweep."
        )
    return _known(plan.warm_start, len(trials) - len(reasons), len(trials))


def _known(source: str | None, num_used: int, num_trials: int) -> str:
    return f"the sampler starts with {num_used} of the {num_trials} finished trials of {source}"


def trials_to_start_with(plan: SweepPlan, home: Path) -> list[StudyTrial]:
    """Returns the trials that have ended of the sweep that the plan starts with. Raises `JobError`
    or `PlanError` where its study is not within reach."""
    source = str(plan.warm_start)
    storage = study_storage(plan, sweep_folder(plan, home).with_name(source))
    return [trial for trial in read_trials(storage, source) if trial.state.is_terminal]


def _warm_start(store: StudyStore, source: str, plan: SweepPlan, home: Path) -> Iterator[str]:
    try:
        ended = trials_to_start_with(plan, home)
    except JobError:
        if not has_imported(store):
            raise
        return  # it was deleted since; what was learned from it is in the study
    used, refused = import_trials(store, ended)
    yield _known(source, used, len(ended))
    for trial, reason in refused[:SHOWN_REFUSALS]:
        yield f"trial {trial.number} of {source} cannot be used: {reason}"
    if len(refused) > SHOWN_REFUSALS:
        yield f"and {len(refused) - SHOWN_REFUSALS} more"
