"""Sweeps for the users of a service: each plans and submits their own, sees those of their project,
and goes on with and stops none but their own; an admin all of them.

Sweeps run on the workspace's cluster when it has one, else in processes of their own on this
machine, which outlive the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from service.accounts.accounts import Accounts
from service.accounts.ownership import OwnedSweep
from service.accounts.users import User, UserRole
from service.actions import follow, go_on
from service.actions.allowed import Allowed
from service.actions.kept import Kept, KeptRecord
from service.actions.launch import Launch, Launches, LaunchState
from service.actions.status import SweepStatus
from service.cluster.job import JobOrder
from service.driver.log import LogPart
from service.errors import JobError, NotRecorded, SweepError, TrackingError
from service.events import Notice, to_line
from service.plan.plan import SweepPlan
from service.record.records import SweepRecord
from service.states import TrialState
from service.which import sweeps_meant
from service.workspace import Workspace
from trainers.nearest import nearest

BEGINNING = "0"  # a place before all of a log


class NoSuchSweep(NotRecorded):
    """There is no such sweep among those that the user sees."""


class NotAllowed(SweepError):
    """The user's role does not go so far."""


@dataclass(frozen=True)
class SweepNews:
    """What there is of a sweep's log behind a place; `is_over`: no more will come."""

    part: LogPart
    is_over: bool


@dataclass(frozen=True)
class Hosted:
    """A service's sweeps. Each question is one of a user, and answers as if nobody else's sweeps
    were there. Raises `NoSuchSweep` for a sweep that they do not see, `NotAllowed` for what they
    may not do, and what the action behind it raises."""

    workspace: Workspace
    accounts: Accounts
    launches: Launches
    allowed: Allowed = field(default_factory=Allowed)
    record: KeptRecord = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "record", KeptRecord(self.workspace))

    def sweeps(self, user: User) -> list[SweepRecord]:
        """Returns the recorded sweeps that the user sees, the newest first."""
        found = self.record.sweeps()
        if user.is_admin:
            return found
        seen = {one.sweep_id for one in self.accounts.sweeps.owned(user)}
        return [one for one in found if one.sweep_id in seen]

    def statuses(self, user: User) -> list[SweepStatus]:
        """Returns how each sweep that the user sees is doing, the newest first: those that wait for
        their turn, too."""
        rows = follow.list_statuses(self.workspace)
        known = {one.sweep_id for one in rows}
        begun = {one.sweep_id: one for one in self.launches.all()}
        early = [
            SweepStatus(sweep_id, TrialState.PENDING, None)
            for sweep_id in reversed(begun)
            if sweep_id not in known
        ]
        waits = self._waits()
        rows = [self._with_launch(one, begun.get(one.sweep_id), waits) for one in early + rows]
        if user.is_admin:
            return rows
        seen = {one.sweep_id for one in self.accounts.sweeps.owned(user)}
        return [one for one in rows if one.sweep_id in seen]

    def find(self, user: User, reference: str) -> str:
        """Returns the id of the sweep that the user means: an id, its beginning, a name, or
        `latest`."""
        recorded = [(one.sweep_id, one.name) for one in self.record.sweeps()]
        owned = self.accounts.sweeps.owned()
        submitted = [(one.sweep_id, one.name) for one in owned]
        known = list(dict.fromkeys([*submitted, *recorded]))
        if not user.is_admin:
            seen = {one.sweep_id for one in owned if one.is_seen_by(user)}
            # Another's id must not mean one's own that begins so.
            hidden = any(one == reference and one not in seen for one, _ in known)
            known = [] if hidden else [pair for pair in known if pair[0] in seen]
        meant = sweeps_meant(reference, known)
        if len(meant) != 1:
            names = [word for pair in known for word in pair]
            raise NoSuchSweep(
                f"sweep '{reference:.80}': exactly one sweep of yours must be meant, but got "
                f"{len(meant)}.{nearest(reference, names)} See the list of sweeps."
            )
        return meant[0]

    def recorded(self, user: User, reference: str) -> SweepRecord:
        """Returns a sweep that is in the record. Raises `JobError` for one that has not come so
        far."""
        sweep_id = self.find(user, reference)
        for one in self.record.sweeps():
            if one.sweep_id == sweep_id:
                return one
        raise JobError(
            f"sweep {sweep_id}: must have been recorded for this, but it has not begun to "
            "train. Wait a moment; its status says how it is doing."
        )

    def find_recorded(self, user: User, reference: str) -> str:
        """Returns the id of a sweep that is in the record. Raises as `recorded`."""
        return self.recorded(user, reference).sweep_id

    def find_own(self, user: User, reference: str) -> str:
        """Returns the id of a sweep that the user may stop and go on with. Raises `NotAllowed` for
        one that they only see."""
        self.check_role(user, UserRole.SUBMITTER)
        sweep_id = self.find(user, reference)
        if not self.is_own(user, sweep_id):
            owner = self.owners().get(sweep_id)
            raise NotAllowed(
                f"sweep {sweep_id}: must be yours for this, but it is "
                f"{'nobody' if owner is None else owner.owner}'s. Ask its owner, or an admin."
            )
        return sweep_id

    def is_own(self, user: User, sweep_id: str) -> bool:
        """Returns whether the user may stop the sweep and go on with it."""
        owner = self.owners().get(sweep_id)
        may = user.role.includes(UserRole.SUBMITTER)
        return user.is_admin or (may and owner is not None and owner.owner == user.name)

    def trials(self, user: User, reference: str) -> Kept:
        """Returns a sweep's trials by number; none while it waits, or is being prepared."""
        sweep_id = self.find(user, reference)
        # Asked by its id alone: another's may begin with it.
        is_recorded = any(one.sweep_id == sweep_id for one in self.record.sweeps())
        return self.record.trials(sweep_id) if is_recorded else Kept(None, [])

    def plan_of(self, user: User, reference: str) -> SweepPlan:
        """Returns what a sweep tries, of one that only waits, too, and with what it gets in
        addition where it goes on."""
        sweep_id = self.find(user, reference)
        launch = self.launches.newest(sweep_id)
        if launch is not None and launch.state is not LaunchState.ENDED:
            return launch.order().plan
        return self.order_to_resume(sweep_id).plan

    def order_to_resume(self, sweep_id: str) -> JobOrder:
        """Returns what goes on with the sweep of this id: of one that ended before it was recorded,
        what was handed over."""
        try:
            return go_on.order_to_resume(sweep_id, self.workspace)
        except TrackingError:
            launch = self.launches.newest(sweep_id)
            if launch is None:
                raise
            return launch.order()

    def find_trial(self, user: User, reference: str) -> str:
        """Returns SWEEP/NUMBER, or a sweep's id, with the id of the sweep that the user means."""
        sweep, slash, number = reference.rpartition("/")
        if not slash:
            return self.find_recorded(user, number)
        return f"{self.find_recorded(user, sweep)}/{number}"

    def status(self, user: User, reference: str) -> SweepStatus:
        """Returns how a sweep is doing, with its trials by state."""
        sweep_id = self.find(user, reference)
        return self.status_of(sweep_id)

    def news_of(self, sweep_id: str) -> "SweepLog":
        """Returns what reads a sweep's log as it grows. sweep_id: as `find` returned it."""
        return SweepLog(self, sweep_id)

    def check_role(self, user: User, least: UserRole) -> None:
        """Raises `NotAllowed` for a user whose role does not go so far."""
        if not user.role.includes(least):
            raise NotAllowed(
                f"user {user.name}: the role must be {least} or more for this, but got "
                f"{user.role}. Ask an admin."
            )

    def owners(self) -> dict[str, OwnedSweep]:
        """Returns the sweeps that were submitted to the service, by id."""
        return {one.sweep_id: one for one in self.accounts.sweeps.owned()}

    def status_of(self, sweep_id: str) -> SweepStatus:
        """Returns how the sweep of this id is doing, whoever asks."""
        launch = self.launches.newest(sweep_id)
        try:
            found = follow.sweep_status(sweep_id, self.workspace)
        except (TrackingError, JobError):
            if launch is None:
                raise
            found = SweepStatus(sweep_id, TrialState.PENDING, None)
        return self._with_launch(found, launch, self._waits())

    def why_waits(self, launch: Launch) -> str:
        """Returns the place in line of a sweep that waits, and why it is not its turn."""
        return self._waits().get(launch.entry.name, "")

    def _waits(self) -> dict[str, str]:
        return {one.entry.name: one.text() for one in self.launches.line()}

    def _with_launch(
        self, status: SweepStatus, launch: Launch | None, waits: Mapping[str, str]
    ) -> SweepStatus:
        """Returns the status with what its launch knows better: a sweep that waits or only starts
        has no driver yet, and one whose process ended early no record."""
        is_driven = status.driver is not None and not status.state.is_terminal
        if launch is None or is_driven:
            return status
        # Where it goes on, a cluster still shows the job before.
        early = replace(status, driver=None)
        if launch.state is LaunchState.WAITING:
            # One that has begun since waits for nothing any more.
            told = waits.get(launch.entry.name, "starts")
            return replace(early, state=TrialState.PENDING, message=told)
        if launch.state is LaunchState.RUNNING:
            return replace(early, state=TrialState.RUNNING, message="starts")
        end = launch.end
        if status.state.is_terminal or end is None:
            return status
        state = TrialState.FAILED if end.message else TrialState.CANCELLED
        return replace(status, state=state, message=end.message)


