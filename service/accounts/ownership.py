"""Whose each sweep is, and what repeated requests came to first."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from service.accounts.tables import KEYS, SWEEPS
from service.accounts.users import User
from service.errors import SpecError


@dataclass(frozen=True)
class OwnedSweep:
    """A sweep that a user of the service submitted; `plan_id`: the id that its plan has, which
    another user's sweep of the same plan has, too."""

    sweep_id: str
    plan_id: str
    name: str
    owner: str
    project: str
    submitted_at: float

    def is_seen_by(self, user: User) -> bool:
        """Returns whether the user sees it, who is no admin: by their project, or as its owner."""
        return self.project == user.project or self.owner == user.name


@dataclass(frozen=True)
class Claim:
    """A plan that a user submits. `taken`: ids of sweeps that nobody submitted to the service;
    `again`: although they have a sweep of this plan."""

    plan_id: str
    name: str
    taken: frozenset[str] = frozenset()
    again: bool = False


class Ownership:
    """Whose each sweep is. now: seconds since 1970."""

    def __init__(self, engine: sa.Engine, now: Callable[[], float]) -> None:
        self._engine, self._now = engine, now

    def owned(self, user: User | None = None) -> list[OwnedSweep]:
        """Returns the sweeps that `user` sees by their project, or all, the newest first."""
        query = sa.select(SWEEPS).order_by(SWEEPS.c.submitted_at.desc(), SWEEPS.c.sweep_id)
        with self._engine.connect() as connection:
            found = [OwnedSweep(**row) for row in connection.execute(query).mappings()]
        return [one for one in found if user is None or one.is_seen_by(user)]

    def claim(self, user: User, wanted: Claim) -> OwnedSweep:
        """Returns the user's sweep of a plan: the one that they have, or a new one, under the first
        of ID, ID-2, … that no sweep has."""
        while True:
            try:
                with self._engine.begin() as connection:
                    return self._claimed(connection, user, wanted)
            except sa.exc.IntegrityError:
                continue  # another process took the id meanwhile

    def _claimed(self, connection: sa.Connection, user: User, claim: Claim) -> OwnedSweep:
        same = sa.select(SWEEPS).where(SWEEPS.c.plan_id == claim.plan_id)
        known = [OwnedSweep(**row) for row in connection.execute(same).mappings()]
        own = [one for one in known if one.owner == user.name]
        if own and not claim.again:
            return max(own, key=lambda one: one.submitted_at)
        used = {one.sweep_id for one in known} | claim.taken
        sweep_id, number = claim.plan_id, 2
        while sweep_id in used:
            sweep_id, number = f"{claim.plan_id}-{number}", number + 1
        made = OwnedSweep(sweep_id, claim.plan_id, claim.name, user.name, user.project, self._now())
        connection.execute(SWEEPS.insert().values(**vars(made)))
        return made

    def once(self, user: User, key: str, request_hash: str, outcome: str) -> str:
        """Returns what the first request under this key comes to: `outcome`, where this is it.
        Raises as `recall`."""
        values = {
            "user_name": user.name,
            "key": key,
            "request_hash": request_hash,
            "outcome": outcome,
            "made_at": self._now(),
        }
        with suppress(sa.exc.IntegrityError), self._engine.begin() as connection:
            connection.execute(KEYS.insert().values(**values))
        return self.recall(user, key, request_hash) or outcome

    def recall(self, user: User, key: str, request_hash: str) -> str | None:
        """Returns what the request under this key came to, None for a new key. Raises `SpecError`
        when that one asked for something else."""
        query = sa.select(KEYS).where(KEYS.c.user_name == user.name, KEYS.c.key == key)
        with self._engine.connect() as connection:
            first = connection.execute(query).mappings().first()
        if first is None:
            return None
        if first["request_hash"] != request_hash:
            raise SpecError(
                "Idempotency-Key: a key must stand for one request, but got it with another one "
                "before. Draw a new key."
            )
        return str(first["outcome"])
