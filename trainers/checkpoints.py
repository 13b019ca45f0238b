"""Checkpoints of one trial: written whole or not at all, checked when read, the last good one taken
up."""

import json
import logging
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.fingerprints import of_file

STATE_FILE, CHECK_FILE = "state.pt", "check.json"
KEEP_LAST = 2
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints under one folder, named by step. Kept: the last two (when one is damaged the
    one before it is good), and the best by validation cross-entropy."""

    folder: Path

    def write(self, step: int, state: dict[str, Any], *, score: float) -> None:
        """Writes `state` (tensors and plain values) as the checkpoint after `step`; lower `score`
        is better."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".step-{step:08d}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        torch.save(state, temporary / STATE_FILE)
        check = {"step": step, "score": score, "sha256": of_file(temporary / STATE_FILE)}
        (temporary / CHECK_FILE).write_text(json.dumps(check))
        final = self.folder / f"step-{step:08d}"
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
        self._prune()

    def read_last(self, device: torch.device) -> dict[str, Any] | None:
        """Returns the state of the newest whole checkpoint, or None. A damaged one is named in a
        warning."""
        for path in reversed(self._all()):
            problem = _problem(path)
            if problem is None:
                return torch.load(path / STATE_FILE, map_location=device, weights_only=True)  # type: ignore[no-any-return]
            logger.warning("checkpoint %s is damaged (%s); using the one before it", path, problem)
        return None

    def discard(self) -> None:
        """Deletes all checkpoints: the trial has ended and its student is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []

    def _prune(self) -> None:
        paths = self._all()
        scores = {path: _score(path) for path in paths}
        best = min(paths, key=lambda path: scores[path])
        for path in paths[:-KEEP_LAST]:
            if path != best:
                shutil.rmtree(path)


def random_state(device: torch.device) -> dict[str, Any]:
    """Returns the state of all random number generators of this process, as tensors and plain
    values."""
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, words, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "python": [version, list(words), gauss],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Sets all random number generators of this process to what `random_state` returned."""
    torch.set_rng_state(state["torch"].cpu())
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def _problem(path: Path) -> str | None:
    try:
        check = json.loads((path / CHECK_FILE).read_text())
        actual = of_file(path / STATE_FILE)
    except (OSError, ValueError) as error:
        return str(error)
    return None if check["sha256"] == actual else f"{STATE_FILE} does not match its checksum"


def _score(path: Path) -> float:
    try:
        return float(json.loads((path / CHECK_FILE).read_text())["score"])
    except (OSError, ValueError, KeyError):
        return float("inf")
