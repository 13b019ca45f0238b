"""Columns of numbers survive their file; another file is named."""

import math
from pathlib import Path

import pytest

from trainers.files.columns import read_columns, write_columns


def test_columns_come_back_to_the_last_bit(tmp_path: Path) -> None:
    columns = {"example_id": [-(2**63), 2**63 - 1, 0], "rouge_l": [0.1 + 0.2, math.nan, -0.0]}
    write_columns(tmp_path / "scores.parquet", columns)
    found = read_columns(tmp_path / "scores.parquet")
    assert found["example_id"] == columns["example_id"]
    assert [one.hex() for one in found["rouge_l"]] == [one.hex() for one in columns["rouge_l"]]


def test_what_is_no_such_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"other\.parquet must be a parquet file"):
        read_columns(path)
