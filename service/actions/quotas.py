"""Quotas of a service's users and projects: set and shown by who has the home folder, or the
database."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
from time import time
from typing import Any

from service.accounts.accounts import Accounts, open_accounts
from service.accounts.line import Entry, Owner, Quota, Quotas, gpu_hours, is_of, quota_of
from service.actions.accounts import accounts_url
from service.actions.launch import Launches
from service.errors import SpecError
from service.workspace import Workspace
from trainers.nearest import nearest

NONE = "none"  # lifts a limit
KINDS: Mapping[str, Callable[[str], int | float]] = {
    "trials_at_once": int,
    "open_sweeps": int,
    "gpu_hours": float,
}


@dataclass(frozen=True)
class QuotaUse:
    """A quota, and what is used of it now; `gpu_hours` in this calendar month."""

    owner: Owner
    name: str
    quota: Quota
    trials: int
    open_sweeps: int
    gpu_hours: float

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return {
            "user": self.name if self.owner is Owner.USER else None,
            "project": self.name if self.owner is Owner.PROJECT else None,
            **vars(self.quota),
            "trials_now": self.trials,
            "open_sweeps_now": self.open_sweeps,
            "gpu_hours_this_month": round(self.gpu_hours, 2),
        }


def set_quota(
    name: str,
    workspace: Workspace,
    *,
    is_project: bool = False,
    limits: Mapping[str, str | None] | None = None,
    database: str | None = None,
) -> QuotaUse:
    """Returns what a user, or a project, may have and has, after setting what `limits` says: a
    number, or `none` for no limit, by the fields of `Quota`; what is not there stays as it is.
    Raises `SpecError` for an unknown user or project, or a limit that is none."""
    texts = {kind: text for kind, text in (limits or {}).items() if text is not None}
    given: dict[str, Any] = {kind: _limit(kind, text) for kind, text in texts.items()}
    owner = Owner.PROJECT if is_project else Owner.USER
    with open_accounts(accounts_url(workspace, database)) as accounts:
        _check_is_known(owner, name, accounts)
        known = accounts.quotas.all()
        if given:
            quota = replace(quota_of(owner, name, known), **given)
            accounts.quotas.put(owner, name, quota)
            accounts.note("-", "set quota", f"{owner} {name}")
            known = {**known, (owner, name): quota}
    return _use(owner, name, known, Launches(workspace).entries())


def list_quotas(workspace: Workspace, *, database: str | None = None) -> list[QuotaUse]:
    """Returns the quotas that were set, with what is used of each."""
    with open_accounts(accounts_url(workspace, database)) as accounts:
        known = accounts.quotas.all()
    entries = Launches(workspace).entries()
    return [_use(owner, name, known, entries) for owner, name in sorted(known)]


def _use(owner: Owner, name: str, known: Quotas, entries: list[Entry]) -> QuotaUse:
    mine = [one for one in entries if is_of(one, owner, name)]
    return QuotaUse(
        owner,
        name,
        quota_of(owner, name, known),
        trials=sum(one.asked.trials for one in mine if one.runs),
        open_sweeps=sum(one.is_open for one in mine),
        gpu_hours=gpu_hours(mine, time()),
    )


def _limit(kind: str, text: str) -> float | int | None:
    assert kind in {one.name for one in fields(Quota)}
    if text == NONE:
        return None
    try:
        value = KINDS[kind](text)
    except ValueError:
        value = -1
    if not (isfinite(value) and value >= 0):
        raise SpecError(
            f"--{kind.replace('_', '-')}: must be a number that is not negative, or {NONE}, but "
            f"got '{text:.80}'. For example 4."
        )
    return value


def _check_is_known(owner: Owner, name: str, accounts: Accounts) -> None:
    if owner is Owner.USER:
        accounts.people.one(name)
        return
    projects = sorted({one.project for one in accounts.people.all()})
    if name not in projects:
        raise SpecError(
            f"project {name}: must be one of a user's, but got none of this name."
            f"{nearest(name, projects)} kd-sweep users list shows them."
        )
