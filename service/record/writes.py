"""The calls that put one entry, or metrics of one run that follow each other, into MLflow.

Each may be repeated and then changes nothing: params and tags are set to the same value, a metric
is stored once for each (name, step, time, value), artifacts are overwritten. That is what lets
entries be delivered again when nobody knows whether the server took them. Importing this file
imports MLflow; `client.set_client_environment` has to come first.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from service.record.entries import (
    Entry,
    FileEntry,
    InputEntry,
    MetricsEntry,
    ModelEntry,
    RunEntry,
    StateEntry,
    TagsEntry,
    TextEntry,
)
from service.record.metric_names import logged_name
from service.record.model_writes import log_model
from service.record.rests import with_rest

logger = logging.getLogger(__name__)
ALIVE = ("RUNNING", "SCHEDULED")
MAX_BATCH = 1000  # metrics in one request; MLflow's own limit


def create_run(client: MlflowClient, experiment_id: str, entry: RunEntry) -> str:
    """Makes a run of `entry`, with its tags; returns its id."""
    run = client.create_run(
        experiment_id, start_time=entry.at_ms, tags=entry.tags, run_name=entry.name
    )
    return str(run.info.run_id)


def continue_run(client: MlflowClient, run_id: str, entry: RunEntry) -> RunEntry:
    """Sets a run that exists back to running, with the tags of `entry`; returns what of `entry` it
    does not have yet: MLflow keeps a param as it was first written, a data set once."""
    run = client.get_run(run_id)
    ended_ms = None if run.info.status in ALIVE else run.info.end_time
    rest = {} if ended_ms is None else with_rest(run.data.tags, ended_ms, entry.at_ms)
    # The status last: an entry that was delivered in part finds the run ended, as it was.
    _set_tags(client, run_id, entry.tags | rest)
    client.update_run(run_id, status="RUNNING")
    if not entry.params and not entry.inputs:
        return entry
    known = {(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}
    params = {name: text for name, text in entry.params.items() if name not in run.data.params}
    inputs = tuple(one for one in entry.inputs if (one.name, one.digest) not in known)
    return entry.model_copy(update={"params": params, "inputs": inputs})


def describe_run(client: MlflowClient, run_id: str, entry: RunEntry) -> None:
    """Puts what is known of a run at its start beside it: params, inputs and texts."""
    if entry.params:
        client.log_batch(run_id, params=[Param(k, v) for k, v in entry.params.items()])
    if entry.inputs:
        client.log_inputs(run_id, [_dataset_input(one) for one in entry.inputs])
    for name, text in entry.texts.items():
        client.log_text(run_id, text, name)


def write(client: MlflowClient, run_id: str, group: Sequence[Entry]) -> None:
    """Puts a group of `merged` that is no `RunEntry` into run `run_id`."""
    entry = group[0]
    if isinstance(entry, MetricsEntry):
        _log_metrics(client, run_id, [one for one in group if isinstance(one, MetricsEntry)])
    elif isinstance(entry, FileEntry):
        _upload(client, run_id, entry)
    elif isinstance(entry, ModelEntry):
        log_model(client, run_id, entry)
    elif isinstance(entry, TextEntry):
        client.log_text(run_id, entry.text, entry.name)
    elif isinstance(entry, TagsEntry):
        _set_tags(client, run_id, entry.tags)
    elif isinstance(entry, StateEntry):
        _set_state(client, run_id, entry)


def _dataset_input(entry: InputEntry) -> DatasetInput:
    # A name of a hub is no path, and neither is one that is made here.
    kind = "local" if entry.source.startswith("/") else "external"
    source = json.dumps({"uri": entry.source})
    profile = json.dumps(entry.profile) if entry.profile else None
    dataset = Dataset(entry.name, entry.digest, kind, source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", entry.context)])


def _log_metrics(client: MlflowClient, run_id: str, entries: Sequence[MetricsEntry]) -> None:
    metrics = [
        Metric(logged_name(name), value, entry.at_ms, entry.step)
        for entry in entries
        for name, value in entry.metrics.items()
    ]
    for start in range(0, len(metrics), MAX_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + MAX_BATCH])


def _set_tags(client: MlflowClient, run_id: str, values: Mapping[str, str]) -> None:
    client.log_batch(run_id, tags=[RunTag(name, text) for name, text in values.items()])


def _upload(client: MlflowClient, run_id: str, entry: FileEntry) -> None:
    path = Path(entry.path)
    if path.is_dir():
        client.log_artifacts(run_id, str(path), entry.folder)
    elif path.exists():
        client.log_artifact(run_id, str(path), entry.folder)
    else:
        # Retrying would not bring it back, and would hold up everything behind it.
        logger.warning("%s was to be uploaded, but it is no longer there", path)


def _set_state(client: MlflowClient, run_id: str, entry: StateEntry) -> None:
    # The state comes last: whoever sees a run ended finds its objective there.
    metrics = [Metric(name, value, entry.at_ms, 0) for name, value in entry.metrics.items()]
    tags = [RunTag(name, text) for name, text in entry.tags.items()]
    client.log_batch(run_id, metrics=metrics, tags=tags)
    if entry.status in ALIVE:
        client.update_run(run_id, status=entry.status)
    else:
        client.set_terminated(run_id, entry.status, entry.at_ms)
