"""What is sent to an MLflow server, and what is made of answers that are none of MLflow's."""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.errors import TrackingError
from service.record.reading import Search
from service.record.rest_reader import RestReader, is_plain

PLAIN: dict[str, str] = {}


class Answer(BaseHTTPRequestHandler):
    """Answers every request alike, and keeps what it was asked."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.server.asked.append((self.path, dict(self.headers), self.rfile.read(length)))  # type: ignore[attr-defined]
        answers = self.server.answers  # type: ignore[attr-defined]
        status, text = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST

    def log_message(self, format: str, *arguments: object) -> None:
        return None


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("HOME", str(tmp_path))
    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    made.asked, made.answers = [], [(200, "{}")]
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    made.uri = f"http://127.0.0.1:{made.server_port}"
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def basic(user: str) -> str:
    return f"Basic {b64encode(user.encode()).decode()}"


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({}, None),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
        ({"MLFLOW_TRACKING_USERNAME": "ä", "MLFLOW_TRACKING_PASSWORD": "p:w"}, basic("ä:p:w")),
        ({"MLFLOW_TRACKING_USERNAME": "me"}, None),
        (
            {
                "MLFLOW_TRACKING_USERNAME": "me",
                "MLFLOW_TRACKING_PASSWORD": "pw",
                "MLFLOW_TRACKING_TOKEN": "t",
            },
            basic("me:pw"),
        ),
    ],
)
def test_credentials_are_those_that_mlflow_sends(
    server: Any, environment: dict[str, str], sent: str | None
) -> None:
    RestReader(server.uri, environment).experiments()
    assert server.asked[0][1].get("Authorization") == sent


def test_the_file_of_mlflows_login_counts_and_the_environment_more(
    server: Any, tmp_path: Path
) -> None:
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = kept\nmlflow_tracking_password = 100%\n"
    )
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password other\n")
    RestReader(server.uri, PLAIN).experiments()
    RestReader(server.uri, {"MLFLOW_TRACKING_USERNAME": "me"}).experiments()
    found = [headers["Authorization"] for _, headers, _ in server.asked]
    assert found == [basic("kept:100%"), basic("me:100%")]


def test_certificates_are_those_that_mlflow_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def send(self: object, request: object, **options: Any) -> object:
        seen.append(options)
        raise OSError("sent")

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/bundle.pem")
    for environment in (
        {"MLFLOW_TRACKING_INSECURE_TLS": "true"},
        {"MLFLOW_TRACKING_SERVER_CERT_PATH": "/server.pem"},
        {"MLFLOW_TRACKING_CLIENT_CERT_PATH": "/client.pem"},
    ):
        with pytest.raises(TrackingError, match="but got: sent"):
            RestReader("https://mlflow.invalid", environment).experiments()
    assert [one["verify"] for one in seen] == [False, "/server.pem", "/bundle.pem"]
    assert [one["cert"] for one in seen] == [None, None, "/client.pem"]


def test_pages_are_asked_for_until_there_is_none(server: Any) -> None:
    one = {"experiment_id": "1", "name": "a"}
    server.answers = [
        (200, json.dumps({"experiments": [one], "next_page_token": "more"})),
        (200, json.dumps({"experiments": [one | {"experiment_id": "2"}]})),
    ]
    assert [two.experiment_id for two in RestReader(server.uri, PLAIN).experiments()] == ["1", "2"]
    assert [json.loads(body).get("page_token") for _, _, body in server.asked] == [None, "more"]


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (401, "You are not logged in", "401 Unauthorized: You are.*Check the credentials"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', "PERMISSION_DENIED: no. Che"),
        (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"}', "EXIST: no run$"),
        (500, "<html>", "500 Internal Server Error: <html>"),
        (200, "<html>", "must answer, but got: "),
        (200, "[1]", r"an answer that is none of MLflow's: \[1\]"),
        (200, '{"runs": [{"info": {}}]}', "must answer, but got: 'run_id'"),
        (200, '{"runs": 7}', "must answer, but got: "),
    ],
)
def test_an_answer_that_is_none_is_named(server: Any, status: int, text: str, message: str) -> None:
    server.answers = [(status, text)]
    with pytest.raises(TrackingError, match=message):
        list(RestReader(server.uri, PLAIN).runs(Search(["1"])))


def test_asking_again_is_a_setting(server: Any) -> None:
    server.answers = [(503, "busy"), (200, "{}")]
    with pytest.raises(TrackingError, match="503"):
        RestReader(server.uri, PLAIN).experiments()
    server.answers = [(503, "busy"), (200, "{}")]
    again = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    assert RestReader(server.uri, again).experiments() == []
    with pytest.raises(TrackingError, match="must answer, but got: .*'often'"):
        RestReader(server.uri, {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "often"})


def test_what_only_mlflow_knows_is_left_to_it() -> None:
    assert is_plain({"MLFLOW_TRACKING_TOKEN": "t"})
    for name in ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_WORKSPACE"):
        assert not is_plain({name: "x"})
