"""Tells others what there is to tell of a sweep: addresses that apprise knows, and a program.

Nothing here may hold up or end a sweep. Sending is done in a thread of its own and has its time; of
news that wait, only the newest is sent; and what goes wrong is said once for each of those told.
"""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

from service.driver.news import News, Newsroom
from service.events import DriverEvent, Notice
from service.plan.plan import SweepPlan

SEND_TIMEOUT_S = 15.0
COMMAND_TIMEOUT_S = 30.0
# How long the end of a sweep waits for its last news to be told.
CLOSE_TIMEOUT_S = 60.0
# Parts of an address that short are words, such as its scheme, and no secret.
SHORTEST_SECRET = 4


@dataclass(frozen=True)
class Told:
    """One of those told: `name` for people; `send` returns what went wrong, None when nothing
    did."""

    name: str
    send: Callable[[News], str | None]


class Notifier:
    """Tells the spec's `notify` of a sweep, while it is entered. on_event: gets a notice of what
    went wrong, also from this thread; environment: where the variables of addresses are."""

    def __init__(
        self,
        plan: SweepPlan,
        on_event: Callable[[DriverEvent], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._plan, self._newsroom = plan, Newsroom(plan)
        self._on_event, self._environment = on_event, environment
        self._changed = threading.Condition()
        self._waiting: News | None = None
        self._is_over = False
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)

    def __enter__(self) -> "Notifier":
        if self._plan.spec.notify.names():
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Not when the user ends it at once (KeyboardInterrupt), who is there.
        if isinstance(error, Exception):
            self.tell(self._newsroom.failed(str(error) or type(error).__name__))
        with self._changed:
            self._is_over = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S)

    def pass_on(self, event: DriverEvent) -> None:
        """Takes an event in, and passes it on."""
        self.take(event)
        self._on_event(event)

    def take(self, event: DriverEvent) -> None:
        """Takes an event in, and tells what there is to tell of it."""
        news = self._newsroom.take(event)
        if news is not None:
            self.tell(news)

    def tell(self, news: News) -> None:
        """Has the news told soon, in place of older news that still wait."""
        with self._changed:
            self._waiting = news
            self._changed.notify()

    def _run(self) -> None:
        everyone = list(those_told(self._plan, self._environment, self._say))
        while (news := self._next()) is not None:
            for told in everyone:
                try:
                    problem = told.send(news)
                except (
                    Exception
                ) as error:  # of one service among a hundred; its text may hold a key
                    problem = f"was not told ({type(error).__name__})"
                if problem is not None:
                    self._say(told.name, problem)

    def _next(self) -> News | None:
        """Waits for news; returns None when the sweep is over and there are none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._is_over)
            news, self._waiting = self._waiting, None
            return news

    def _say(self, name: str, problem: str) -> None:
        if name not in self._said:
            self._said.add(name)
            self._on_event(Notice(f"notify: {name}: {problem}. The sweep goes on all the same."))


def tell_failure(plan: SweepPlan, error: str, on_event: Callable[[DriverEvent], None]) -> None:
    """Tells that a sweep failed, for a driver that no longer can."""
    with Notifier(plan, on_event) as notifier:
        notifier.tell(Newsroom(plan).failed(error))


def those_told(
    plan: SweepPlan, environment: Mapping[str, str], say: Callable[[str, str], None]
) -> Iterator[Told]:
    """Yields those who can be told; `say` gets the name of each other one and the reason."""
    notify = plan.spec.notify
    for name, urls in notify.addresses(environment).items():
        try:
            yield at_address(name, urls)
        except ValueError as error:
            say(name, str(error))
    if notify.command is not None:
        command = notify.command
        yield Told(command, lambda news: run_command(command, news))


def at_address(name: str, urls: str) -> Told:
    """Returns whom apprise URLs reach; `name`: their variable, or themselves. Raises `ValueError`
    when that is nobody."""
    if not urls.strip():
        raise ValueError("this variable must be set where the sweep's driver runs, but is not")
    try:
        import apprise
    except ImportError as error:
        raise ValueError(
            "an address needs a package that is not installed: pip install 'kd-sweep[notify]'"
        ) from error
    # It logs addresses as they are.
    apprise.logger.propagate = False
    service = apprise.Apprise()
    with apprise.LogCapture(level=apprise.logging.WARNING, fmt="%(message)s") as log:
        is_known = service.add(urls)
    if not is_known:
        reason = without_parts(log.getvalue(), urls) or "apprise knows none of that kind"
        raise ValueError(f"it must hold apprise URLs, but got others: {reason}")

    def send(news: News) -> str | None:
        sent = service.notify(news.text(), title=news.title(), timeout=SEND_TIMEOUT_S)
        if sent:
            return None
        said = " ".join(entry.message for entry in sent.logs())
        return without_parts(said, urls) or f"was not told ({sent.status.name.lower()})"

    return Told(name, send)


def without_parts(text: str, urls: str) -> str:
    """Returns the text on one line, with what it repeats of the addresses hidden."""
    for part in sorted(set(re.split(r"[^\w.~%-]+", urls)), key=len, reverse=True):
        if len(part) >= SHORTEST_SECRET:
            text = text.replace(part, "***")
    return " ".join(text.split()).rstrip(".")


def run_command(command: str, news: News) -> str | None:
    """Runs a program with the news as JSON on its stdin and in its environment; returns what went
    wrong. Longer than its time it runs no more, nor what it started."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(json.dumps(news.facts(), default=str).encode())
        given.seek(0)
        try:
            # In a session of its own: what it starts ends with it, and Ctrl-C is not for it.
            process = subprocess.Popen(
                [command],
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=os.environ | news.variables(),
                start_new_session=True,
            )
        except OSError as error:
            return f"must be a program that can be run here, but got: {error.strerror or error}"
        try:
            code = process.wait(COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"took longer than {COMMAND_TIMEOUT_S:.0f} s and was ended"
        said.seek(0)
        last = said.read().decode("utf-8", "replace").strip().splitlines()[-1:]
    return None if code == 0 else f"ended with {code}{''.join(': ' + line for line in last)}"
