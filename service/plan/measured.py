"""Remembers how long a trial took, so that the next plan of the same inputs need not guess."""

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel

from service.home import measured_folder
from service.spec.document import SweepSpec
from trainers.trial.kinds import Seconds


class _Note(BaseModel):
    trial_s: Seconds


def known_trial_s(home: Path, spec: SweepSpec) -> float | None:
    """Returns the mean seconds of a trial in an earlier sweep of these inputs, or None."""
    path = _path(home, spec)
    if not path.is_file():
        return None
    try:
        return _Note.model_validate_json(path.read_bytes()).trial_s
    except ValueError:
        # A half-written note is no measurement; the next sweep replaces it.
        return None


def remember_trial_s(home: Path, spec: SweepSpec, seconds: float, *, sweep_id: str) -> None:
    """Keeps the mean seconds of a completed trial of the sweep `sweep_id`."""
    path = _path(home, spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"sweep_id": sweep_id, "trial_s": seconds}) + "\n")


def _path(home: Path, spec: SweepSpec) -> Path:
    """Returns the note's file, named by what a trial's time depends on: inputs, budget, evaluation
    and resources, not the search."""
    names = {"teacher", "student", "tokenizer", "data", "training", "evaluation", "resources"}
    document = spec.model_dump_json(include=names)
    return measured_folder(home) / f"{hashlib.sha256(document.encode()).hexdigest()[:16]}.json"
