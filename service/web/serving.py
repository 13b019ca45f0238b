"""Serves the application from this process until it is asked to end. The sweeps that it began go on
without it."""

import logging
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn

from service.accounts.accounts import Accounts, open_accounts
from service.accounts.users import hidden
from service.actions.accounts import accounts_url, first_token
from service.actions.allowed import Allowed
from service.actions.hosted import Hosted
from service.actions.launch import Launches
from service.actions.launch_there import ClusterLaunches
from service.errors import PlanError
from service.web.site import make_site
from service.workspace import Workspace
from trainers.files.urls import is_url, without_secrets

BACKLOG = 512
NO_LIMIT = 10**6
END_S = 3  # that open pages get when the service ends
OnReady = Callable[[str, str | None], None]


@dataclass(frozen=True)
class Settings:
    """How a service serves. `data`: the folder that relative paths of sweeps start from; `folders`,
    `addresses`: what else sweeps may name; `at_once`: how many of them run together, by default one
    here, and on a cluster as many as come; `database`: of the users, by default a file in the home
    folder."""

    host: str = "127.0.0.1"
    port: int = 8266
    data: Path | None = None
    folders: tuple[Path, ...] = ()
    addresses: tuple[str, ...] = ()
    at_once: int | None = None
    database: str | None = None


def serve(workspace: Workspace, settings: Settings, on_ready: OnReady) -> None:
    """Serves until a signal ends it. on_ready: called with the address, and the token of the first
    admin where this made one. Raises `PlanError` when the port, or the database, cannot be had."""
    place = replace(workspace, folder=settings.data or workspace.folder)
    with (
        closing(_listening(settings.host, settings.port)) as listener,
        open_accounts(accounts_url(place, settings.database)) as accounts,
    ):
        launches = _launches(place, settings, accounts)
        hosted = Hosted(place, accounts, launches, allowed_in(place, settings))
        server = uvicorn.Server(_config(make_site(hosted), settings))
        on_ready(_address(listener), first_token(accounts))
        server.run(sockets=[listener])


def _launches(place: Workspace, settings: Settings, accounts: Accounts) -> Launches:
    if place.cluster is None:
        return Launches(place, at_once=settings.at_once or 1, quotas=accounts.quotas.all)
    many = settings.at_once or NO_LIMIT
    return ClusterLaunches(place, at_once=many, quotas=accounts.quotas.all)


def allowed_in(place: Workspace, settings: Settings) -> Allowed:
    """Returns what sweeps may name: the folder of data, what the settings add, and the storage that
    the service gives each sweep; but nothing of its home folder."""
    given = place.storage.values()
    folders = [place.folder, *settings.folders, *(Path(one) for one in given if not is_url(one))]
    addresses = [*settings.addresses, *(one for one in given if is_url(one))]
    return Allowed(tuple(folders), tuple(addresses), hidden=(place.home,))


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=BACKLOG, family=_family(host))
    except (OSError, OverflowError) as error:
        raise PlanError(
            f"serve: must get {host}:{port} to listen at, but got: {error}. Name another --port, "
            "or end what has it."
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class WithoutSecrets(logging.Formatter):
    """Writes a log's lines without the passwords of addresses and without tokens, also those that
    an error holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, with the error's traceback behind it."""
        return hidden(without_secrets(super().format(record)))


def _config(app: Any, settings: Settings) -> uvicorn.Config:
    logs = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": WithoutSecrets, "format": "%(asctime)s %(levelname)s %(message)s"}
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
    }
    return uvicorn.Config(
        app,
        log_config=logs,
        server_header=False,
        timeout_graceful_shutdown=END_S,
    )
