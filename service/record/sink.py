"""A trial's side of the record: metrics and files, sent from a thread of their own."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.home import DEFAULT_EXPERIMENT
from service.record.delivery import Delivery
from service.record.entries import FileEntry, MetricsEntry
from service.record.spool import Outbox

logger = logging.getLogger(__name__)


def now_ms() -> int:
    """Returns the wall clock in milliseconds since 1970, MLflow's unit."""
    return int(time.time() * 1000)


class Sink:
    """A trial's side of the record, used on its rank 0: every call but `close` returns at once and
    none raises, whatever the server does. It may be given a run that the server does not know yet:
    its entries wait until the driver's, which make the run, were delivered.
    """

    def __init__(self, run: str, outbox: Outbox) -> None:
        self._run, self._outbox = run, outbox

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one optimiser step; NaN and infinities are kept as such."""
        values = {name: float(value) for name, value in metrics.items()}
        self._outbox.put(MetricsEntry(run=self._run, at_ms=now_ms(), step=step, metrics=values))

    def upload(self, path: str | Path, artifact_path: str | None = None) -> None:
        """Takes a file or folder that has to stay where it is until it is uploaded."""
        entry = FileEntry(run=self._run, at_ms=now_ms(), path=str(path), folder=artifact_path)
        self._outbox.put(entry)

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
    one.
    """

    uri: str
    spool: str
    experiment: str = DEFAULT_EXPERIMENT

    def __call__(self, run_id: str) -> Sink:
        """Returns the sink of one run (`Tracker.start_trial`'s answer), with its thread started."""
        outbox = Outbox(Path(self.spool), Delivery(self.uri, self.experiment))
        outbox.start()
        return Sink(run_id, outbox)
