"""A ledger with a real study and a recorder that only remembers, and the messages it receives."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes import make_sweep_plan, prepare_nothing

from service.driver.ledger import Ledger
from service.driver.open_study import open_study
from service.driver.shared_inputs import SharedInputs
from service.driver.tickets import TrialSetting
from service.events import DriverEvent
from service.plan.plan import SweepPlan
from service.search.recover import reconcile
from service.search.study import StudyStore
from service.slots.messages import Message, Ticket
from service.states import TrialState
from trainers.trial.assignments import Ending, Report, Vote
from trainers.trial.fields import Precision
from trainers.trial.reporting import Leave, Outcome, TrialResult
from trainers.trial.trial_file import TrialFile


@dataclass
class Memory:
    """A recorder that keeps what it is told: run id = trial number."""

    started: list[tuple[int, int]] = field(default_factory=list)
    finished: dict[str, tuple[TrialState, float | None, str | None]] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)

    def start_trial(
        self,
        sweep_run_id: str,
        trial: TrialFile,
        *,
        hyperparameters: dict[str, Any],
        label: str | None,
    ) -> str:
        self.started.append((trial.trial, trial.attempt))
        return str(trial.trial)

    def finish_trial(
        self,
        run_id: str,
        state: TrialState,
        *,
        objective: float | None = None,
        error: str | None = None,
        warning: str | None = None,
    ) -> None:
        assert run_id not in self.finished, "a run ends once"
        if warning is not None:
            self.warnings[run_id] = warning
        self.finished[run_id] = (state, objective, error)


@dataclass
class Desk:
    """A ledger with all that is around it; it is the ledger's host itself."""

    folder: Path
    plan: SweepPlan
    memory: Memory = field(default_factory=Memory)
    events: list[DriverEvent] = field(default_factory=list)
    released: list[tuple[str, Leave]] = field(default_factory=list)
    open_trials: list[int] = field(default_factory=list)
    out_of_time: bool = False

    def show(self, event: DriverEvent) -> None:
        self.events.append(event)

    def end_lease(self, lease: str, reason: Leave) -> None:
        self.released.append((lease, reason))

    def note_open_trials(self, num_open: int) -> None:
        self.open_trials.append(num_open)

    def is_out_of_time(self) -> bool:
        return self.out_of_time

    def open(self) -> tuple[Ledger, StudyStore]:
        store = open_study(self.plan, self.folder)
        shared = SharedInputs(
            prepare_nothing(
                self.plan.spec.prepare_request(), self.folder, lambda stage, share: None
            ),
            {each: {"precision": each.value} for each in Precision},
        )
        setting = TrialSetting(
            template=shared.template(self.plan),
            shared=shared,
            folder=self.folder / "trials",
            board="board",
            namespace="space",
            sweep_run_id="parent",
        )
        ledger = Ledger(
            plan=self.plan,
            store=store,
            recorder=self.memory,
            setting=setting,
            host=self,
            resumed=reconcile(store),
        )
        return ledger, store

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def make_desk(tmp_path: Path, **changes: Any) -> Desk:
    return Desk(tmp_path, make_sweep_plan(**changes))


def evaluated(ticket: Ticket, evaluation: int, value: float) -> Message:
    number, attempt = ticket.trial.trial, ticket.trial.attempt
    report = Report(evaluation, evaluation, {"rouge_l": value, "cross_entropy": 1.0})
    return Message("evaluated", number, attempt, f"{number}-{attempt}", report=report)


def ended(ticket: Ticket, vote: Vote) -> Message:
    number, attempt = ticket.trial.trial, ticket.trial.attempt
    return Message("ended", number, attempt, f"{number}-{attempt}", vote=vote)


def done(outcome: Outcome = Outcome.COMPLETED, **metrics: float) -> Vote:
    return Vote(Ending.DONE, TrialResult(outcome, metrics, 4, 0.0, None, None))


def take(ledger: Ledger) -> Ticket:
    ticket = ledger.next_ticket()
    assert ticket is not None
    return ticket
