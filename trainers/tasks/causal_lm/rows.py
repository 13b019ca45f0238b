"""Reads rows from files of the forms that people have; no torch.

JSON Lines, a JSON array and CSV (each also gzipped) are read here, exactly and line by line;
parquet, Arrow and folders that `save_to_disk` wrote are read through `datasets`.
"""

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from trainers.files import fingerprints
from trainers.files.lines import numbered_lines

STATE, INFO = "state.json", "dataset_info.json"  # of what save_to_disk writes
GZIP, CSV, PARQUET, ARROW = ".gz", ".csv", ".parquet", ".arrow"
_SPACE = re.compile(r"[ \t\r\n]*")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"a name may be in an object once, but got {twice!r:.40} twice")
    return found


# Not strict: characters that JSON wants escaped are data where a writer left them as they are.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object)

Rows = Iterator[tuple[str, Any]]
"""The place of each row (file and line, for errors), and the row."""


def read_rows(path: Path, split: str, json_columns: Collection[str] = ()) -> Rows:
    """Yields the rows of a file, or of a folder that `save_to_disk` wrote (of `split` where it
    holds several). In CSV all cells are text; those of `json_columns` hold JSON, or nothing.
    Raises `ValueError` naming the file, and the line where there are lines, and `OSError` where
    it cannot be read."""
    ending = path.suffix.lower()
    if path.is_dir():
        return _stored_rows(path, split)
    if ending in (PARQUET, ARROW):
        return _table_rows(path, ending)
    content = path.read_bytes()
    if ending == GZIP:
        content, ending = _unpacked(content, path), path.with_suffix("").suffix.lower()
    if ending == CSV:
        return _csv_rows(_text(content, str(path)), str(path), json_columns)
    return json_rows(content, str(path))


def is_stored(folder: Path) -> bool:
    """Returns whether `save_to_disk` wrote a folder, of one split or several."""
    return any(folder.glob(STATE)) or any(folder.glob(f"*/{STATE}"))


def fingerprint(path: Path, split: str) -> str:
    """Returns the SHA-256 of the bytes that `read_rows` reads. Raises as it does."""
    if not path.is_dir():
        return fingerprints.of_file(path)
    folder = _split_folder(path, split)
    try:
        state = json.loads((folder / STATE).read_bytes())
        names = [STATE, INFO, *(file["filename"] for file in state["_data_files"])]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{folder / STATE} must be as save_to_disk wrote it, but got: {error!r}."
        ) from error
    return fingerprints.of_document({name: fingerprints.of_file(folder / name) for name in names})


def json_rows(content: bytes, place: str) -> Rows:
    """Yields the rows of JSON Lines, or of one JSON array. Raises `ValueError` naming `place` and
    the line."""
    # A line of JSON Lines is an object here, so what begins with a bracket can only be an array.
    if content.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        yield from _array_rows(_text(content, place), place)
        return
    for number, line in numbered_lines(content):
        where = f"{place}, line {number}"
        yield where, _decoded(_text(line, where), where)


def _decoded(text: str, where: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where}: each line must be one JSON object, but got {text[:60]!r} ({_reason(error)})."
        ) from error


def _array_rows(text: str, place: str) -> Rows:
    """Decodes one element after another, so that each has its line."""
    at = _after_space(text, text.index("[") + 1)
    line, counted, record = 1, 0, 0
    mark, at = ("]", at + 1) if text[at : at + 1] == "]" else (",", at)
    while mark == ",":
        line += text.count("\n", counted, at)
        counted, record = at, record + 1
        where = f"{place}, line {line}, record {record}"
        row, at = _element(text, at, where)
        yield where, row
        at = _after_space(text, at)
        mark, at = text[at : at + 1], _after_space(text, at + 1)
        if mark not in (",", "]"):
            raise ValueError(
                f"{where}: after a record of a JSON array there must be a comma or the array's "
                f"end, but got {mark!r}."
            )
    if rest := text[at:].strip():
        raise ValueError(f"{place}: nothing may follow a JSON array, but got {rest[:20]!r}.")


def _element(text: str, at: int, where: str) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        got = text[at : at + 60]
        raise ValueError(
            f"{where}: a record must be one JSON object, but got {got!r} ({_reason(error)})."
        ) from error


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None  # no space at all matches too
    return found.end()


def _reason(error: Exception) -> str:
    return getattr(error, "msg", "") or str(error)


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} must be UTF-8 text, but got a wrong byte at {error.start}."
        ) from error


def _unpacked(content: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} must be complete gzip, but got: {error}.") from error


def _csv_rows(text: str, place: str, json_columns: Collection[str]) -> Rows:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # an answer may be long
    # newline="": a return inside a quoted cell is data
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    lists: list[str] = []
    line = 1
    try:
        for cells in reader:
            where, line = f"{place}, line {line}", reader.line_num + 1
            if header is None:
                header = _checked_header(cells, where)
                lists = [name for name in header if name in json_columns]
            elif cells:
                row = _csv_row(header, cells, where)
                yield where, row | {name: _cell(row, name, where) for name in lists}
    except csv.Error as error:
        raise ValueError(f"{place}, line {line}: must be CSV, but got: {error}.") from error


def _checked_header(names: list[str], where: str) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: a column may be named once, but got {names}.")
    return names


def _csv_row(header: list[str], cells: list[str], where: str) -> dict[str, str]:
    if len(cells) != len(header):
        raise ValueError(
            f"{where}: a row must have {len(header)} cells, as the header has, "
            f"but got {len(cells)}. Quote cells that hold commas, quotes or line ends."
        )
    return dict(zip(header, cells, strict=True))


def _cell(row: dict[str, str], name: str, where: str) -> Any:
    if not row[name].strip():
        return None
    try:
        return _DECODER.decode(row[name])
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where}: '{name}' must be a list, in CSV written as JSON, but got {row[name]!r:.60}."
        ) from error


def _table_rows(path: Path, ending: str) -> Rows:
    import datasets
    import pyarrow.parquet

    def load() -> Any:
        # not `from_parquet`: that keeps a copy, which it takes for the file when that has changed
        if ending == PARQUET:
            return datasets.Dataset(pyarrow.parquet.read_table(path))
        return datasets.Dataset.from_file(str(path))

    return _dataset_rows(load, path, "a parquet file" if ending == PARQUET else "an Arrow file")


def _stored_rows(path: Path, split: str) -> Rows:
    import datasets

    folder = _split_folder(path, split)
    return _dataset_rows(
        lambda: datasets.load_from_disk(str(folder)), folder, "a folder that save_to_disk wrote"
    )


def _dataset_rows(load: Callable[[], Any], path: Path, wanted: str) -> Rows:
    try:
        rows = list(load())
    except FileNotFoundError:
        raise
    except Exception as error:  # Arrow and `datasets` raise many kinds; all mean the same
        raise ValueError(f"{path} must be {wanted}, but got: {error}.") from error
    for number, row in enumerate(rows):
        yield f"{path}, row {number}", row


def _split_folder(path: Path, split: str) -> Path:
    """Returns the folder of one split. Raises `ValueError` where there is none."""
    if (path / STATE).is_file():
        return path
    splits = sorted(state.parent.name for state in path.glob(f"*/{STATE}"))
    if split not in splits:
        raise ValueError(
            f"{path} must hold the split '{split}', but got {', '.join(splits)}. "
            "Name one: data.train_split, data.validation_split."
        )
    return path / split
