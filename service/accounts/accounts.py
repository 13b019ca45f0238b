"""The service's tables, opened: its users, whose its sweeps are, and who did what."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.accounts.ownership import Ownership
from service.accounts.people import People
from service.accounts.quotas import QuotaTable
from service.accounts.tables import DEEDS, FORMAT, FORMAT_VERSION, METADATA
from service.errors import PlanError, TrackingError
from trainers.files.urls import without_secrets

BUSY_S = 30  # that a process waits for another one's transaction on a SQLite file
MOST_DEEDS = 1000  # of one question


@dataclass(frozen=True)
class Deed:
    """Who did what, and to what."""

    at: float
    user: str
    deed: str
    about: str


class Accounts:
    """The tables at `url`, which are made where they are not there. now: seconds since 1970.

    Raises `PlanError` when the database cannot be opened or is another version's.
    """

    def __init__(self, url: str, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        try:
            self._engine = sa.create_engine(url, **_options_of(url))
            METADATA.create_all(self._engine)
            with self._engine.begin() as connection:
                found = connection.scalar(sa.select(FORMAT.c.version))
                if found is None:
                    connection.execute(FORMAT.insert().values(version=FORMAT_VERSION))
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise PlanError(
                f"accounts: the database at {without_secrets(url)} must open, but got: {reason}. "
                "Correct --database, or start its server."
            ) from error
        if found not in (None, FORMAT_VERSION):
            raise PlanError(
                f"accounts: the tables must be of version {FORMAT_VERSION}, but got {found}. Use "
                "the kd-sweep that made them, or another --database."
            )

        self.people = People(self._engine, now)
        self.sweeps = Ownership(self._engine, now)
        self.quotas = QuotaTable(self._engine)

    def check(self) -> None:
        """Raises `TrackingError` when the database does not answer."""
        try:
            with self._engine.connect() as connection:
                connection.execute(sa.select(FORMAT.c.version))
        except sa.exc.SQLAlchemyError as error:
            raise TrackingError(
                f"accounts: the database must answer, but got: {str(error).splitlines()[0]}. Start "
                "its server."
            ) from error

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def note(self, user: str, deed: str, about: str = "") -> None:
        """Writes down that the user did this."""
        values = {"at": self._now(), "user_name": user, "deed": deed, "about": about[:255]}
        with self._engine.begin() as connection:
            connection.execute(DEEDS.insert().values(**values))

    def deeds(self) -> list[Deed]:
        """Returns the last `MOST_DEEDS` deeds, the newest first."""
        query = sa.select(DEEDS).order_by(DEEDS.c.number.desc()).limit(MOST_DEEDS)
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings()
            return [Deed(r["at"], r["user_name"], r["deed"], r["about"]) for r in rows]


def _options_of(url: str) -> dict[str, Any]:
    return {"connect_args": {"timeout": BUSY_S}} if url.startswith("sqlite") else {}


@contextmanager
def open_accounts(url: str) -> Iterator[Accounts]:
    """Yields the tables at `url`, and closes them."""
    made = Accounts(url)
    try:
        yield made
    finally:
        made.close()
