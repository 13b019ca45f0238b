"""What the commands of a service print with `--json`, as types."""

from collections.abc import Mapping
from typing import Any

from service.accounts.users import UserRole
from service.actions.json_document import Document


class UserRow(Document):
    """A user of the service; project: whose sweeps they see."""

    name: str
    role: UserRole
    project: str
    may_run_code: bool


class QuotaRow(Document):
    """What a user, or all users of a project together, may have, null for no limit, and have
    now."""

    user: str | None
    project: str | None
    trials_at_once: int | None
    open_sweeps: int | None
    gpu_hours: float | None
    trials_now: int
    open_sweeps_now: int
    gpu_hours_this_month: float


class TokenRow(Document):
    """A token, without what would let anybody in."""

    token_id: str
    user: str
    made_at: str
    ends_at: str


class MadeToken(Document):
    """A new token, which is shown this once."""

    token: str
    token_id: str
    user: str
    ends_at: str


class RevokedToken(Document):
    """A token that has ended."""

    token_id: str


class Deed(Document):
    """Who did what; the user `-` is whoever used the command line."""

    at: str
    user: str
    deed: str
    about: str


class Served(Document):
    """Where the service is; token: the first admin's, shown this once, else null."""

    address: str
    token: str | None


OF_THE_SERVICE: Mapping[str, Any] = {
    "serve": Served,
    "users add": UserRow,
    "users list": list[UserRow],
    "users remove": UserRow,
    "users log": list[Deed],
    "users quota": QuotaRow | list[QuotaRow],
    "tokens new": MadeToken,
    "tokens list": list[TokenRow],
    "tokens revoke": RevokedToken,
}
