"""Remembers what trials took, so that the next plan of the same inputs need not guess."""

import hashlib
from pathlib import Path
from statistics import mean

from pydantic import BaseModel

from service.home import measured_folder
from service.spec.document import SweepSpec
from trainers.trial.kinds import Count, Seconds


class TrialTimes(BaseModel):
    """Seconds of the trials that a sweep completed (mean, fastest, slowest, and how many), and from
    its start until they could begin, its preparing apart. None: an earlier version did not say."""

    sweep_id: str = ""
    trial_s: Seconds
    num_trials: Count | None = None
    fastest_s: Seconds | None = None
    slowest_s: Seconds | None = None
    start_s: Seconds | None = None


def known_times(home: Path, spec: SweepSpec) -> TrialTimes | None:
    """Returns what trials took in an earlier sweep of these inputs, or None."""
    path = _path(home, spec)
    if not path.is_file():
        return None
    try:
        return TrialTimes.model_validate_json(path.read_bytes())
    except ValueError:
        # A half-written note is no measurement; the next sweep replaces it.
        return None


def remember_times(
    home: Path, spec: SweepSpec, seconds: list[float], *, start_s: float | None, sweep_id: str
) -> None:
    """Keeps what the completed trials of the sweep `sweep_id`, at least one, took."""
    path = _path(home, spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    times = TrialTimes(
        sweep_id=sweep_id,
        trial_s=mean(seconds),
        num_trials=len(seconds),
        fastest_s=min(seconds),
        slowest_s=max(seconds),
        start_s=start_s,
    )
    path.write_text(times.model_dump_json() + "\n")


def _path(home: Path, spec: SweepSpec) -> Path:
    """Returns the note's file, named by what a trial's time depends on: inputs, budget, text,
    evaluation and resources, not the search."""
    inputs = {"teacher", "student", "tokenizer", "data"}
    names = inputs | {"training", "text", "evaluation", "resources"}
    document = spec.model_dump_json(include=names, exclude={"data": {"test"}})
    return measured_folder(home) / f"{hashlib.sha256(document.encode()).hexdigest()[:16]}.json"
