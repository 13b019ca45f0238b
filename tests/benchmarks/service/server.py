"""The process that is measured: a service, and a bare FastAPI route beside it on a port of its own.

Usage: python tests/benchmarks/service/server.py HOME, which prints the two ports."""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT)]

from service.accounts.accounts import Accounts  # noqa: E402  # path above
from service.actions.hosted import Hosted  # noqa: E402  # path above
from service.actions.launch import Launches  # noqa: E402  # path above
from service.home import accounts_file, sqlite_uri  # noqa: E402  # path above
from service.web.site import make_site  # noqa: E402  # path above
from service.workspace import Workspace  # noqa: E402  # path above


def bare() -> dict[str, str]:
    """What a route costs that does nothing."""
    return {"status": "ok"}


def server(app: FastAPI) -> tuple[uvicorn.Server, socket.socket]:
    """A server of the app, set up as `kd-sweep serve` does, without its log, and its socket."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    settings = uvicorn.Config(app, log_config=None, access_log=False, server_header=False)
    return uvicorn.Server(settings), listener


async def main(home: Path) -> None:
    """Serves until it is killed."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core
    place = Workspace(home, folder=home)
    accounts = Accounts(sqlite_uri(accounts_file(home)))
    hosted = Hosted(place, accounts, Launches(place))
    other = FastAPI()
    other.get("/bare")(bare)
    servers = [server(make_site(hosted)), server(other)]
    print(json.dumps([listener.getsockname()[1] for _, listener in servers]), flush=True)
    await asyncio.gather(*(one.serve([listener]) for one, listener in servers))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
