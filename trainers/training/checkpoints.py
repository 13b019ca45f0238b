"""Checkpoints of one trial: written completely or not at all, checked when read; a trial resumes
from the newest that is undamaged."""

import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.files.fingerprints import of_file
from trainers.files.shelves import Shelf, shelf_at

STATE_FILE, CHECK_FILE = "state.pt", "check.json"
KEEP_LAST = 2
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in one place (a folder or fsspec URL), named by step. Kept are the last two
    (when one is damaged, the one before it is used), and the best by validation cross-entropy.
    `notice` is called with a sentence when something is wrong with one of them."""

    place: Path | str
    notice: Callable[[str], None] = logger.warning

    @cached_property
    def _shelf(self) -> Shelf:
        return shelf_at(self.place)

    def write(self, step: int, state: dict[str, Any], *, score: float) -> None:
        """Writes `state` (tensors and plain values) as the checkpoint after `step`; lower `score`
        is better. Where it cannot be written (a full disk), the training is worth more than the
        checkpoint: that is a notice, and the ones before it stay."""

        def fill(folder: Path) -> None:
            _save(state, folder / STATE_FILE)
            # of the file as it was written: a copy to a URL, or a disk, may change it afterwards
            check = {"step": step, "score": score, "sha256": of_file(folder / STATE_FILE)}
            (folder / CHECK_FILE).write_text(json.dumps(check))

        try:
            self._shelf.put(f"step-{step:08d}", fill, last=CHECK_FILE)
            self._prune()
        except OSError as error:
            self.notice(
                f"the checkpoint after step {step} must be written to {self.place}, but got: "
                f"{error}. Training goes on, with the one before it; make room there."
            )

    def read_last(self, device: torch.device) -> dict[str, Any] | None:
        """Returns the state of the newest undamaged checkpoint, or None. Each damaged one is a
        notice."""
        for name in reversed(self._shelf.names()):
            with self._shelf.get(name) as folder:
                problem = _problem(folder)
                if problem is None:
                    # plain values and tensors only: unpickling anything else would run its code
                    return torch.load(folder / STATE_FILE, map_location=device, weights_only=True)  # type: ignore[no-any-return]
            self.notice(
                f"checkpoint {self.place}/{name} is damaged ({problem}); using the one before it"
            )
        return None

    def discard(self) -> None:
        """Deletes all checkpoints: the trial has ended and its student is saved."""
        self._shelf.clear()

    def _prune(self) -> None:
        names = self._shelf.names()
        # A checkpoint between evaluations has the score of the last one; the first of equals wins,
        # which is the evaluation's own.
        best = min(names, key=self._score)
        for name in names[:-KEEP_LAST]:
            if name != best:
                self._shelf.remove(name)

    def _score(self, name: str) -> float:
        try:
            return float(json.loads(self._shelf.text(name, CHECK_FILE))["score"])
        except (OSError, ValueError, KeyError, TypeError):
            return float("inf")  # damaged: never the best


def random_state(device: torch.device) -> dict[str, Any]:
    """Returns the state of all random number generators of this process, as tensors and plain
    values."""
    # As lists and tensors, not as the tuples and arrays that these modules give: `torch.load` with
    # weights_only refuses everything else.
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
    # `read_last` put every tensor on the trial's device, but generators take theirs from the CPU
    torch.set_rng_state(state["torch"].cpu())
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def _save(state: dict[str, Any], path: Path) -> None:
    """Writes `state`. Raises `OSError` where it cannot be written: torch itself, given a path,
    would not say why, and given a file hides the reason behind an error of its own."""
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _problem(path: Path) -> str | None:
    try:
        expected = json.loads((path / CHECK_FILE).read_text())["sha256"]
        actual = of_file(path / STATE_FILE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None if expected == actual else f"{STATE_FILE} does not match its checksum"
