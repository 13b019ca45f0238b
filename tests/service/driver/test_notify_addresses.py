"""Addresses that are told, on this machine, and what is said of those that are not."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from typing import Any

import pytest
from notify_support import tell

from service.driver.notify import without_parts
from service.events import SweepEnded, SweepSummary, TrialEnded, TrialStarted
from service.states import TrialState

SECRET = "B0ne0fTheT0ken"
END = SweepEnded(SweepSummary("tiny", "run", "completed", {"completed": 1}, 0, 3.0, 9.0))


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web address, as an apprise URL with a secret in its path, and what was posted there."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append(json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}/{SECRET}", posted
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_is_told(hook: tuple[str, list[dict[str, Any]]]) -> None:
    url, posted = hook
    assert tell({"HOOK": url}, END, urls=["env:HOOK"]) == []
    [post] = posted
    assert post["title"].endswith(": completed")
    assert post["message"].startswith("trials: 1 completed\nnext: kd-sweep best")


def test_an_address_that_is_written_as_it_is_is_told(hook: tuple[str, list[Any]]) -> None:
    url, posted = hook
    assert tell({}, END, urls=[url.removesuffix(f"/{SECRET}")]) == []
    assert len(posted) == 1


def test_an_address_that_does_not_answer_is_named_once_and_never_shown() -> None:
    nowhere = {"HOOK": f"json://127.0.0.1:9/{SECRET}?cto=1"}
    events = [TrialStarted(0, 0, None, {"tau": 1.0}), TrialEnded(0, TrialState.COMPLETED, 3.0)]
    [said] = tell(nowhere, *events, END, urls=["env:HOOK"])
    assert said.startswith("notify: env:HOOK: A Connection error occurred sending JSON")
    assert said.endswith(". The sweep goes on all the same.")
    assert SECRET not in said


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "env:HOOK: this variable must be set where the sweep's driver runs, but is not"),
        ({"HOOK": f"nonsense/{SECRET}"}, "must hold apprise URLs, but got others"),
        ({"HOOK": f"slack://{SECRET}"}, "must hold apprise URLs, but got others"),
    ],
)
def test_an_address_that_is_none_is_said_while_the_sweep_goes_on(
    environment: dict[str, str], reason: str
) -> None:
    log = StringIO()  # not pytest's, which also hears loggers that hand nothing on
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    [said] = tell(environment, END, urls=["env:HOOK"])
    logging.getLogger().removeHandler(handler)
    assert reason in said
    assert SECRET not in said + log.getvalue()


def test_without_its_package_an_address_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    [said] = tell({"HOOK": "json://127.0.0.1"}, END, urls=["env:HOOK"])
    assert "pip install 'kd-sweep[notify]'" in said


def test_parts_of_an_address_are_hidden_and_words_are_not() -> None:
    text = without_parts("Failed to send to T0KEN1 at hooks.example:\n401.", "slack://T0KEN1/abc")
    assert text == "Failed to send to *** at hooks.example: 401"
