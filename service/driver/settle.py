"""After a driver's death: MLflow's runs are brought to what the Optuna study, the truth, says.

A driver writes a trial's end to the study first and to MLflow second. One that was killed in
between leaves a run that is RUNNING for ever, since nothing in MLflow ends runs whose clients are
gone.
"""

from collections.abc import Iterable

from service.driver.ledger import Recorder
from service.record.records import RunRecord
from service.search.study import StudyStore
from trainers.trial.diagnosis import logit_scale_warning


def settle_runs(store: StudyStore, recorded: Iterable[RunRecord], recorder: Recorder) -> int:
    """Ends the runs whose trials have ended in the study although MLflow does not know; returns
    how many there were."""
    ended = {record.number: record for record in store.records() if record.state.is_terminal}
    late = [run for run in recorded if run.trial in ended and not run.state.is_terminal]
    for run in late:
        record = ended[run.trial]
        recorder.finish_trial(
            run.run_id,
            record.state,
            objective=record.objective,
            warning=logit_scale_warning(run.metrics),
        )
    return len(late)
