"""What the users of a service change: each submits their own sweeps, and goes on with and stops
none but their own; an admin all of them."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.accounts.line import Asked, Priority
from service.accounts.ownership import Claim, Ownership
from service.accounts.users import User, UserRole
from service.actions import cluster, follow, go_on, plan, record
from service.actions.confirm import plan_confirmation
from service.actions.hosted import Hosted, NotAllowed
from service.actions.launch import Launches, LaunchState, new_name
from service.actions.promote import Promoted, promote_trial, sweeps_registered
from service.actions.status import SweepStatus
from service.cluster.job import JobOrder
from service.cluster.sweep_job import SweepJob
from service.errors import JobError, SpecError, TrackingError
from service.home import documents_folder
from service.plan.plan import SweepPlan
from service.spec.file import parse_yaml, preset_names
from service.workspace import Workspace
from trainers.files.store import write_text
from trainers.nearest import nearest

START_TIMEOUT_S, POLL_S = 60.0, 0.3


@dataclass(frozen=True)
class Wanted:
    """A sweep as a user of the service asks for it. `document`: a sweep document, or a preset's
    name; `overrides`: `a.b=value` each; `warm_start`: an earlier sweep of theirs; `again`: although
    they have the same sweep; `priority`: in the line of those that wait."""

    document: str | dict[str, Any]
    overrides: Sequence[str] = ()
    warm_start: str | None = None
    again: bool = False
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True)
class Changes:
    """What one user does to a service's sweeps. Raises `NoSuchSweep` and `NotAllowed` as `Hosted`,
    and what the action behind each raises."""

    hosted: Hosted
    user: User

    def plan(self, wanted: Wanted) -> SweepPlan:
        """Returns the plan of a sweep; spends nothing."""
        self.hosted.check_role(self.user, UserRole.SUBMITTER)
        reference = _kept(wanted.document, self._workspace.home)
        overrides = wanted.overrides
        # Before anything that it names is looked at, or loaded.
        spec = plan.read_sweep(reference, self._workspace, overrides=overrides)
        self.hosted.allowed.check(spec, self.user)
        start = wanted.warm_start and self.hosted.find(self.user, wanted.warm_start)
        make = plan.plan_sweep if self._workspace.cluster is None else cluster.plan_on_cluster
        return make(reference, self._workspace, overrides=overrides, warm_start=start)

    def submit(self, wanted: Wanted, *, key: str | None = None) -> SweepJob:
        """Hands a sweep over to be run, and returns what runs it, or will. Of a plan that the user
        has submitted before nothing is started, unless `again`; key: what the user drew for this
        request, of which a repetition is the same sweep, whatever was killed in between."""
        _check_priority(wanted.priority, self.user)
        made = self.plan(wanted)
        request = _hash(["submit", vars(wanted)])
        return self._hand_over(made, request, key, again=wanted.again, priority=wanted.priority)

    def confirm(
        self, reference: str, *, top: int = 3, seeds: int = 5, key: str | None = None
    ) -> SweepJob:
        """Hands over the study that confirms a search which the user sees, as a sweep of theirs;
        see `service.actions.confirm.plan_confirmation`."""
        self.hosted.check_role(self.user, UserRole.SUBMITTER)
        sweep_id = self.hosted.find_recorded(self.user, reference)
        made = plan_confirmation(sweep_id, self._workspace, top=top, seeds=seeds)
        self.hosted.allowed.check(made.spec, self.user)
        return self._hand_over(made, _hash(["confirm", sweep_id, top, seeds]), key)

    def promote(self, reference: str, trial: int, *, name: str) -> Promoted:
        """Registers the student of a trial of the user's; see
        `service.actions.promote.promote_trial`. A name that has students of sweeps that they do not
        see is not theirs to give."""
        sweep_id = self.hosted.find_own(self.user, reference)
        _check_may_register(name.partition("@")[0].strip(), self.hosted, self.user)
        self._note("promote", f"{sweep_id}/{trial} as {name}")
        return promote_trial(f"{sweep_id}/{trial}", self._workspace, name=name)

    def _hand_over(
        self,
        made: SweepPlan,
        request: str,
        key: str | None,
        *,
        again: bool = False,
        priority: Priority = Priority.NORMAL,
    ) -> SweepJob:
        """Puts a plan in line as a sweep of the user's, once."""
        asked = _asked(made, self.user.name, self.user.project, priority)
        sweep_id = self._recall(key, request)
        if sweep_id is None:
            self._check_may_enter(asked)
            sweep_id = self._once(key, request, self._claim(made, again=again))
        made = made.model_copy(update={"sweep_id": sweep_id})
        is_new = self._start(made, asked)
        if is_new:
            self._note("submit", sweep_id)
        return replace(self.hosted.status_of(sweep_id).as_job(), is_new=is_new)

    def resume(self, reference: str, *, key: str | None = None) -> SweepStatus:
        """Goes on with a sweep that was stopped or whose driver died."""

        def order(sweep: str, workspace: Workspace) -> JobOrder:
            return self.hosted.order_to_resume(sweep)

        return self._go_on(reference, key, ["resume"], order)

    def extend(
        self,
        reference: str,
        *,
        trials: int | None = None,
        study: go_on.MoreOfStudy | None = None,
        key: str | None = None,
    ) -> SweepStatus:
        """Gives a sweep more, and goes on with it."""

        def order(sweep: str, workspace: Workspace) -> JobOrder:
            todo = go_on.order_to_extend(sweep, workspace, trials=trials, study=study)
            if todo.plan.study is not None:
                self.hosted.allowed.check_study(todo.plan.study, self.user)
            return todo

        cells = None if study is None else [study.seeds, [dict(one) for one in study.cells]]
        return self._go_on(reference, key, ["extend", trials, cells], order)

    def retry(
        self, reference: str, *, trials: Sequence[int] = (), key: str | None = None
    ) -> SweepStatus:
        """Repeats trials, all failed ones where none are named, and goes on with the sweep."""

        def order(sweep: str, workspace: Workspace) -> JobOrder:
            return go_on.order_to_retry(sweep, workspace, trials=trials)

        return self._go_on(reference, key, ["retry", list(trials)], order)

    def stop(self, reference: str) -> SweepStatus:
        """Stops a sweep and waits for its end; takes one that waits out of the line."""
        sweep_id = self.hosted.find_own(self.user, reference)
        self._note("stop", sweep_id)
        launch = self._launches.newest(sweep_id)
        if launch is not None and self._launches.cancel(launch):
            return self.hosted.status_of(sweep_id)
        _wait_for_driver(sweep_id, self.hosted)
        return follow.stop_sweep(sweep_id, self._workspace)

    def stop_trial(self, reference: str, trial: int) -> str:
        """Cancels one running trial, and returns the id of its sweep, which goes on."""
        sweep_id = self.hosted.find_own(self.user, reference)
        self._note("stop-trial", f"{sweep_id}/{trial}")
        follow.stop_trial(sweep_id, self._workspace, trial=trial)
        return sweep_id

    def _claim(self, made: SweepPlan, *, again: bool) -> str:
        """Returns the id of the user's sweep of this plan."""
        taken = {one.sweep_id for one in record.list_sweeps(self._workspace)}
        taken |= {one.sweep_id for one in follow.list_statuses(self._workspace)}
        if made.sweep_id in taken and self.user.is_admin and not again:
            return made.sweep_id
        claim = Claim(made.sweep_id, made.spec.name, frozenset(taken), again)
        return self._owned.claim(self.user, claim).sweep_id

    def _check_may_enter(self, asked: Asked) -> None:
        told = self._launches.refusal(asked)
        if told:
            raise NotAllowed(told)

    def _start(self, made: SweepPlan, asked: Asked) -> bool:
        """Puts a sweep in line that never was; returns whether it did."""
        if self._launches.newest(made.sweep_id) is not None:
            return False
        with suppress(TrackingError if self._workspace.cluster is None else JobError):
            follow.sweep_status(made.sweep_id, self._workspace)
            return False  # the command line has run it
        self._launches.put(JobOrder(plan=made, max_driver_restarts=1), asked=asked)
        self._launches.begin_next()
        return True

    def _go_on(
        self,
        reference: str,
        key: str | None,
        asked: Sequence[Any],
        order: Callable[[str, Workspace], JobOrder],
    ) -> SweepStatus:
        sweep_id = self.hosted.find_own(self.user, reference)
        request = _hash([sweep_id, *asked])
        name = self._recall(key, request)
        if name is not None and self._launches.has(name):
            return self.hosted.status_of(sweep_id)
        _check_rests(sweep_id, self.hosted)
        todo = order(sweep_id, self._workspace)
        owner = self.hosted.owners().get(sweep_id)  # for whom an admin may do it
        names = (owner.owner, owner.project) if owner else (self.user.name, self.user.project)
        wanted = _asked(todo.plan, *names)
        self._check_may_enter(wanted)
        self._note(str(asked[0]), sweep_id)
        self._launches.put(todo, self._once(key, request, name or new_name(sweep_id)), wanted)
        self._launches.begin_next()
        return self.hosted.status_of(sweep_id)

    def _recall(self, key: str | None, request: str) -> str | None:
        return None if key is None else self._owned.recall(self.user, key, request)

    def _once(self, key: str | None, request: str, outcome: str) -> str:
        return outcome if key is None else self._owned.once(self.user, key, request, outcome)

    def _note(self, deed: str, about: str) -> None:
        self.hosted.accounts.note(self.user.name, deed, about)

    @property
    def _workspace(self) -> Workspace:
        return self.hosted.workspace

    @property
    def _launches(self) -> Launches:
        return self.hosted.launches

    @property
    def _owned(self) -> Ownership:
        return self.hosted.accounts.sweeps


