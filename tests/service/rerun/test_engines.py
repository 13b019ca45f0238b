"""An engine that answers with errors, and folders with a colon in their names. No Docker."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.errors import PlanError
from service.rerun.engines import docker_engine


class Handler(BaseHTTPRequestHandler):
    """Answers as Docker does, with the server's status for the paths in `fails`."""

    def do_GET(self) -> None:
        server: Any = self.server
        length = int(self.headers.get("Content-Length") or 0)
        server.bodies.append(self.rfile.read(length))
        fails = next((status for path, status in server.fails.items() if path in self.path), None)
        body = {"message": "boom"} if fails else {"ApiVersion": "1.44", "Id": "sha256:1"}
        content = json.dumps(body).encode()
        self.send_response(fails or 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        return None


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.fails, made.bodies = {}, []
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{made.server_port}")
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.mark.parametrize("status", [400, 409, 500, 503])
@pytest.mark.parametrize("path", ["/version", "/images/", "/containers/create", "/start"])
def test_an_engine_that_answers_with_an_error_is_named(
    engine: Any, path: str, status: int, tmp_path: Path
) -> None:
    engine.fails = {path: status}
    with pytest.raises(PlanError, match=r"rerun: (Docker must|a Docker engine must).*--local"):
        made = docker_engine("image", {}, cpus=1, gpu=False)
        try:
            made.train(tmp_path, [], workers=1, on_line=print)
        finally:
            made.close()


def test_a_folder_with_a_colon_is_mounted(engine: Any, tmp_path: Path) -> None:
    engine.fails = {"/start": 500}
    made = docker_engine("image", {"data": tmp_path / "a:b"}, cpus=1, gpu=False)
    with pytest.raises(PlanError, match="must run the container"):
        made.train(tmp_path / "c:d", [], workers=1, on_line=print)
    made.close()
    request = json.loads(next(body for body in engine.bodies if b"Mounts" in body))
    assert [
        (mount["Source"], mount["Target"], mount["ReadOnly"])
        for mount in request["HostConfig"]["Mounts"]
    ] == [(f"{tmp_path}/a:b", "/inputs/data", True), (f"{tmp_path}/c:d", "/room", False)]
