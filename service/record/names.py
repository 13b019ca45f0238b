"""Names that a shell completes: the sweeps and trials of a local store, read from its file alone,
since MLflow takes seconds to load. Of a server nothing is read.

Whatever is wrong with the store, and where its tables are not known here, there is nothing to
complete: a shell shows no errors.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from service.record import tags
from service.record.schema import is_known_in

MAX_NAMES = 1000
_SWEEPS = """
    SELECT ids.value, names.value FROM runs
    JOIN tags kinds ON kinds.run_uuid = runs.run_uuid AND kinds.key = ? AND kinds.value = ?
    JOIN tags ids ON ids.run_uuid = runs.run_uuid AND ids.key = ?
    LEFT JOIN tags names ON names.run_uuid = runs.run_uuid AND names.key = ?
    WHERE runs.lifecycle_stage = 'active' ORDER BY runs.start_time DESC LIMIT ?
"""
_TRIALS = """
    SELECT numbers.value, runs.name FROM tags ids
    JOIN runs ON runs.run_uuid = ids.run_uuid AND runs.lifecycle_stage = 'active'
    JOIN tags kinds ON kinds.run_uuid = ids.run_uuid AND kinds.key = ? AND kinds.value = ?
    JOIN tags numbers ON numbers.run_uuid = ids.run_uuid AND numbers.key = ?
    WHERE ids.key = ? AND ids.value = ? ORDER BY runs.start_time LIMIT ?
"""


def sweep_names(store: Path) -> list[tuple[str, str]]:
    """Returns id and name of each sweep in the SQLite file `store`, the newest first."""
    kind = (tags.KIND, tags.KIND_SWEEP)
    return _rows(store, _SWEEPS, (*kind, tags.SWEEP_ID, tags.SWEEP_NAME, MAX_NAMES))


def trial_names(store: Path, sweep_id: str) -> list[tuple[str, str]]:
    """Returns number and name of each trial of a sweep, in the order in which they started."""
    kind = (tags.KIND, tags.KIND_TRIAL)
    return _rows(store, _TRIALS, (*kind, tags.TRIAL, tags.SWEEP_ID, sweep_id, MAX_NAMES))


def _rows(store: Path, query: str, values: tuple[object, ...]) -> list[tuple[str, str]]:
    if not store.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute(query, values).fetchall() if is_known_in(database) else []
    except sqlite3.Error:
        return []
    return [(str(first), str(second or "")) for first, second in rows]
