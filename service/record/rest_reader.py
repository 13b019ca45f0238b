"""Reads a store behind an MLflow server through its documented REST interface, with the credentials
and certificates that MLflow's own client would send."""

import os
from base64 import b64encode
from collections.abc import Iterator, Mapping
from configparser import RawConfigParser
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import requests
from pydantic_core import from_json
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from service.record.client import CLIENT_ENVIRONMENT
from service.record.reading import (
    Experiment,
    Point,
    Search,
    StoredModel,
    StoredRun,
    answering,
)

API = "api/2.0/mlflow"
PAGE = 250  # runs in one request: a busy server takes many seconds for a thousand
# MLflow's own limit. The one for what a training loop writes is shorter.
TIMEOUT, TIMEOUT_S = "MLFLOW_HTTP_REQUEST_TIMEOUT", "120"
# How MLflow's client says who asks in ways that only it knows.
OTHER_WAYS = (
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_ENABLE_WORKSPACES",
    "MLFLOW_WORKSPACE",
)
PLUGINS = "mlflow.request_header_provider"
READY = "LOGGED_MODEL_READY"
PASSING = (408, 429, 500, 502, 503, 504)  # answers after which asking again may help


def is_plain(environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether MLflow's client would ask with nothing but a name, a token and certificates;
    plugins and signatures are its own business."""
    return not any(environment.get(name) for name in OTHER_WAYS) and not entry_points(group=PLUGINS)


class RestReader:
    """A `Reader` of the MLflow server at `uri`."""

    def __init__(self, uri: str, environment: Mapping[str, str] = os.environ) -> None:
        self._uri = uri.rstrip("/")
        settings = CLIENT_ENVIRONMENT | {TIMEOUT: TIMEOUT_S} | dict(environment)
        with answering(uri):
            self._session = _session(settings)
            # For each request: only there they come before REQUESTS_CA_BUNDLE.
            self._options: dict[str, Any] = {
                "timeout": float(settings[TIMEOUT]),
                "cert": settings.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
                "verify": _verify(settings),
            }

    def experiments(self, *, deleted: bool = False) -> list[Experiment]:
        """Returns the experiments that are not deleted, or those that are."""
        view = "DELETED_ONLY" if deleted else "ACTIVE_ONLY"
        question = {"view_type": view, "max_results": PAGE}
        return [
            Experiment(one["experiment_id"], one["name"])
            for one in self._pages("POST", "experiments/search", "experiments", question)
        ]

    def runs(self, search: Search) -> Iterator[StoredRun]:
        """Yields the runs, the newest first and of equally new ones by id."""
        if not search.experiments:
            return
        question = {
            "experiment_ids": list(search.experiments),
            "filter": search.filter_string(),
            "order_by": ["attributes.start_time DESC"],
            "max_results": PAGE,
        }
        for one in self._pages("POST", "runs/search", "runs", question):
            with answering(self._uri):
                run = _stored(one)
            if search.holds(run.tags):
                yield run

    def artifact_place(self, run_id: str) -> str:
        """Returns where the run's files are, as MLflow has it."""
        with answering(self._uri):
            answer = self._ask("GET", "runs/get", {"run_id": run_id})
            return str(answer["run"]["info"]["artifact_uri"])

    def history(self, run_id: str, metric: str) -> list[Point]:
        """Returns all values of a run's metric, in no order that counts."""
        question = {"run_id": run_id, "metric_key": metric}
        found = self._pages("GET", "metrics/get-history", "metrics", question)
        return [
            Point(int(one.get("step", 0)), float(one["value"]), int(one["timestamp"]))
            for one in found
        ]

    def models(self, run_id: str) -> list[StoredModel]:
        """Returns the models that a run has logged."""
        with answering(self._uri):
            run = self._ask("GET", "runs/get", {"run_id": run_id})["run"]
        question = {
            "experiment_ids": [run["info"]["experiment_id"]],
            "filter": f"source_run_id = '{run_id}'",
        }
        found = self._pages("POST", "logged-models/search", "models", question)
        infos = [one["info"] for one in found]
        return [
            StoredModel(one["model_id"], one["artifact_uri"], one["status"] == READY)
            for one in infos
        ]

    def _pages(self, method: str, path: str, name: str, question: dict[str, Any]) -> Iterator[Any]:
        while True:
            with answering(self._uri):
                answer = self._ask(method, path, question)
                page = list(answer.get(name, []))
            yield from page
            token = answer.get("next_page_token")
            if not token:
                return
            question = question | {"page_token": token}

    def _ask(self, method: str, path: str, question: dict[str, Any]) -> dict[str, Any]:
        place = "params" if method == "GET" else "json"
        sent = self._options | {place: question}
        answer = self._session.request(method, f"{self._uri}/{API}/{path}", **sent)
        if answer.status_code != 200:
            raise OSError(_refusal(answer))
        found = from_json(answer.content)  # twice as quick as the standard library's
        if not isinstance(found, dict):
            raise ValueError(f"an answer that is none of MLflow's: {answer.text:.60}")
        return found


def _session(environment: Mapping[str, str]) -> requests.Session:
    session = requests.Session()
    retries = Retry(
        int(environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]),
        status_forcelist=PASSING,
        backoff_factor=1,
        allowed_methods=None,
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    session.auth = _authorization(environment)
    return session


def _verify(environment: Mapping[str, str]) -> bool | str:
    """Returns whether the server's certificate is checked, or against which file."""
    if environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    return environment.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True


class _Authorization(requests.auth.AuthBase):
    """A header; as `auth`, since requests would put what ~/.netrc says in the place of another."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._text
        return request


def _authorization(environment: Mapping[str, str]) -> _Authorization | None:
    name, password = _user(environment)
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    if name and password:
        return _Authorization(f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}")
    return _Authorization(f"Bearer {token}") if token else None


def _user(environment: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Returns the user's name and password: the environment's, else those of MLflow's own file."""
    file = RawConfigParser()
    file.read(Path("~/.mlflow/credentials").expanduser())
    kept = file["mlflow"] if file.has_section("mlflow") else {}
    name, password = (
        environment.get(variable) or kept.get(variable.lower())
        for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    )
    return name, password


def _refusal(answer: requests.Response) -> str:
    hint = ""
    if answer.status_code in (401, 403):
        hint = ". Check the credentials (MLFLOW_TRACKING_TOKEN or _USERNAME and _PASSWORD)."
    try:
        found = answer.json()
        return f"{found['error_code']}: {found['message']}{hint}"
    except (ValueError, LookupError, TypeError):
        return f"{answer.status_code} {answer.reason}: {answer.text:.200}{hint}"


def _stored(run: Mapping[str, Any]) -> StoredRun:
    info, data = run["info"], run.get("data", {})
    ended = info.get("end_time")
    return StoredRun(
        run_id=info["run_id"],
        name=info.get("run_name", ""),
        experiment_id=info["experiment_id"],
        status=info["status"],
        started_ms=int(info["start_time"]),
        ended_ms=None if ended is None else int(ended),
        params=_texts(data.get("params", [])),
        tags=_texts(data.get("tags", [])),
        metrics={one["key"]: float(one["value"]) for one in data.get("metrics", [])},
    )


def _texts(entries: list[dict[str, str]]) -> dict[str, str]:
    # An empty text is left out of the answer.
    return {one["key"]: one.get("value", "") for one in entries}
