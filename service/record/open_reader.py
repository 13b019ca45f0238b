"""Chooses how a store is read: by SQL, by REST, or by MLflow's own client, which loads slowly."""

import shlex

from service.errors import TrackingError
from service.home import SQLITE
from service.record.client_reader import ClientReader
from service.record.reading import Reader, reason
from trainers.files.urls import without_secrets

SERVERS = ("http://", "https://")


def open_reader(uri: str) -> Reader:
    """Returns the quickest way to read the store at `uri` that is known to be right. Raises
    `TrackingError` with what to do where a database cannot be read."""
    if not uri.startswith(SERVERS):
        return _open_database(uri)
    # Each way loads a library, for a tenth of a second or two, and only where it is used.
    from service.record.rest_reader import RestReader, is_plain

    return RestReader(uri) if is_plain() else ClientReader(uri)


def _open_database(uri: str) -> Reader:
    from service.record.sql_reader import SqlReader

    try:
        reader = SqlReader(uri)
        if reader.is_known:
            return reader
        # MLflow refuses a schema that is not its own, and says which it is.
        other = ClientReader(uri)
        other.experiments()
        return other
    except TrackingError as error:
        raise TrackingError(unusable(uri, error.__cause__ or error)) from error


def unusable(uri: str, error: BaseException) -> str:
    """Returns what is wrong with a store that cannot be used, and what to do."""
    text, shown = reason(error).splitlines()[0].rstrip("."), without_secrets(uri)
    place = f"tracking: the store at '{shown}' must be readable and up to date, but got: {text}."
    if "out-of-date database schema" in text:
        return f"{place} Make a copy of it, then run: mlflow db upgrade {shlex.quote(shown)}."
    if isinstance(error, ImportError):
        return f"{place} Install it, or pip install 'kd-sweep[postgres]' and write postgresql://…"
    if "database is locked" in text:
        return f"{place} Another process writes to it: try again when that is done."
    if uri.startswith(SQLITE):
        return (
            f"{place} Move the file away (a new one is made), free the disk, or name another one."
        )
    return f"{place} Check the address and the credentials (MLFLOW_TRACKING_TOKEN or _USERNAME)."
