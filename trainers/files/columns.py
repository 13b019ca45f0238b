"""Columns of numbers in a small file (parquet)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_columns(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Writes columns of one length, each of integers or of floats, into `path`."""
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), path, compression="zstd")


def read_columns(path: Path) -> dict[str, list[Any]]:
    """Returns the columns in `path`. Raises `ValueError` where it is no such file."""
    import pyarrow.parquet

    try:
        found: dict[str, list[Any]] = pyarrow.parquet.read_table(path).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} must be a parquet file, but got: {error}.") from error
    return found
