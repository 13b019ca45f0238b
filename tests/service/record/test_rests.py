"""A sweep and a trial that were gone on with took as long as somebody worked on them."""

from pathlib import Path

import pytest
from records_support import make_store, plan_of, trial_of

from service.record import tags
from service.record.delivery import Delivery
from service.record.entries import MetricsEntry, StateEntry
from service.record.rests import note_rests, with_rest
from service.record.run_entries import sweep_entry, trial_entry
from service.record.runs import Runs

PLAN = plan_of()
TRIAL = trial_of(PLAN, 0, {"tau": 1.0})
RUN = trial_entry(PLAN, TRIAL, {"tau": 1.0}, label=None, at_ms=0).run
SWEEP = sweep_entry(PLAN, at_ms=0).run
S = 1000


@pytest.fixture
def store(tmp_path: Path) -> tuple[Delivery, Runs]:
    uri = make_store(tmp_path)
    return Delivery(uri, "kd-sweep"), Runs(uri)


def begin(deliver: Delivery, at_s: int) -> None:
    """As a driver begins, and starts the trial."""
    deliver([sweep_entry(PLAN, at_ms=at_s * S)])
    deliver([trial_entry(PLAN, TRIAL, {"tau": 1.0}, label=None, at_ms=at_s * S)])


def end(deliver: Delivery, at_s: int, status: str) -> None:
    for run in (RUN, SWEEP):
        state = {tags.STATE: "cancelled" if status == "KILLED" else "completed"}
        deliver([StateEntry(run=run, at_ms=at_s * S, status=status, tags=state)])


def took(runs: Runs) -> tuple[float | None, float | None]:
    (sweep,) = runs.sweeps()
    (trial,) = runs.trials(PLAN.sweep_id)
    return sweep.duration_s, trial.duration_s


def test_the_time_between_two_drivers_counts_for_none(store: tuple[Delivery, Runs]) -> None:
    deliver, runs = store
    begin(deliver, 100)
    end(deliver, 160, "KILLED")
    begin(deliver, 5000)
    begin(deliver, 5000)  # delivered twice, as nobody knew whether the store took it
    end(deliver, 5010, "KILLED")
    begin(deliver, 9000)
    end(deliver, 9001, "FINISHED")
    assert took(runs) == (71, 71)


def test_a_killed_driver_is_one_that_ended_when_its_trial_was_last_heard_of(
    store: tuple[Delivery, Runs],
) -> None:
    deliver, runs = store
    begin(deliver, 100)
    for second in (110, 130):
        metrics = {"loss": 1.0 / second}
        deliver([MetricsEntry(run=RUN, at_ms=second * S, step=second, metrics=metrics)])
    for at_s in (4000, 5000):  # a driver that was killed before the trial began again, and the next
        note_rests(deliver.client, deliver.experiment_id(), PLAN.sweep_id, at_ms=at_s * S)
    begin(deliver, 5000)
    end(deliver, 5020, "FINISHED")
    assert took(runs) == (50, 50)


def test_a_trial_that_starts_again_in_the_same_sweep_did_not_rest(
    store: tuple[Delivery, Runs],
) -> None:
    deliver, runs = store
    begin(deliver, 100)
    begin(deliver, 200)
    end(deliver, 230, "FINISHED")
    assert took(runs) == (130, 130)


def test_a_tag_that_was_edited_is_named() -> None:
    with pytest.raises(ValueError, match="invalid literal for int"):
        with_rest({tags.RESTED: "long"}, 1, 2)
