"""The study that a driver works on, with the trials that come before all others."""

from pathlib import Path

from service.plan.places import study_storage
from service.plan.plan import SweepPlan
from service.search.study import StudyStore
from service.search.study_trials import Search
from service.states import TrialState


def open_study(plan: SweepPlan, folder: Path) -> StudyStore:
    """Returns the sweep's study. In line before all others stand the control trials of a new one,
    and the repeats of trials that were cancelled when the sweep was stopped."""
    spec = plan.spec
    folder.mkdir(parents=True, exist_ok=True)
    store = StudyStore.open(
        study_storage(plan, folder),
        plan.sweep_id,
        Search(
            space=plan.spec.search,
            sampler=spec.sampler,
            early_stopping=spec.early_stopping,
            num_evaluations=spec.budget().evaluations,
            directions=tuple(objective.direction for objective in spec.objective),
        ),
    )
    records = store.records()
    present = {record.label for record in records}
    for control in plan.controls:
        if control.label not in present:
            store.enqueue(control.values, label=control.label)
    repeated = {record.retry_of for record in records}
    for record in records:
        if record.state is TrialState.CANCELLED and record.number not in repeated:
            store.retry(record.number)
    return store
