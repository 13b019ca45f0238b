"""Which versions of MLflow's tables are known here, so that what reads or changes them by SQL of
its own does so in no others."""

import sqlite3

# Alembic's versions of MLflow's tables in which those that are used here have their columns.
KNOWN_SCHEMAS = frozenset({"dc11669786a5"})


def is_known(versions: set[str]) -> bool:
    """Returns whether these, which a store has of itself, are those of a schema that is known."""
    return len(versions) == 1 and versions <= KNOWN_SCHEMAS


def is_known_in(database: sqlite3.Connection) -> bool:
    """Returns the same of a SQLite store. Raises `sqlite3.Error` for one without versions."""
    return is_known({row[0] for row in database.execute("SELECT version_num FROM alembic_version")})
