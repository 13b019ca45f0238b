"""Shows a running sweep: a live panel on a terminal or in a notebook, plain lines elsewhere.

Events come from several threads of the driver, and Rich draws the panel in a thread of its own,
which reads the same `SweepProgress` without a lock. What it reads together may therefore be one
event apart; a panel that is drawn again a quarter of a second later can afford that.
"""

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service import actions
from service.cli.app import as_typed
from service.cli.fitting import FittedTable
from service.cli.notebook import NotebookPanel
from service.cli.plan_table import plan_view
from service.cli.progress import SweepProgress
from service.events import DriverEvent, SweepEnded
from service.signals import StopOnSignal
from service.words import duration

if TYPE_CHECKING:
    from service.actions.run_result import RunEvent
    from service.plan.plan import SweepPlan


class Display(Protocol):
    """Takes the driver's events and shows them."""

    def __enter__(self) -> "Display":
        """Starts to show."""

    def __exit__(self, *reason: object) -> None:
        """Stops showing."""

    def on_event(self, event: DriverEvent) -> None:
        """Shows an event."""


class PlainDisplay:
    """One line for each event that matters."""

    def __init__(self, console: Console, progress: SweepProgress) -> None:
        self._console, self._progress = console, progress

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, *reason: object) -> None:
        """Nothing is open."""

    def on_event(self, event: DriverEvent) -> None:
        """Writes the event's line, if it has one."""
        line = self._progress.take(event)
        if line is not None:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay:
    """A panel that stays in place: bar, states, running trials, best so far."""

    def __init__(self, console: Console, progress: SweepProgress) -> None:
        self._progress = progress
        # Asked for the panel at each refresh instead of being given one: the time that is left is
        # estimated anew also while no event comes.
        self._live = (
            NotebookPanel(lambda: panel(progress))
            if console.is_jupyter
            else Live(console=console, get_renderable=lambda: panel(progress), refresh_per_second=4)
        )

    def __enter__(self) -> "LiveDisplay":
        self._live.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._live.stop()

    def on_event(self, event: DriverEvent) -> None:
        """Takes the event in; the panel follows by itself."""
        self._progress.take(event)


def display_on(console: Console, progress: SweepProgress) -> PlainDisplay | LiveDisplay:
    """Returns the live panel on a terminal or in a notebook, and plain lines elsewhere."""
    is_live = console.is_terminal or console.is_jupyter
    return (LiveDisplay if is_live else PlainDisplay)(console, progress)


def panel(progress: SweepProgress) -> RenderableType:
    """Returns the panel for the events so far."""
    lines: list[RenderableType] = []
    if progress.stage is not None:
        name, share = progress.stage
        eta = progress.stage_eta_s() if share < 1 else None
        left = "" if eta is None else f", about {duration(eta)} left"
        lines.append(_bar(f"preparing: {name}", share, f"{share:.0%}{left}"))
    elif progress.slots:
        total = progress.num_done + len(progress.running)
        lines.append(_bar(progress.counts(), progress.share_done(), progress.left_text()))
        lines.append(
            Text(f"best so far: {progress.best_text()}", style="bold") if total else Text()
        )
        lines.append(_running_table(progress))
    waits = progress.wait.text()
    if waits is not None:
        lines.append(Text(waits, style="dim"))
    lines.extend(Text(notice, style="yellow") for notice in progress.notices)
    return Group(*lines)


def _bar(text: str, share: float, right: str) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(ProgressBar(total=1.0, completed=share, width=30), Text(right))
    return Group(Text(text), grid)


def _running_table(progress: SweepProgress) -> RenderableType:
    # `sorted` copies the items before it compares them, in one call that holds the interpreter's
    # lock: a trial that starts meanwhile cannot change the dict under this loop.
    rows = [
        (
            Text(f"  trial {number}", style="cyan"),
            Text(trial.name),
            Text(trial.where()),
            Text("" if trial.value is None else f"{progress.metric} {trial.value:.4g}"),
        )
        for number, trial in sorted(progress.running.items())
    ]
    return FittedTable(("", "", "", ""), rows)


class WatchDisplay:
    """Shows a sweep from its first event, which brings the plan, to its last."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._display: Display | None = None
        self._sweep_id: str | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *reason: object) -> None:
        self._open.close()
        if kind is KeyboardInterrupt and self._sweep_id is not None:
            self._console.print(Text(as_typed(self._left(self._sweep_id))), soft_wrap=True)

    def on_event(self, event: "RunEvent") -> None:
        """Shows an event."""
        if isinstance(event, actions.run_result.SweepBegins):
            self._begin(event.plan)
            return
        assert self._display is not None, "the first event brings the plan"
        self._display.on_event(event)
        if isinstance(event, SweepEnded):
            self._open.close()

    def _begin(self, plan: "SweepPlan") -> None:
        self._sweep_id = plan.sweep_id
        progress = SweepProgress(plan, time.monotonic)
        self._display = display_on(self._console, progress)
        self._open.enter_context(self._display)

    def _left(self, sweep_id: str) -> str:
        """Returns what to say when the user leaves with Ctrl-C."""
        return f"the sweep goes on without being watched; look again: kd-sweep watch {sweep_id}"


class RunDisplay(WatchDisplay):
    """Shows a run, and sets `stop` at its first Ctrl-C or SIGTERM. is_elsewhere: not in this
    process, so that the second one only looks away."""

    def __init__(
        self,
        console: Console,
        *,
        shows_plan: bool = False,
        stop: threading.Event | None = None,
        is_elsewhere: bool = False,
    ) -> None:
        super().__init__(console)
        self._shows_plan, self._is_elsewhere = shows_plan, is_elsewhere
        then = "only looks away" if is_elsewhere else "ends at once"
        self._stopper = StopOnSignal(console.print, stop, then=then)

    @property
    def stop(self) -> threading.Event:
        """Set when the user wants the sweep to stop."""
        return self._stopper.stop

    def on_event(self, event: "RunEvent") -> None:
        """Shows an event."""
        if self._display is not None:
            # Ray replaces the handlers when it starts, so each event sets them again.
            self._stopper.install()
        super().on_event(event)

    def _begin(self, plan: "SweepPlan") -> None:
        if self._shows_plan:
            self._console.print(plan_view(plan))
        super()._begin(plan)
        # Above the display, so that it is left first: its message goes to a display that still
        # shows. Before this event a signal ends the process at once, as nothing runs yet.
        self._open.enter_context(self._stopper)

    def _left(self, sweep_id: str) -> str:
        if self._is_elsewhere:
            return f"it is stopped without being watched; see: kd-sweep status {sweep_id}"
        return f"ended at once; what is finished is kept. Go on with: kd-sweep resume {sweep_id}"
