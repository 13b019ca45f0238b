"""The ledger: what the sweep has decided and recorded about each trial. No Ray, no clock.

It turns the Optuna study's points into tickets, and what the trials report into verdicts, states of
the study, MLflow runs and events.

Threads: everything but `stop` is called by the driver's main thread, from inside Ray Tune through
`searcher`, or before and after it. `stop` comes from the watch thread too; it sets an event and
touches nothing else.

Order: a driver can be killed between any two lines, and the next one knows the study alone. So an
end is written to the study first and to the MLflow run second; `settle` ends the runs whose trials
have ended. A point enters the study before its run and its ticket are made; a trial that the study
has as running is taken up again, whether it ever ran or not.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.driver.study_line import StudyLine, num_undecided
from service.driver.tickets import TrialSetting
from service.events import DriverEvent, Notice, TrialEnded, TrialEvaluated, TrialStarted
from service.plan.plan import SweepPlan
from service.record.entries import PENDING
from service.search.recover import note_attempt, note_run
from service.search.study import StudyStore
from service.search.study_trials import Asked
from service.search.tell import report_value, tell
from service.slots.messages import Message, Ticket
from service.states import TrialState
from trainers.trial.assignments import Ending, Report, Vote
from trainers.trial.config import TrialConfig
from trainers.trial.diagnosis import logit_scale_warning
from trainers.trial.reporting import Leave, Outcome
from trainers.trial.trial_file import TrialFile

# Of a trial whose workers say how it ended. PREEMPTED is missing: another attempt follows it.
STATES = {
    Outcome.COMPLETED: TrialState.COMPLETED,
    Outcome.DIVERGED: TrialState.DIVERGED,
    Outcome.STOPPED_EARLY: TrialState.STOPPED_EARLY,
    Outcome.CANCELLED: TrialState.CANCELLED,
    Outcome.INTERRUPTED: TrialState.CANCELLED,
}
# Why a trial's workers, if they still train when the trial gets its state, are to leave.
LEAVE = {
    TrialState.STOPPED_EARLY: Leave.VERDICT,
    TrialState.DIVERGED: Leave.VERDICT,
    TrialState.CANCELLED: Leave.CANCELLED,
}


class Host(Protocol):
    """What the ledger needs of the driver around it; no call waits."""

    def show(self, event: DriverEvent) -> None:
        """Passes the event on to whoever displays or logs it."""

    def end_lease(self, lease: str, reason: Leave) -> None:
        """Has the lease's workers leave its trial, which nobody follows any more."""

    def note_open_trials(self, num_open: int) -> None:
        """Notes that no trial will be handed out any more, and how many still have no end; called
        again as each of them ends. A slot that none of them needs is given back."""

    def is_out_of_time(self) -> bool:
        """Whether the sweep's time budget is spent, so that no other trial starts."""
        ...


class Recorder(Protocol):
    """The part of `service.record.tracking.Tracker` that trials need."""

    def start_trial(
        self,
        sweep_run_id: str,
        trial: TrialFile,
        *,
        hyperparameters: dict[str, Any],
        label: str | None,
    ) -> str:
        """Returns the id of the trial's run, made on its first attempt."""

    def finish_trial(
        self,
        run_id: str,
        state: TrialState,
        *,
        objective: float | None = None,
        error: str | None = None,
        warning: str | None = None,
    ) -> None:
        """Sets the run's final state."""


@dataclass
class _OpenTrial:
    """A trial between its ticket and its end; `metrics` are those of its newest evaluation."""

    asked: Asked
    trial: TrialFile
    run_id: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    lease: str | None = None


