"""Checkpoints of one trial: written completely or not at all, checked when read; a trial resumes
from the newest that is undamaged."""

import json
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from trainers.files.fingerprints import of_file
from trainers.files.shelves import Shelf, shelf_at
from trainers.world import World

STATE_FILE, CHECK_FILE = "state.pt", "check.json"
KEEP_LAST = 2
logger = logging.getLogger(__name__)
Done = TypeVar("Done")


@dataclass(frozen=True)
class Like:
    """What a state is read for: a student's trained state, and the parameters in the optimiser's
    order; is_sharded: of both each worker has its part."""

    student: Mapping[str, Tensor]
    parameters: list[Tensor]
    is_sharded: bool


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
            self._shelf.put(_name(step), fill, last=CHECK_FILE)
            self._prune()
        except OSError as error:
            self._note_unwritten(step, error)

    def write_parts(self, step: int, state: dict[str, Any], *, score: float, world: World) -> None:
        """As `write`, of a state whose tensors are sharded: every worker calls it and writes its
        part of them; the first one writes all else."""
        try:
            self._write_parts(step, state, score=score, world=world)
            if world.is_first:
                self._prune()
        except OSError as error:
            self._note_unwritten(step, error)

    def _write_parts(self, step: int, state: dict[str, Any], *, score: float, world: World) -> None:
        from trainers.training import checkpoint_parts

        name, shelf = _name(step), self._shelf
        rest, sharded = checkpoint_parts.split(state)

        def add_rest(folder: Path) -> dict[str, str]:
            if world.is_first:
                _save(rest, folder / STATE_FILE)
            return {path.name: of_file(path) for path in folder.iterdir()}

        def complete(sums: dict[str, str]) -> None:
            with shelf.part(name) as folder:
                own = {"step": step, "score": score, "sha256": sums.pop(STATE_FILE)}
                (folder / CHECK_FILE).write_text(json.dumps(own | {"parts": sums}))
            shelf.complete(name)

        _on_all(world, lambda: shelf.begin(name) if world.is_first else None)
        with ExitStack() as stack:
            folder = _on_all(world, lambda: stack.enter_context(shelf.part(name)))
            checkpoint_parts.write(sharded, folder, world)
            own = _on_all(world, lambda: add_rest(folder))
            _on_all(world, stack.close)
        sums = {file: one for part in world.gathered(own) for file, one in part.items()}
        _on_all(world, lambda: complete(sums) if world.is_first else None)

    def _note_unwritten(self, step: int, error: OSError) -> None:
        self.notice(
            f"the checkpoint after step {step} must be written to {self.place}, but got: "
            f"{error}. Training goes on, with the one before it; make room there."
        )

    def read_last(self, device: torch.device, like: Like | None = None) -> dict[str, Any] | None:
        """Returns the state of the newest undamaged checkpoint, its tensors as those of `like` are,
        whether or not it was sharded when it was written; or None. Each damaged one is a notice."""
        for name in reversed(self._shelf.names()):
            with self._shelf.get(name) as folder:
                problem = _problem(folder)
                if problem is None:
                    return _read(folder, device, like)
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


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _on_all(world: World, act: Callable[[], Done]) -> Done:
    """Returns what `act` returns here, once every worker has done it. Raises `OSError` on all where
    it failed on one: none waits for it in what comes next."""
    found, problem = None, None
    try:
        found = act()
    except OSError as error:
        problem = str(error)
    problems = [each for each in world.gathered(problem) if each is not None]
    if problems:
        raise OSError(problems[0])
    return found  # type: ignore[return-value]  # what `act` returned: it raised nothing


def _read(folder: Path, device: torch.device, like: Like | None) -> dict[str, Any]:
    is_sharded = like is not None and like.is_sharded
    # A device has room for a worker's part of a state, perhaps not for the whole.
    where = torch.device("cpu") if is_sharded else device
    # plain values and tensors only: unpickling anything else would run its code
    state = torch.load(folder / STATE_FILE, map_location=where, weights_only=True)
    parts = json.loads((folder / CHECK_FILE).read_text()).get("parts")
    if like is None or not (parts or is_sharded):
        return state  # type: ignore[no-any-return]
    from trainers.training import checkpoint_parts

    where_parts_are = folder if parts else None
    return checkpoint_parts.joined(
        state, where_parts_are, student=like.student, parameters=like.parameters
    )


def _problem(path: Path) -> str | None:
    try:
        check = json.loads((path / CHECK_FILE).read_text())
        sums = {STATE_FILE: check["sha256"], **check.get("parts", {})}
        wrong = [file for file, expected in sums.items() if of_file(path / file) != expected]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{wrong[0]} does not match its checksum" if wrong else None
