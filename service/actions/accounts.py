"""Users of a service and their tokens: added, listed and ended by who has the home folder, or the
database."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.accounts.accounts import Accounts, open_accounts
from service.accounts.users import User, UserRole
from service.errors import SpecError
from service.home import accounts_file, make_home, sqlite_uri
from service.workspace import Workspace
from trainers.nearest import nearest

DAY_S = 86400.0
FIRST = "admin"  # the user that a service starts with
FIRST_LASTS_DAYS = 365.0


@dataclass(frozen=True)
class MadeToken:
    """A new token: its text, which is shown this once, whose it is, and when it ends."""

    token: str
    token_id: str
    user: str
    ends_at: float

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return vars(self) | {"ends_at": in_utc(self.ends_at)}


def accounts_url(workspace: Workspace, database: str | None) -> str:
    """Returns the address of the database: the given one, else of a file in the home folder."""
    if database is not None:
        return database
    make_home(workspace.home)
    return sqlite_uri(accounts_file(workspace.home))


@contextmanager
def _opened(workspace: Workspace, database: str | None) -> Iterator[Accounts]:
    with open_accounts(accounts_url(workspace, database)) as accounts:
        yield accounts


def add_user(
    name: str,
    workspace: Workspace,
    *,
    role: str = UserRole.SUBMITTER,
    project: str | None = None,
    may_run_code: bool = False,
    database: str | None = None,
) -> User:
    """Returns a new user. project: whose sweeps they see, by default their own alone; may_run_code:
    their sweeps may bring code. Raises `SpecError` for an unknown role, or a name that was given
    before."""
    known = list(UserRole)
    if role not in known:
        raise SpecError(
            f"--role: must be one of {', '.join(known)}, but got '{role:.80}'."
            f"{nearest(role, known)}"
        )
    with _opened(workspace, database) as accounts:
        made = accounts.people.add(name, UserRole(role), project=project, may_run_code=may_run_code)
        accounts.note("-", "add user", name)
        return made


def list_users(workspace: Workspace, *, database: str | None = None) -> list[User]:
    """Returns the users by name."""
    with _opened(workspace, database) as accounts:
        return accounts.people.all()


def remove_user(name: str, workspace: Workspace, *, database: str | None = None) -> User:
    """Ends a user and their tokens; their sweeps stay. Raises `SpecError` for an unknown one."""
    with _opened(workspace, database) as accounts:
        gone = accounts.people.remove(name)
        accounts.note("-", "remove user", name)
        return gone


def new_token(
    name: str, workspace: Workspace, *, days: float = 90.0, database: str | None = None
) -> MadeToken:
    """Returns a new token of a user, which is stored hashed alone. Raises `SpecError` for an
    unknown user, or an end that is not ahead."""
    if not 0 < days <= 3650:
        raise SpecError(f"--days: 0 < days <= 3650 must hold, but got {days:g}. Use 90.")
    with _opened(workspace, database) as accounts:
        text, token_id, ends_at = accounts.people.new_token(name, lasts_s=days * DAY_S)
        accounts.note("-", "new token", f"{name} {token_id}")
        return MadeToken(text, token_id, name, ends_at)


def list_tokens(workspace: Workspace, *, database: str | None = None) -> list[dict[str, Any]]:
    """Returns a row a token, without what would let anybody in."""
    with _opened(workspace, database) as accounts:
        return [
            {
                "token_id": row["token_id"],
                "user": row["user_name"],
                "made_at": in_utc(row["made_at"]),
                "ends_at": in_utc(row["ends_at"]),
            }
            for row in accounts.people.tokens()
        ]


def revoke_token(token_id: str, workspace: Workspace, *, database: str | None = None) -> None:
    """Ends a token at once. Raises `SpecError` for an unknown one."""
    with _opened(workspace, database) as accounts:
        accounts.people.revoke_token(token_id)
        accounts.note("-", "revoke token", token_id)


def list_deeds(workspace: Workspace, *, database: str | None = None) -> list[dict[str, Any]]:
    """Returns who did what, the newest first; the user `-` is whoever used the command line."""
    with _opened(workspace, database) as accounts:
        return deeds_of(accounts)


def deeds_of(accounts: Accounts) -> list[dict[str, Any]]:
    """Returns who did what as rows."""
    return [vars(one) | {"at": in_utc(one.at)} for one in accounts.deeds()]


def first_token(accounts: Accounts) -> str | None:
    """Returns a token of a new admin where the service has no user yet, else None."""
    if accounts.people.all():
        return None
    accounts.people.add(FIRST, UserRole.ADMIN)
    return accounts.people.new_token(FIRST, lasts_s=FIRST_LASTS_DAYS * DAY_S)[0]


def in_utc(seconds: float) -> str:
    """Returns a time as text, e.g. `2026-12-01T06:00:00+00:00`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