@dataclass
class Ledger:
    """See the module. `resumed` are the trials that a driver before this one left running."""

    plan: SweepPlan
    store: StudyStore
    recorder: Recorder
    setting: TrialSetting
    host: Host
    resumed: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        # By number. What is not in here has its end, and no later message changes that.
        self._open: dict[int, _OpenTrial] = {}
        self._stopping = threading.Event()
        self._objectives = [objective.metric for objective in self.plan.spec.objective]
        self._line = StudyLine(self.plan, self.store)
        self._num_left = num_left(self.plan, self.store)
        self._is_budget_spent = False

    def stop(self) -> None:
        """Hands out no further ticket."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def has_to_wait(self) -> bool:
        """Whether the next trial follows from some that still run: those that tune a study."""
        return bool(self._open) and not (self.stopping or self.resumed) and self._line.is_waiting()

    def next_ticket(self) -> Ticket | None:
        """Returns the next trial's ticket; None when the budget is spent or the sweep is
        stopping."""
        while not self.stopping:
            asked = self._next_point()
            if asked is None:
                self._is_budget_spent = True
                self.host.note_open_trials(len(self._open))
                return None
            try:
                config = self.plan.spec.trial_config(asked.values)
            except ValueError as error:
                self._refuse(asked, str(error))
                continue
            return self._ticket(asked, config)
        return None

    def receive(self, message: Message) -> bool:
        """Takes a trial's message; returns whether the trial is to be stopped."""
        entry = self._open.get(message.trial)
        if entry is None:  # it has its end, and what was under way comes late
            return True
        entry.lease = message.lease
        if message.kind == "evaluated" and message.report is not None:
            return self._evaluated(entry, message.report)
        if message.kind == "said":
            self.host.show(Notice(f"trial {message.trial} says: {message.text}"))
        elif message.kind == "retrying" and message.vote is not None:
            self._retrying(entry, message.attempt, message.vote)
        elif message.kind == "ended" and message.vote is not None:
            self._ended(entry, message.vote)
        else:
            if message.reason is Leave.SWEEP_STOPPED:
                self.stop()  # before Tune asks for the next trial
            resumes = message.reason is not Leave.CANCELLED
            self._end(entry, TrialState.CANCELLED, resumes=resumes)
        return False

    def abandoned(self, number: int, reason: str) -> None:
        """Closes the trial that ended without saying how; does nothing when it has an end
        already."""
        entry = self._open.get(number)
        if entry is not None:
            # When the sweep stops, Tune ends trials that had no time to report it.
            state = TrialState.CANCELLED if self.stopping else TrialState.FAILED
            error = None if self.stopping else reason
            self._end(entry, state, error=error, resumes=self.stopping)

    def close(self) -> None:
        """Closes as cancelled whatever is still open; the next driver takes it up."""
        for entry in list(self._open.values()):
            self._end(entry, TrialState.CANCELLED, resumes=True)

    # -- giving out

    def _next_point(self) -> Asked | None:
        # Resumed trials first, also when the time budget is spent: they are counted in the study
        # already, and most of their work is done and in checkpoints.
        if self.resumed:
            return self.resumed.pop(0)
        if self._num_left <= 0 or self.host.is_out_of_time():
            return None
        self._num_left -= 1
        return self._line.ask()

    def _ticket(self, asked: Asked, config: TrialConfig) -> Ticket:
        trial = self.setting.trial(asked, config)
        # The study has the trial as running by now, so a driver that dies here loses nothing: the
        # next one takes it up, and its recorder finds the run, if there is one, by its number.
        run_id = self._start_run(asked, trial)
        self._open[asked.number] = _OpenTrial(asked, trial, run_id)
        if asked.retry_of is not None:
            self.setting.move_checkpoints(asked.retry_of, asked.number)
        self.host.show(TrialStarted(asked.number, asked.attempt, asked.label, asked.values))
        return self.setting.ticket(trial, run_id)

    def _start_run(self, asked: Asked, trial: TrialFile) -> str:
        run_id = self.recorder.start_trial(
            self.setting.sweep_run_id, trial, hyperparameters=dict(asked.values), label=asked.label
        )
        if not run_id.startswith(PENDING):  # it has an id only once MLflow has made it
            note_run(self.store, asked.number, run_id)
        return run_id

    def _refuse(self, asked: Asked, reason: str) -> None:
        """Records a point that is no valid config as a failed trial; the sweep goes on."""
        tell(self.store, asked.number, TrialState.FAILED, None)
        text = f"trial {asked.number} is no valid config: {reason}"
        self.host.show(TrialEnded(asked.number, TrialState.FAILED, None, text))

    # -- taking in

    def _evaluated(self, entry: _OpenTrial, report: Report) -> bool:
        number = entry.asked.number
        entry.metrics = report.metrics
        self.host.show(TrialEvaluated(number, report.evaluation, report.metrics))
        values = _values(report.metrics, self._objectives)
        if len(values) != 1 or len(self._objectives) != 1:
            return False
        value = values[0]
        last = self.setting.num_evaluations(entry.trial.config)
        stop = report_value(
            self.store, number, evaluation=report.evaluation, value=value, last=last
        )
        # The study has the value and the verdict before they are acted on: the driver after one
        # that dies here ends the trial, instead of training it on.
        if not math.isfinite(value):
            self._end(entry, TrialState.DIVERGED)
            return True
        if stop:
            self._end(entry, TrialState.STOPPED_EARLY, values=[value])
        return stop

    def _retrying(self, entry: _OpenTrial, attempt: int, vote: Vote) -> None:
        entry.trial = entry.trial.model_copy(update={"attempt": attempt})
        # In the study before the attempt is shown: the next driver must never use its number again.
        note_attempt(self.store, entry.asked.number, attempt)
        self._start_run(entry.asked, entry.trial)
        asked = entry.asked
        self.host.show(
            Notice(f"trial {asked.number} starts again (attempt {attempt}): {vote.error}")
        )
        self.host.show(TrialStarted(asked.number, attempt, asked.label, asked.values))

    def _ended(self, entry: _OpenTrial, vote: Vote) -> None:
        if vote.ending is not Ending.DONE or vote.result is None:
            self._end(entry, TrialState.FAILED, error=f"{vote.ending.value}: {vote.error}")
            return
        state = STATES[vote.result.outcome]
        entry.metrics = vote.result.metrics
        values = _values(vote.result.metrics, self._objectives)
        if state is TrialState.COMPLETED and not all(map(math.isfinite, values)):
            state = TrialState.DIVERGED
        if state is TrialState.COMPLETED and len(values) != len(self._objectives):
            missing = ", ".join(set(self._objectives) - vote.result.metrics.keys())
            self._end(entry, TrialState.FAILED, error=f"the trial did not measure {missing}")
            return
        resumes = vote.result.outcome is Outcome.INTERRUPTED
        values = values if state is TrialState.COMPLETED else []
        self._end(entry, state, values=values, resumes=resumes)

    def _end(
        self,
        entry: _OpenTrial,
        state: TrialState,
        *,
        values: Sequence[float] = (),
        error: str | None = None,
        resumes: bool = False,
    ) -> None:
        number = entry.asked.number
        del self._open[number]
        if entry.lease is not None:
            self.host.end_lease(entry.lease, LEAVE.get(state, Leave.ABANDONED))
        objective = values[0] if values else None
        objectives = tuple(values) if len(values) > 1 else objective
        tell(self.store, number, state, objectives, resumes=resumes)
        self.recorder.finish_trial(
            entry.run_id,
            state,
            objective=objective,
            error=error,
            warning=logit_scale_warning(entry.metrics),
        )
        self.host.show(TrialEnded(number, state, objective, error))
        if self._is_budget_spent:
            self.host.note_open_trials(len(self._open))


def _values(metrics: Mapping[str, float], names: Sequence[str]) -> list[float]:
    return [float(metrics[name]) for name in names if name in metrics]


def num_left(plan: SweepPlan, store: StudyStore) -> int:
    """Returns how many of the plan's trials are still to be handed out: those that have a repeat
    spend nothing of the budget, and cells whose tuning failed have nothing to compare."""
    records = store.records()
    repeated = {record.retry_of for record in records}
    spent = [r for r in records if r.state != TrialState.PENDING and r.number not in repeated]
    return plan.num_trials - len(spent) - num_undecided(plan, records)
