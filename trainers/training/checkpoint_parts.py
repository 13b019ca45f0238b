"""The sharded tensors of a checkpoint: each worker writes its part of each, and any number of
workers reads them.

By torch's distributed checkpoints, as safetensors: its own format would be unpickled, which runs
whatever code is in it.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from trainers.students.sharding import placed
from trainers.world import World

STUDENT, OPTIMIZER = "student", "optimizer"


def split(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns a state without its sharded tensors, and these by name: `student.` with the
    parameter's, `optimizer.` with its place in the optimiser and the moment's."""
    named = {f"{STUDENT}.{name}": value for name, value in state[STUDENT].items()}
    moments = state[OPTIMIZER]["state"]
    named |= {f"{OPTIMIZER}.{i}.{k}": v for i, of_one in moments.items() for k, v in of_one.items()}
    sharded: dict[str, Tensor] = {k: v for k, v in named.items() if isinstance(v, DTensor)}
    student = {k: v for k, v in state[STUDENT].items() if f"{STUDENT}.{k}" not in sharded}
    kept = {
        i: {k: v for k, v in of_one.items() if f"{OPTIMIZER}.{i}.{k}" not in sharded}
        for i, of_one in moments.items()
    }
    optimizer = state[OPTIMIZER] | {"state": kept}
    return state | {STUDENT: student, OPTIMIZER: optimizer}, sharded


def joined(
    rest: dict[str, Any],
    folder: Path | None,
    *,
    student: Mapping[str, Tensor],
    parameters: Sequence[Tensor],
) -> dict[str, Any]:
    """Returns a state, one that was whole or what `split` left of one whose parts are in `folder`,
    with tensors like those of a student's trained state and of the optimiser's parameters, in their
    order."""
    weights = {
        name: placed(value, student[name]) if isinstance(value, Tensor) else value
        for name, value in rest[STUDENT].items()
        if name in student  # earlier versions' have frozen and tied weights, too
    }
    moments = {
        i: {k: _as_parameter(v, parameters[i]) for k, v in of_one.items()}
        for i, of_one in rest[OPTIMIZER]["state"].items()
    }
    for name, value in ({} if folder is None else _read(folder, student, parameters)).items():
        whose, _, key = name.partition(".")
        if whose == STUDENT:
            weights[key] = value
        else:
            place, _, moment = key.partition(".")
            moments[int(place)][moment] = value
    return rest | {STUDENT: weights, OPTIMIZER: rest[OPTIMIZER] | {"state": moments}}


def write(sharded: dict[str, Tensor], folder: Path, world: World) -> None:
    """Writes this worker's part of the tensors into a folder of its own; all workers call it.
    Raises `OSError` on all where one cannot write."""
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        save(sharded, storage_writer=writer, process_group=world.group)
    except CheckpointException as error:  # of torch, and no Exception
        raise OSError(_reasons(error)) from error


def _read(
    folder: Path, student: Mapping[str, Tensor], parameters: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Returns what the parts in a folder are together, of sharded tensors this worker's part."""

    def room(name: str, dtype: torch.dtype) -> Tensor:
        whose, _, key = name.partition(".")
        like = student[key] if whose == STUDENT else parameters[int(key.partition(".")[0])]
        return torch.empty_like(like.detach(), dtype=dtype)

    reader = HuggingFaceStorageReader(str(folder))
    stored = reader.read_metadata().state_dict_metadata
    found = {
        name: room(name, one.properties.dtype)
        for name, one in stored.items()
        if isinstance(one, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        # that it reads by itself, as it is to: what it reads, no other worker has to wait for
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        try:
            load(found, storage_reader=reader, no_dist=True)
        except CheckpointException as error:
            raise ValueError(
                f"the checkpoint in {folder} must be of the student that goes on with it, but "
                f"{_reasons(error)}. Delete it, and the trial starts anew."
            ) from error
    return found


def _reasons(error: CheckpointException) -> str:
    return "; ".join(str(each) for each, _ in error.failures.values())


def _as_parameter(value: Any, parameter: Tensor) -> Any:
    """A moment as its parameter is; the number of steps is none."""
    is_moment = isinstance(value, Tensor) and value.shape == parameter.shape
    return placed(value, parameter) if is_moment else value
