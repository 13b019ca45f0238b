"""Where the record is kept: makes and checks the store behind an MLflow address."""

import fcntl
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.errors import TrackingError
from service.home import SQLITE, make_home, spool_folders, sqlite_path, sqlite_uri
from service.record.client import (
    artifact_root,
    connect,
    probe,
    set_client_environment,
)
from service.record.delivery import Delivery
from service.record.entries import Away
from service.record.moved import follow_move
from service.record.open_reader import SERVERS, unusable
from service.record.spool import replay_folder

logger = logging.getLogger(__name__)
PROBE_TIMEOUT_S = 5.0


def ensure_store(uri: str, home: Path) -> None:
    """Makes the database of a local store once, whoever comes first, or checks that a server
    answers. Raises `TrackingError` with what to do.
    """
    check_address(uri)
    make_home(home)
    follow_move(uri, home)
    # Several processes that make one SQLite store at the same moment break it: only one at a time.
    # The lock is a file of its own, since the database's file is renamed into its place.
    try:
        with _file_lock(_folder_of(uri, home) / "mlflow.lock"):
            _open_store(uri)
    except Exception as error:
        raise TrackingError(unusable(uri, error)) from error


def check_address(uri: str) -> None:
    """Raises `TrackingError` unless `uri` names a store that can be used: a database, or a server
    that answers."""
    if uri.startswith(SERVERS):
        _check_server(uri)
    elif not uri.startswith((SQLITE, "postgresql")):
        raise TrackingError(
            "tracking: the store must be sqlite:///FILE, postgresql://…, http://… or https://…, "
            f"but got '{uri}'. Set tracking.uri or MLFLOW_TRACKING_URI to one of them."
        )


def _folder_of(uri: str, home: Path) -> Path:
    """Returns the folder of a SQLite store, which homes may share, else the home."""
    folder = sqlite_path(uri).parent
    return folder if uri.startswith(SQLITE) and folder.is_dir() else home


def _open_store(uri: str) -> None:
    if uri.startswith(SQLITE):
        _make_file(sqlite_path(uri))
    probe(uri)
    client = connect(uri)
    if uri.startswith(SQLITE):
        # Checks the schema's version. The artifact root is given here too, since MLflow's default
        # is below the folder that the process was started in.
        _sql_store(uri, artifact_root(uri))
    client.search_experiments(max_results=1)


def _make_file(path: Path) -> None:
    """Makes the SQLite file of a store that is not there. Under another name until it is complete,
    because MLflow cannot go on with one that was left half made: a kill in the seconds that the
    schema takes leaves a draft, which the next process removes, and the rename is atomic."""
    if path.exists() or not path.parent.is_dir():
        return
    draft = path.with_name(f"{path.name}.new")
    # Also SQLite's own files beside it, such as a journal, which would be applied to the new draft.
    for leftover in path.parent.glob(f"{draft.name}*"):
        leftover.unlink()
    # SQLite would make it as the umask says; it is for its owner alone.
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    store = _sql_store(sqlite_uri(draft), artifact_root(sqlite_uri(path)))
    # Closes every connection, so that nothing is written to the old name after the rename.
    store.engine.dispose()
    draft.rename(path)


def _sql_store(uri: str, root: str) -> Any:
    set_client_environment()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(uri, root)


def _check_server(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PROBE_TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        if error.code == 403:
            host = uri.split("//")[1].split("/")[0]
            raise TrackingError(
                f"tracking: the server at '{uri}' must accept this name for itself, but got 403. "
                f'Start it with: mlflow server --allowed-hosts "{host}" …'
            ) from error
        if error.code in (401, 404):
            return
        raise TrackingError(f"tracking: '{uri}' must be healthy, but got {error.code}.") from error
    except (OSError, ValueError) as error:
        raise TrackingError(
            f"tracking: a server must answer at '{uri}' within {PROBE_TIMEOUT_S:g} s, "
            f"but got: {error}. Start it (mlflow server), correct the address, or unset "
            "MLFLOW_TRACKING_URI to use a file."
        ) from error


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    # Never removed: a process that waits for it would lock a file that is in no folder.
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def replay_spool(uri: str, home: Path) -> int:
    """Delivers what processes that are gone left for this server in `home`; returns how many files
    still wait. Costs nothing when there are none."""
    return sum(
        _replay(folder, Delivery(uri, experiment))
        for experiment, folder in spool_folders(home, uri).items()
    )


def is_delivered(uri: str, home: Path) -> bool:
    """Returns whether nothing waits in `home` for this server."""
    folders = spool_folders(home, uri).values()
    return not any(True for folder in folders for _ in folder.glob("*.jsonl"))


def _replay(folder: Path, delivery: Delivery) -> int:
    waiting = len(list(folder.glob("*.jsonl")))
    if not waiting:
        return 0
    try:
        return replay_folder(folder, delivery)
    except Away as error:
        logger.warning("tracking is away, its record waits in %s: %s", folder, error)
        return waiting
