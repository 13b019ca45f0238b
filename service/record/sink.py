"""A trial's side of the record: metrics and files, sent from a thread of their own."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.home import DEFAULT_EXPERIMENT
from service.record.delivery import Delivery
from service.record.entries import FileEntry, MetricsEntry, ModelEntry, ModelFacts
from service.record.spool import Outbox

logger = logging.getLogger(__name__)
STUDENT = "student"  # where a trial's student is among its run's artifacts, and its model's name


def now_ms() -> int:
    """Returns the wall clock in milliseconds since 1970, MLflow's unit."""
    return int(time.time() * 1000)


class Sink:
    """A trial's side of the record, used on its rank 0: every call but `close` returns at once and
    none raises, whatever the server does. It may be given a run that the server does not know yet:
    its entries wait until the driver's, which make the run, were delivered.
    """

    def __init__(self, run: str, outbox: Outbox, model: ModelFacts | None = None) -> None:
        self._run, self._outbox, self._model = run, outbox, model

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one optimiser step; NaN and infinities are kept as such."""
        values = {name: float(value) for name, value in metrics.items()}
        self._outbox.put(MetricsEntry(run=self._run, at_ms=now_ms(), step=step, metrics=values))

    def upload(self, path: str | Path, artifact_path: str | None = None) -> None:
        """Takes a file or folder that has to stay where it is until it is uploaded."""
        entry = FileEntry(run=self._run, at_ms=now_ms(), path=str(path), folder=artifact_path)
        self._outbox.put(entry)

    def keep_student(self, folder: Path) -> None:
        """Takes the trial's student. The record alone keeps it: the folder goes once it is
        there."""
        if self._model is None:
            self.upload(folder, STUDENT)
            return
        self._outbox.put(
            ModelEntry(
                run=self._run, at_ms=now_ms(), path=str(folder), name=STUDENT, facts=self._model
            )
        )

    def close(self, timeout_s: float) -> bool:
        """Delivers what is left for at most `timeout_s`, the rest waits in the spool. Returns
        whether all was delivered.
        """
        try:
            return self._outbox.close(timeout_s)
        except OSError as error:
            logger.error(
                "the last metrics of %s are lost, the spool is not writable: %s", self._run, error
            )
            return False


@dataclass(frozen=True)
class SinkFactory:
    """Makes sinks in a worker; picklable. spool: a folder, shared with the driver where there is
    one; model: what is known of the students, None where they are none of transformers.
    """

    uri: str
    spool: str
    experiment: str = DEFAULT_EXPERIMENT
    model: ModelFacts | None = None

    def __call__(self, run_id: str) -> Sink:
        """Returns the sink of one run (`Tracker.start_trial`'s answer), with its thread started."""
        outbox = Outbox(Path(self.spool), Delivery(self.uri, self.experiment))
        outbox.start()
        return Sink(run_id, outbox, self.model)