def _check_priority(priority: Priority, user: User) -> None:
    if priority is Priority.HIGH and not user.is_admin:
        raise NotAllowed(
            f"priority: must be {Priority.LOW} or {Priority.NORMAL} unless an admin submits, "
            f"but got {priority} from {user.name}. Ask an admin."
        )


def _check_may_register(model: str, hosted: Hosted, user: User) -> None:
    if user.is_admin:
        return
    seen = {one.sweep_id for one in hosted.sweeps(user)}
    if sweeps_registered(model, hosted.workspace) - seen:
        raise NotAllowed(
            f"--as {model:.80}: must be a name of your own, but got one that students of "
            "others have. Choose another one, or ask an admin."
        )


def _check_rests(sweep_id: str, hosted: Hosted) -> None:
    status = hosted.status_of(sweep_id)
    if not status.state.is_terminal:
        raise JobError(
            f"sweep {sweep_id}: must have ended before it goes on, but it is {status.state}. "
            "Wait for it, or stop it first."
        )


def _wait_for_driver(sweep_id: str, hosted: Hosted) -> None:
    """Waits while the sweep's process only starts, and hears nothing yet."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        launch = hosted.launches.newest(sweep_id)
        if launch is None or launch.state is not LaunchState.RUNNING:
            return
        if hosted.status_of(sweep_id).driver is not None:
            return
        time.sleep(POLL_S)


def _asked(made: SweepPlan, user: str, project: str, priority: Priority = Priority.NORMAL) -> Asked:
    """Returns what a sweep of the user takes while it runs."""
    gpus = made.slots * made.workers_per_trial * made.gpus_per_worker
    return Asked(user, project, priority, made.slots, gpus)


def _hash(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _kept(document: str | dict[str, Any], home: Path) -> str:
    """Returns what stands for a document: a preset's name, or the file that it is kept in."""
    if isinstance(document, dict):
        text = json.dumps(document)
    elif document in preset_names():
        return document
    elif "\n" not in document and ":" not in document:
        raise SpecError(
            f"spec: must be a sweep document or the name of a preset, but got {document!r:.80}."
            f"{nearest(document, preset_names())} Presets: {', '.join(preset_names())}."
        )
    else:
        parse_yaml(document, "spec")
        text = document
    path = documents_folder(home) / f"{_hash(text)[:32]}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return str(path)
