"""Runs of a driver that was killed, brought to what the study says."""

from pathlib import Path

from fakes import make_sweep_plan
from ledger_support import Memory

from service.driver.open_study import open_study
from service.driver.settle import settle_runs
from service.record.records import RunRecord
from service.search.ask import ask
from service.search.tell import tell
from service.states import TrialState


def make_run(trial: int, state: TrialState) -> RunRecord:
    return RunRecord(
        sweep_id="s",
        sweep_name="s",
        trial=trial,
        attempt=0,
        run_id=f"run-{trial}",
        state=state,
        hyperparameters={},
        metrics={},
        objective=None,
        label=None,
        started_at=0.0,
        duration_s=None,
    )


def test_runs_whose_trials_have_ended_in_the_study_are_ended(tmp_path: Path) -> None:
    store = open_study(make_sweep_plan(), tmp_path)
    ask(store), ask(store)
    tell(store, 0, TrialState.COMPLETED, 7.0)
    recorded = [make_run(0, TrialState.RUNNING), make_run(1, TrialState.RUNNING)]
    memory = Memory()
    assert settle_runs(store, recorded, memory) == 1
    assert memory.finished == {"run-0": (TrialState.COMPLETED, 7.0, None)}
    assert settle_runs(store, [make_run(0, TrialState.COMPLETED)], Memory()) == 0
