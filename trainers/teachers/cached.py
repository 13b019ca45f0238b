"""The cached maker of teacher signals: hidden states from disk, the output head once in memory."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from trainers.parts import SPLIT_NAMES, Batch, Split
from trainers.signal import OutputHead, TeacherSignal
from trainers.teachers import cache
from trainers.top_k import TopKHead

# How a stored dtype is read from the file (NumPy), the torch dtype of those numbers, and the dtype
# they stand for. NumPy has no bfloat16: its bits are copied as integers.
READ_AS: dict[str, tuple[type, torch.dtype, torch.dtype]] = {
    "float32": (np.float32, torch.float32, torch.float32),
    "float16": (np.float16, torch.float16, torch.float16),
    "bfloat16": (np.int16, torch.int16, torch.bfloat16),
}
# The k largest logits of a position are bytes, which `TopKHead` unpacks.
PACKED = (np.uint8, torch.uint8, torch.uint8)


class CachedTeacher:
    """Reads what a teacher said. Its shards are mapped: memory does not grow with the cache, and
    the workers of a node share the pages that they read."""

    def __init__(self, folder: Path, splits: Mapping[str, Split], device: torch.device):
        """Opens the cache in `folder` for `splits` of the data it was built from. Raises
        `ValueError` for a damaged cache (naming the file) and for an example that it does not
        hold."""
        cache.check(folder)
        description = cache.read_description(folder)
        self._device = device
        is_packed = cache.k_of(description["dtype"]) is not None
        read_as, self._bits, self._dtype = PACKED if is_packed else READ_AS[description["dtype"]]
        self._head = read_head(folder, device)
        self._hidden_size = description["hidden_size"]
        self._maps: dict[str, list[NDArray[Any]]] = {name: [] for name in SPLIT_NAMES}
        for shard in description["shards"]:
            path = folder / f"{shard['name']}.safetensors"
            self._maps[shard["split"]].append(_map(path, read_as))
        self._counts = {name: split.num_learned for name, split in splits.items()}
        self._places = {name: _places(folder, name, split) for name, split in splits.items()}

    def hidden(self, split_name: str, examples: NDArray[np.int64]) -> Tensor:
        """Returns the hidden states [N, D] of some examples' learned positions, on the CPU, in the
        dtype they are stored in; pinned where a GPU waits for them."""
        shards, rows = self._places[split_name]
        counts = self._counts[split_name][examples]
        shape = (int(counts.sum()), self._hidden_size)
        tensor = torch.empty(shape, dtype=self._dtype, pin_memory=self._device.type == "cuda")
        # `out` and `tensor` share their memory: rows go from the map into the batch in one copy,
        # and straight into pinned memory where a GPU waits for them.
        out = tensor.view(self._bits).numpy()
        if (counts == 1).all():  # as images have
            for shard in np.unique(shards[examples]):
                here = shards[examples] == shard
                out[here] = self._maps[split_name][shard][rows[examples[here]]]
            return tensor
        at = 0
        for example, count in zip(examples.tolist(), counts.tolist(), strict=True):
            start = rows[example]
            out[at : at + count] = self._maps[split_name][shards[example]][start : start + count]
            at += count
        return tensor

    def signal(self, batch: Batch) -> TeacherSignal:
        """Returns what the teacher said about `batch`, in the head's dtype."""
        hidden = batch.teacher_hidden
        if hidden is None:
            hidden = self.hidden(batch.split_name, batch.examples)
        # Moved in the stored dtype, which may be half as wide, and converted there. Without
        # waiting: the copy is queued before whatever uses it, on the same stream.
        hidden, head = hidden.to(self._device, non_blocking=True), self._head
        if isinstance(head, OutputHead):
            hidden = hidden.to(head.weight.dtype)
        return TeacherSignal(hidden=hidden, head=head)


def _map(path: Path, dtype: type) -> NDArray[Any]:
    """The only tensor of a shard, mapped. A safetensors file is the length of its header (8 bytes),
    the header (JSON), and the tensors' bytes, with offsets from the end of the header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))["hidden"]
    start, stop = header["data_offsets"]
    shape = tuple(header["shape"])
    if start == stop:  # an empty range cannot be mapped
        return np.zeros(shape, dtype)
    # as a plain array: NumPy's class for maps takes its time at each index
    return np.asarray(
        np.memmap(path, dtype=dtype, mode="r", offset=8 + length + start, shape=shape)
    )


def read_head(folder: Path, device: torch.device) -> OutputHead | TopKHead:
    """Returns the head in `folder`, a cache or one that is being built."""
    with safe_open(folder / cache.HEAD_FILE, framework="pt") as file:
        scalars = {name: json.loads(value) for name, value in file.metadata().items()}
        tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}
    if "k" in scalars:
        return TopKHead(tensors["shape"], scalars["k"])
    return OutputHead(
        weight=tensors["weight"],
        bias=tensors.get("bias"),
        soft_cap=scalars["soft_cap"],
        scale=scalars["scale"],
        is_identity=scalars.get("is_identity", False),  # caches of before have no such head
    )


def _places(folder: Path, name: str, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shard and first row of each example of `split`, found by what the example is."""
    with safe_open(folder / cache.INDEX_FILE, framework="np") as file:
        known, shards, rows = (
            file.get_tensor(f"{name}.{column}") for column in ("example_id", "shard", "row")
        )
    # By what the examples are, not by their numbers: other data with the same examples in another
    # order reads the same cache. An id beyond the last one would be found behind the end.
    at = np.searchsorted(known, split.example_ids).clip(max=len(known) - 1)
    missing = np.flatnonzero(known[at] != split.example_ids)
    if len(missing):
        raise ValueError(
            f"teacher cache: {folder} must hold every example of {name}, but example "
            f"{missing[0]} is not in it: it was built from other data."
        )
    return shards[at], rows[at]
