"""Users of the service and their tokens, in its tables."""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from service.accounts.tables import TOKENS, USERS
from service.accounts.users import NAME, User, UserRole, draw_token, is_secret, split_token
from service.errors import SpecError
from trainers.nearest import nearest


class People:
    """Who may use the service. now: seconds since 1970."""

    def __init__(self, engine: sa.Engine, now: Callable[[], float]) -> None:
        self._engine, self._now = engine, now

    def add(
        self, name: str, role: UserRole, *, project: str | None = None, may_run_code: bool = False
    ) -> User:
        """Returns a new user; project: by default one of their own name. Raises `SpecError` for a
        name that is none or was taken once."""
        made = User(
            _checked(name, "name"), role, _checked(project or name, "project"), may_run_code
        )
        values = vars(made) | {"added_at": self._now()}
        try:
            with self._engine.begin() as connection:
                connection.execute(USERS.insert().values(**values))
        except sa.exc.IntegrityError as error:
            raise SpecError(
                f"user {name}: a name may be given once, also after its user was removed, but got "
                "one that was. Choose another one."
            ) from error
        return made

    def all(self) -> list[User]:
        """Returns the users by name."""
        query = sa.select(USERS).where(USERS.c.removed_at.is_(None)).order_by(USERS.c.name)
        with self._engine.connect() as connection:
            return [_user(row) for row in connection.execute(query).mappings()]

    def one(self, name: str) -> User:
        """Returns the user. Raises `SpecError` with the nearest names when there is none."""
        known = {one.name: one for one in self.all()}
        if name not in known:
            raise SpecError(
                f"user {name}: must be one of the service's, but got none of this name."
                f"{nearest(name, list(known))} kd-sweep users list shows them."
            )
        return known[name]

    def remove(self, name: str) -> User:
        """Ends the user and their tokens, and returns who it was; their sweeps stay."""
        gone = self.one(name)
        with self._engine.begin() as connection:
            connection.execute(TOKENS.delete().where(TOKENS.c.user_name == name))
            ended = USERS.update().where(USERS.c.name == name).values(removed_at=self._now())
            connection.execute(ended)
        return gone

    def new_token(self, name: str, *, lasts_s: float) -> tuple[str, str, float]:
        """Returns a new token of the user: its text, which is stored nowhere, its id, and when it
        ends."""
        self.one(name)
        return self._keep_token(name, self._now() + lasts_s, None)

    def open_session(self, token: str, *, lasts_s: float) -> str | None:
        """Returns a token of its own for a page that shows `token`: it ends with that one, or
        before; None where that one lets nobody in."""
        row = self._row_of(token)
        if row is None:
            return None
        ends_at = min(row["ends_at"], self._now() + lasts_s)
        return self._keep_token(row["name"], ends_at, row["token_id"])[0]

    def _keep_token(
        self, name: str, ends_at: float, opened_with: str | None
    ) -> tuple[str, str, float]:
        drawn, now = draw_token(), self._now()
        values = {
            "token_id": drawn.token_id,
            "user_name": name,
            "secret_hash": drawn.secret_hash,
            "made_at": now,
            "ends_at": ends_at,
            "opened_with": opened_with,
        }
        with self._engine.begin() as connection:
            connection.execute(TOKENS.delete().where(TOKENS.c.ends_at <= now))
            connection.execute(TOKENS.insert().values(**values))
        return drawn.text, drawn.token_id, ends_at

    def tokens(self) -> list[Mapping[str, Any]]:
        """Returns id, user, making and end of each token but those of pages, the newest first."""
        columns = (TOKENS.c.token_id, TOKENS.c.user_name, TOKENS.c.made_at, TOKENS.c.ends_at)
        query = sa.select(*columns).where(TOKENS.c.opened_with.is_(None))
        query = query.order_by(TOKENS.c.made_at.desc())
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def revoke_token(self, token_id: str) -> None:
        """Ends a token, and the sessions of pages with it. Raises `SpecError` when there is none
        with this id."""
        with self._engine.begin() as connection:
            done = connection.execute(TOKENS.delete().where(TOKENS.c.token_id == token_id))
            connection.execute(TOKENS.delete().where(TOKENS.c.opened_with == token_id))
        if not done.rowcount:
            raise SpecError(
                f"token {token_id[:80]}: must be the id of a token, but got none of these. "
                "kd-sweep tokens list shows them."
            )

    def with_token(self, token: str) -> User | None:
        """Returns whose token it is; None for one that is unknown, revoked or has ended."""
        row = self._row_of(token)
        return None if row is None else _user(row)

    def _row_of(self, token: str) -> sa.RowMapping | None:
        """Returns the token and its user, where it lets somebody in."""
        parts = split_token(token)
        if parts is None:
            return None
        query = (
            sa.select(USERS, TOKENS.c.secret_hash, TOKENS.c.token_id, TOKENS.c.ends_at)
            .join(TOKENS, TOKENS.c.user_name == USERS.c.name)
            .where(TOKENS.c.token_id == parts[0], TOKENS.c.ends_at > self._now())
            .where(USERS.c.removed_at.is_(None))
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return row if row is not None and is_secret(parts[1], row["secret_hash"]) else None


def _user(row: sa.RowMapping) -> User:
    return User(row["name"], UserRole(row["role"]), row["project"], row["may_run_code"])


def _checked(name: str, what: str) -> str:
    if not NAME.fullmatch(name):
        raise SpecError(
            f"user: a {what} must be of lower-case letters, digits, '.', '_' and '-', 63 at most, "
            f"but got {name!r:.80}. For example: anna."
        )
    return name
