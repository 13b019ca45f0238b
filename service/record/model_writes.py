"""Puts a trial's student into MLflow as a logged model. Importing this file imports MLflow."""

import logging
import shutil
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run

from service.record import tags
from service.record.entries import ModelEntry
from service.record.metric_names import EVAL
from service.record.model_card import RecordedRun
from service.record.model_files import write_model_files

logger = logging.getLogger(__name__)
OF_MODEL = (tags.SWEEP_ID, tags.TRIAL, tags.LABEL)  # tags of the run that its model has too


def log_model(client: MlflowClient, run_id: str, entry: ModelEntry) -> None:
    """Makes the folder of `entry` the logged model of the run, with the run's last validation
    metrics, and removes it: the record alone keeps the weights.

    It may be called again, also after a kill between any two lines: a run has one model, whose
    files are written over, and a folder that is gone was recorded."""
    folder, run = Path(entry.path), client.get_run(run_id)
    known = model_of(run)
    if not folder.is_dir():
        if known is None:
            logger.warning("%s was to be recorded, but it is no longer there", folder)
        return
    model_id = known or _create(client, run, entry)
    write_model_files(folder, recorded_run(run), entry.facts, model_id)
    client.log_model_artifacts(model_id, str(folder))
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    client.log_batch(run_id, metrics=_metrics_of_model(run, model_id))
    _remove(folder)


def model_of(run: Run) -> str | None:
    """Returns the id of the run's logged model, None when it has none."""
    outputs = run.outputs.model_outputs if run.outputs else []
    return str(outputs[0].model_id) if outputs else None


def recorded_run(run: Run) -> RecordedRun:
    """Returns what a model's files say of the run."""
    data = run.data
    return RecordedRun(run.info.run_id, run.info.run_name, data.params, data.metrics, data.tags)


def _create(client: MlflowClient, run: Run, entry: ModelEntry) -> str:
    """Makes the run's model, or takes up the one that a broken delivery left without its run."""
    made = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    model = made[0] if made else _new_model(client, run, entry)
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def _new_model(client: MlflowClient, run: Run, entry: ModelEntry) -> LoggedModel:
    return client.create_logged_model(
        run.info.experiment_id,
        name=entry.name,
        source_run_id=run.info.run_id,
        params=recorded_run(run).searched,
        tags={name: run.data.tags[name] for name in OF_MODEL if name in run.data.tags},
    )


def _metrics_of_model(run: Run, model_id: str) -> list[Metric]:
    """The run's last validation metrics as the model's: with the run's own times and steps, so that
    the run does not get them twice."""
    return [
        Metric(one.key, one.value, one.timestamp, one.step, model_id=model_id)
        for one in run.data.to_proto().metrics
        if one.key.startswith(EVAL)
    ]


def _remove(folder: Path) -> None:
    # Renamed first, so that a kill in between leaves no half of it to be recorded again.
    gone = folder.with_name(f".{folder.name}.recorded")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
