"""A service that listens on a port of this machine, the command line through it, and what may stand
between the two."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest
import uvicorn
from api_support import Service
from cli_support import call
from typer.testing import Result

from service.actions.launch import LaunchState
from service.workspace import Server, Workspace

LOCAL = "127.0.0.1"


@dataclass
class Listening:
    """A service and its address."""

    service: Service
    address: str

    def to(self, user: str) -> Server:
        """The service as a user of it has it."""
        return Server(self.address, self.service.tokens.get(user, user), self.here)

    @property
    def here(self) -> Workspace:
        """Where its sweeps are, for who needs no service."""
        return self.service.hosted.workspace


@contextmanager
def listening(service: Service, *, lifespan: Literal["on", "off"] = "off") -> Iterator[Listening]:
    """Serves the app from a thread of this process. lifespan: `on` has sweeps that wait begin."""
    settings = uvicorn.Config(
        service.client.app,
        lifespan=lifespan,
        log_config=None,
        timeout_graceful_shutdown=1,  # seconds for streams that are still read
    )
    server = uvicorn.Server(settings)
    with socket.create_server((LOCAL, 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Listening(service, f"http://{LOCAL}:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join()


def there(served: Listening, *arguments: str, user: str = "root") -> Result:
    """The command through the service."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_SWEEP_TOKEN", served.service.tokens.get(user, user))
        return call("--server", served.address, *arguments)


def here(served: Listening, *arguments: str) -> Result:
    """The command in the service's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_SWEEP_HOME", str(served.here.home))
        return call(*arguments)


def rows(result: Result) -> Any:
    """What a command printed with `--json`."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def waiting(server: Listening) -> list[str]:
    """The sweeps that wait."""
    known = server.service.hosted.launches.all()
    return [one.sweep_id for one in known if one.state is LaunchState.WAITING]


Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next of its server's answers, the last one again and again."""

    protocol_version = "HTTP/1.1"
    server: "Scripted"

    def log_message(self, *given: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self.server.seen.append(self)
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    do_POST = do_GET

    def say(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """Answers so."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        """What the request carries."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


class Scripted(ThreadingHTTPServer):
    """A server that says what it is told to."""

    daemon_threads = True

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__((LOCAL, 0), Handler)
        self.answers, self.seen = answers, list[Handler]()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://{LOCAL}:{self.server_port}"


@contextmanager
def scripted(*answers: Answer) -> Iterator[Scripted]:
    """A server that answers so, request after request."""
    with Scripted(list(answers)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