class SweepLog:
    """The log of a sweep, also of one that has none yet. Where it is, is found once: pages that
    follow it ask often."""

    def __init__(self, hosted: Hosted, sweep_id: str) -> None:
        self._hosted, self._sweep_id = hosted, sweep_id
        self._told = ""  # of what it waits for
        self._reader: follow.LogReader | None = None

    def read(self, after: str = "") -> SweepNews:
        """Returns the lines behind a place, and where the sweep waits, what for, whenever that
        changes. Raises as `service.actions.follow.open_log` where there is no such sweep."""
        launch = self._hosted.launches.newest(self._sweep_id)
        news = self._read(after, launch)
        is_waiting = launch is not None and launch.state is LaunchState.WAITING
        told = self._hosted.why_waits(launch) if launch is not None and is_waiting else ""
        if not told or told == self._told:
            return news
        self._told = told
        lines = [*news.part.lines, to_line(Notice(told))]
        return replace(news, part=LogPart(lines, news.part.place or BEGINNING))

    def _read(self, after: str, launch: Launch | None) -> SweepNews:
        is_early = launch is not None and launch.state is not LaunchState.ENDED
        try:
            reader = self._reader or follow.open_log(self._sweep_id, self._hosted.workspace)
        except (TrackingError, JobError):
            if launch is None:
                raise
            return SweepNews(LogPart([], after), is_over=not is_early)
        self._reader = reader
        # Asked before the log is read: what a driver wrote before it ended is then in it.
        is_driven = reader.is_driven()
        return SweepNews(reader.read(after), is_over=not (is_driven or is_early))
