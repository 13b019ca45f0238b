"""A home folder that was moved or copied: MLflow keeps the place of every artifact as an absolute
path, so that without what is done here the copy would read from the old folder and write into it.

The store's file alone is read and changed, by SQLite: this comes before every question to the
record, and MLflow takes seconds to load. A running sweep's home is left as it is: one folder may
have two names, as in a container, and the other one counts for the sweep.
"""

import json
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from service.home import DRIVER_LOCK, SQLITE, spool_folder, sqlite_path, sqlite_uri, sweeps_folder
from service.record.client import artifact_root
from service.record.schema import is_known_in
from trainers.files import store
from trainers.trial.trial_file import TrialFile

logger = logging.getLogger(__name__)
FILE = "file://"
# Column by table in which MLflow keeps the place of an artifact, as a URI or as a path.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
# What is named by its content, or by its sweep, and so is the same in every home.
_SAME_EVERYWHERE = re.compile(
    r"(prepared/\w+/[0-9a-f]{20}|caches/[0-9a-f]{20}|sweeps/[^/]+/own_modules(/.*)?)$"
)


def follow_move(uri: str, home: Path) -> None:
    """Has a local store, and what waits in the spool of `home`, name the folder where it is now,
    and says so. Does nothing for a store that was not moved, or that is none."""
    path = sqlite_path(uri)
    if not uri.startswith(SQLITE) or not path.is_file():
        return
    root = Path(unquote(artifact_root(uri).removeprefix(FILE)))
    try:
        with closing(sqlite3.connect(path, timeout=30)) as database:
            old = _old_root(database, root)
            if old is None:
                return
            reason = _reason_to_leave(database, home)
            if reason is not None:
                logger.warning("%s: its record names %s; %s", path, old, reason)
                return
            # The store last: it is what says that there was a move.
            _take_over_spool(home, path, old.parent)
            for each in _texts(home, root):
                _rename_in(each, old.parent, root.parent)
            number = _rename(database, old, root)
    except (sqlite3.Error, OSError) as error:  # whoever opens it next says what is wrong with it
        logger.info("%s: not looked at: %s", path, error)
        return
    if number:
        logger.warning(
            "%s was moved or copied from %s: %d places of artifacts in its record name it now",
            root.parent,
            old.parent,
            number,
        )


def trial_here(trial: TrialFile, home: Path) -> TrialFile:
    """Returns the trial with those paths in `home` that hold the same as what was recorded, in
    another home or in this one before it was moved."""
    found = {}
    for name, place in trial.paths.model_dump(exclude_none=True).items():
        match = _SAME_EVERYWHERE.search(place)
        if match is not None and (home / match[0]).is_dir():
            found[name] = str(home / match[0])
    return trial.model_copy(update={"paths": trial.paths.model_copy(update=found)})


def _old_root(database: sqlite3.Connection, root: Path) -> Path | None:
    """Returns the folder of artifacts that the store names, None where that is `root` or an
    experiment's own choice. It was moved where `root` has the experiment's folder too."""
    for (location,) in database.execute("SELECT artifact_location FROM experiments"):
        folder = Path(unquote(str(location).removeprefix(FILE)))
        old = folder.parent
        is_other = folder.is_absolute() and old.name == root.name and old != root
        if is_other and (root / folder.name).is_dir() and not _is_same(old, root):
            return old
    return None


def _is_same(old: Path, root: Path) -> bool:
    return old.exists() and old.samefile(root)


def _reason_to_leave(database: sqlite3.Connection, home: Path) -> str | None:
    """Returns why a store that was moved is not changed, None where it may be."""
    if _is_in_use(home):
        return "it is left so while a sweep runs"
    if not is_known_in(database):
        return (
            "it is left so, and artifacts are read and written there, since its tables are of "
            "another version of MLflow than those that are known here"
        )
    return None


def _is_in_use(home: Path) -> bool:
    for path in sweeps_folder(home).glob(f"*/{DRIVER_LOCK}"):
        with store.locked(path, wait=False) as is_free:
            if not is_free:
                return True
    return False


def _rename(database: sqlite3.Connection, old: Path, new: Path) -> int:
    """Renames the places that begin with `old`, all of them or none; returns how many."""
    number = 0
    with database:
        database.execute("BEGIN IMMEDIATE")
        for table, column in PLACES:
            for before, after in ((old.as_uri(), new.as_uri()), (str(old), str(new))):
                number += database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (after, len(before) + 1, len(before) + 1, f"{before}/"),
                ).rowcount
        for before, after in _in_json(old.parent, new.parent):
            database.execute(
                "UPDATE datasets SET dataset_source = replace(dataset_source, ?, ?)",
                (before, after),
            )
    return number


def _take_over_spool(home: Path, path: Path, old_home: Path) -> None:
    """Renames the folder of what waits for this store, which has its name from the address."""
    before = spool_folder(home, sqlite_uri(old_home / path.name))
    after = spool_folder(home, sqlite_uri(path))
    for waiting in before.rglob("*.jsonl"):
        target = after / waiting.relative_to(before)
        target.parent.mkdir(parents=True, exist_ok=True)
        waiting.rename(target)


def _texts(home: Path, root: Path) -> Iterator[Path]:
    """Yields the files that name files of the home: what sweeps and trials go on from, and what
    waits for a store."""
    yield from root.glob("*/*/artifacts/plan.json")
    yield from root.glob("*/*/artifacts/trial.json")
    yield from (home / "spool").rglob("*.jsonl")


def _rename_in(path: Path, old_home: Path, home: Path) -> None:
    before = after = path.read_text()
    for old, new in _in_json(old_home, home):
        # Inside the old folder, a new name begins as an old one does: a process that was killed
        # here may have renamed this file already.
        if not (new.startswith(old) and new in before):
            after = after.replace(old, new)
    if after != before:
        store.write_text(path, after)


def _in_json(old: Path, new: Path) -> list[tuple[str, str]]:
    """Returns how a path below `old` begins as a string of JSON, and how it has to: as Python
    writes JSON, and as pydantic does."""
    pairs = [
        tuple(json.dumps(f"{one}/", ensure_ascii=ascii_only)[:-1] for one in (old, new))
        for ascii_only in (True, False)
    ]
    return [(before, after) for before, after in dict.fromkeys(pairs)]
