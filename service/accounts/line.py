"""The line of sweeps that wait: who is next, and why another has to wait. Pure.

The next one is of the highest priority; among equals of the user whose trials had slots for the
shortest time lately; among theirs the first that came. What a quota holds back lets others pass.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

WINDOW_S = 24 * 3600.0  # how far back use of slots counts against its user
# What one that waits is taken to use once it begins, so that of two users who came at once neither
# has all of theirs in front.
TAKEN_S = 3600.0
HOUR_S = 3600.0
MOST_OPEN = 20  # sweeps of a user that run or wait, where no quota says otherwise


class Priority(StrEnum):
    """How soon a sweep is to begin."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


@dataclass(frozen=True)
class Asked:
    """Who asked for a sweep, and what it takes while it runs: `trials` at once, `gpus` for all of
    them together."""

    user: str = ""
    project: str = ""
    priority: Priority = Priority.NORMAL
    trials: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class Entry:
    """A sweep in line, or that was. Times are seconds since 1970; `began_at` and `ended_at`: None
    before that."""

    name: str
    asked: Asked
    entered_at: float
    began_at: float | None = None
    ended_at: float | None = None

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        return self.began_at is not None and self.ended_at is None

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return self.began_at is None and self.ended_at is None

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.ended_at is None

    def lasted_s(self, since: float, now: float) -> float:
        """Returns how long it ran between the two times."""
        if self.began_at is None:
            return 0.0
        return max(0.0, (self.ended_at or now) - max(self.began_at, since))


class Owner(StrEnum):
    """Whom a quota is for."""

    USER = "user"
    PROJECT = "project"


@dataclass(frozen=True)
class Quota:
    """What a user, or all users of a project together, may have; None for no limit. `gpu_hours`: in
    a calendar month, UTC."""

    trials_at_once: int | None = None
    open_sweeps: int | None = None
    gpu_hours: float | None = None


Quotas = Mapping[tuple[Owner, str], Quota]


@dataclass(frozen=True)
class Place:
    """A place in line. `num_before`: how many run or wait before it; `held`: which quota keeps it
    from beginning, in words, empty for none."""

    entry: Entry
    num_before: int
    held: str

    def text(self) -> str:
        """Returns the place in words."""
        before = f"waits for {self.num_before} before it" if self.num_before else ""
        if self.held:
            return f"{before}; {self.held}" if before else f"waits; {self.held}"
        return before or "is next"


def places(entries: Iterable[Entry], quotas: Quotas, now: float) -> list[Place]:
    """Returns the places of those that wait, the first in line first."""
    known = list(entries)
    running = [one for one in known if one.runs]
    waiting = [one for one in known if one.waits]
    used: Counter[str] = Counter()
    for one in known:
        used[one.asked.user] += int(one.asked.trials * one.lasted_s(now - WINDOW_S, now))
    found: list[Place] = []
    while waiting:
        first = min(waiting, key=lambda one: _rank(one, used))
        waiting.remove(first)
        used[first.asked.user] += int(first.asked.trials * TAKEN_S)
        held = _held(first.asked, known, quotas, now)
        found.append(Place(first, len(running) + len(found), held))
    return found


def _rank(entry: Entry, used: Mapping[str, int]) -> tuple[int, int, float, str]:
    order = [Priority.HIGH, Priority.NORMAL, Priority.LOW]
    asked = entry.asked
    return order.index(asked.priority), used[asked.user], entry.entered_at, entry.name


def refusal(asked: Asked, entries: Sequence[Entry], quotas: Quotas, now: float) -> str:
    """Returns why the sweep may not even enter the line, as a message of an error; empty where it
    may."""
    for owner, name, quota in _quotas_of(asked, quotas):
        mine = [one for one in entries if is_of(one, owner, name)]
        num_open = sum(one.is_open for one in mine)
        if quota.open_sweeps is not None and num_open >= quota.open_sweeps:
            return (
                f"{owner} {name}: {quota.open_sweeps} sweeps at most may run or wait, but got one "
                "more. Wait for one, or stop one."
            )
        if quota.trials_at_once is not None and asked.trials > quota.trials_at_once:
            return (
                f"{owner} {name}: {quota.trials_at_once} trials at most may train at once, but got "
                f"a sweep of {asked.trials} at once. Set resources.slots to fewer."
            )
        hours = gpu_hours(mine, now)
        if asked.gpus and quota.gpu_hours is not None and hours >= quota.gpu_hours:
            return (
                f"{owner} {name}: {quota.gpu_hours:g} GPU hours a month at most may be used, but "
                f"got {hours:.1f} this month. Wait for the next, or ask an admin."
            )
    return ""


def _held(asked: Asked, entries: Sequence[Entry], quotas: Quotas, now: float) -> str:
    """Returns which quota keeps a sweep from beginning, in words, empty for none."""
    for owner, name, quota in _quotas_of(asked, quotas):
        mine = [one for one in entries if is_of(one, owner, name)]
        trials = sum(one.asked.trials for one in mine if one.runs)
        if quota.trials_at_once is not None and trials + asked.trials > quota.trials_at_once:
            return (
                f"until {trials + asked.trials - quota.trials_at_once} fewer of the trials of "
                f"{owner} {name} train: at most {quota.trials_at_once} at once"
            )
        if asked.gpus and quota.gpu_hours is not None and gpu_hours(mine, now) >= quota.gpu_hours:
            return f"until the next month: at most {quota.gpu_hours:g} GPU hours of {owner} {name}"
    return ""


def gpu_hours(entries: Iterable[Entry], now: float) -> float:
    """Returns the GPU hours of sweeps in the calendar month (UTC) of `now`, so far."""
    month = datetime.fromtimestamp(now, UTC).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    since = month.timestamp()
    return sum(one.asked.gpus * one.lasted_s(since, now) for one in entries) / HOUR_S


def _quotas_of(asked: Asked, quotas: Quotas) -> list[tuple[Owner, str, Quota]]:
    """Returns the quotas that a sweep is held to."""
    names = ((Owner.USER, asked.user), (Owner.PROJECT, asked.project))
    return [(owner, name, quota_of(owner, name, quotas)) for owner, name in names]


def quota_of(owner: Owner, name: str, quotas: Quotas) -> Quota:
    """Returns the quota that was set, else the usual one."""
    usual = Quota(open_sweeps=MOST_OPEN) if owner is Owner.USER else Quota()
    return quotas.get((owner, name), usual)


def is_of(entry: Entry, owner: Owner, name: str) -> bool:
    """Returns whether a sweep counts against the quota of a user, or a project."""
    return (entry.asked.user if owner is Owner.USER else entry.asked.project) == name
