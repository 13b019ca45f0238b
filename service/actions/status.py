"""How a sweep is doing, as a value. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from service.cluster.sweep_job import SweepJob
from service.events import SweepEnded, SweepGoesOn, TrialEnded, TrialStarted, from_line
from service.states import TrialState


@dataclass(frozen=True)
class SweepStatus:
    """How a sweep is doing. `driver`: the job on a cluster, the process on this machine, None when
    nobody drives it here; `trials`: how many are in each state, empty where many sweeps are listed;
    `message`: why it failed."""

    sweep_id: str
    state: TrialState
    driver: str | None
    trials: dict[str, int] = field(default_factory=dict)
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return {
            "sweep_id": self.sweep_id,
            "state": str(self.state),
            "driver": self.driver,
            "trials": self.trials,
            "message": self.message or None,
        }

    def to_line(self) -> dict[str, Any]:
        """Returns the row of `--json` where many sweeps are listed."""
        row = self.to_json()
        return {name: row[name] for name in row if name != "trials"}

    def as_job(self) -> SweepJob:
        """Returns what drives the sweep, or will, as a job of its own."""
        return SweepJob(self.sweep_id, self.driver or self.sweep_id, self.state, self.message)


def count_trials(lines: Iterable[str]) -> dict[str, int]:
    """Returns a sweep's trials by state, from the lines of its driver's log."""
    counts: Counter[str] = Counter()
    running: set[int] = set()
    for line in lines:
        match from_line(line):
            case SweepGoesOn(counts=before):
                counts.update(before)
            case TrialStarted(trial=trial):
                running.add(trial)
            case TrialEnded(trial=trial, state=state):
                running.discard(trial)
                counts[state] += 1
            case SweepEnded(summary=summary):
                return dict(summary.counts)
    return dict(counts) | ({"running": len(running)} if running else {})
