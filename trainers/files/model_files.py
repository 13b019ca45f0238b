"""Which files of a model's folder hold its weights, and what their headers say; no torch."""

import math
import struct
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

from trainers.files.json_files import parse_json, read_object

# The files that transformers looks for, in its order.
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LENGTH_BYTES = 8  # a safetensors file begins with the length of its header
# What a header calls the dtypes of weights that are plain numbers.
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class Tensor(NamedTuple):
    """A tensor as a header describes it; dtype: as safetensors calls it."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


class Header(NamedTuple):
    """What a safetensors file says of itself: its tensors by name, and its bytes."""

    tensors: dict[str, Tensor]
    size: int


def read_header(path: Path) -> Header:
    """Returns the header of a safetensors file. Raises `ValueError` for a damaged one."""
    size = path.stat().st_size
    try:
        return _read(path, size)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error) as error:
        raise ValueError(
            f"{path} must be a safetensors file, but its header cannot be read ({size} bytes, "
            f"{type(error).__name__}). Copy or download it again."
        ) from error


def weight_map(index: Path) -> dict[str, str]:
    """Returns the file of each tensor by an index of several. Raises `ValueError` naming it for a
    damaged one."""
    found = read_object(index, {"weight_map": dict})["weight_map"]
    if not all(isinstance(name, str) for name in found.values()):
        raise ValueError(
            f"{index}: weight_map: must have a file for each tensor, but got {found!r:.60}. "
            "Copy or download the folder again."
        )
    return dict(found)


def num_parameters(folder: Path) -> int | None:
    """Returns how many weights the safetensors that will be loaded hold; None without any. Raises
    `ValueError` naming the file that is damaged."""
    return sum(tensor.size for tensor in _tensors(folder)) or None


def stored_dtype(folder: Path) -> str | None:
    """Returns the dtype (float32 | float16 | bfloat16) that most weights of a model are stored in;
    None for another one, as of quantised weights, and without safetensors. Raises `ValueError`
    naming the file that is damaged."""
    counts: Counter[str] = Counter()
    for tensor in _tensors(folder):
        counts[tensor.dtype] += tensor.size
    return FLOATS.get(counts.most_common(1)[0][0]) if counts else None


def half_precision(folder: Path) -> Literal["float16", "bfloat16"] | None:
    """Returns that dtype where it is a half one: a model that is used as it is; None for others.
    Raises `ValueError` as `stored_dtype`."""
    match stored_dtype(folder):
        case "float16" | "bfloat16" as found:
            return found
    return None


def _tensors(folder: Path) -> list[Tensor]:
    return [one for path in _loaded(folder) for one in read_header(path).tensors.values()]


def _loaded(folder: Path) -> list[Path]:
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        return [folder / name for name in sorted(set(weight_map(folder / INDEX).values()))]
    return []


def _read(path: Path, size: int) -> Header:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(LENGTH_BYTES))
        if length > size:
            raise ValueError(f"a header of {length} bytes")
        content = parse_json(file.read(length), path)
    tensors = {name: tensor for name, tensor in content.items() if name != "__metadata__"}
    end = max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
    described = {
        name: Tensor(tuple(int(n) for n in tensor["shape"]), str(tensor["dtype"]))
        for name, tensor in tensors.items()
    }
    return Header(described, LENGTH_BYTES + length + end)
