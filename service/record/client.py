"""MLflow's client, set up for a training loop. Importing this file does not load MLflow.

Only `MlflowClient` with explicit run ids is used, never the fluent API, whose active run is state
that all threads of a process share.
"""

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from service.home import SQLITE, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Settings of MLflow's client that its own defaults make unfit for a training loop: seven retries of
# 120 s each. Whoever sets them in the environment keeps the last word.
CLIENT_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where --json writes
}


def set_client_environment() -> None:
    """Sets `CLIENT_ENVIRONMENT`; to be called before MLflow is imported, which reads it then."""
    for name, value in CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def connect(uri: str) -> "MlflowClient":
    """Returns a client of the store at `uri`; a server is not asked anything yet."""
    set_client_environment()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def probe(uri: str) -> None:
    """Raises `sqlite3.Error` at once for a SQLite file that cannot be opened; MLflow itself would
    try for 100 s. Does nothing for other stores.
    """
    if uri.startswith(SQLITE):
        with closing(sqlite3.connect(sqlite_path(uri))) as database:
            database.execute("PRAGMA schema_version")


def artifact_root(uri: str) -> str:
    """Returns the folder, as a URI, that holds the artifacts of a SQLite store: beside its file."""
    return (sqlite_path(uri).resolve().parent / "artifacts").as_uri()
