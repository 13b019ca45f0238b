"""Images in files as users have them."""

import gzip
import struct
from pathlib import Path

import numpy as np


def write_idx(
    folder: Path, pixels: np.ndarray, labels: np.ndarray, *, split: str = "train", end: str = ""
) -> Path:
    """Writes the two IDX files of a split (train | t10k) and returns the images'."""
    folder.mkdir(exist_ok=True)
    for name, array in (("images-idx3-ubyte", pixels), ("labels-idx1-ubyte", labels)):
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        content = header + array.tobytes()
        (folder / f"{split}-{name}{end}").write_bytes(gzip.compress(content) if end else content)
    return folder / f"{split}-images-idx3-ubyte{end}"


def write_like_fashion(folder: Path, *, count: int = 20) -> Path:
    """Writes `count` random images a split of Fashion-MNIST's size and classes, and returns their
    folder."""
    random = np.random.default_rng(0)
    for split in ("train", "t10k"):
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(folder, pixels, labels, split=split, end=".gz")
    return folder
