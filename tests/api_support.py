"""A service for tests: its app with a recorded sweep and users, and launches that start nothing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

from cli_support import ROWS as DATA
from cli_support import write_lines
from fastapi.testclient import TestClient
from records_support import make_store, plan_of, record_sweep

from service.accounts.accounts import Accounts
from service.accounts.ownership import Claim
from service.accounts.users import UserRole
from service.actions import plan as planning
from service.actions.allowed import Allowed
from service.actions.hosted import Hosted
from service.actions.launch import Launches
from service.home import sqlite_uri
from service.plan.resources import Resources
from service.web.site import make_site
from service.workspace import Workspace

DAY_S = 86400.0
ROWS: list[tuple[dict[str, Any], dict[str, float]]] = [
    ({"divergence": "forward_kl", "tau": 1.0}, {"rouge_l": 20.0, "cross_entropy": 2.0}),
    ({"divergence": "reverse_kl", "tau": 2.0}, {"rouge_l": 30.0, "cross_entropy": 3.0}),
]
PLAN = plan_of()
OTHERS = plan_of("other")
NOBODYS = plan_of("nobodys")  # of the command line
# name: role, project
USERS = {
    "root": (UserRole.ADMIN, None),
    "anna": (UserRole.SUBMITTER, None),
    "vera": (UserRole.VIEWER, "anna"),
    "paul": (UserRole.SUBMITTER, "anna"),
    "otto": (UserRole.SUBMITTER, None),
}


@dataclass
class Clock:
    """Seconds that a test sets."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Service:
    """A service with anna's recorded sweep, which vera and paul see, and otto's."""

    client: TestClient
    hosted: Hosted
    clock: Clock
    tokens: dict[str, str] = field(default_factory=dict)

    def __call__(self, user: str | None, method: str, path: str, **given: Any) -> Any:
        headers = dict(given.pop("headers", {}))
        if user is not None:
            headers["Authorization"] = f"Bearer {self.tokens.get(user, user)}"
        return self.client.request(method, path, headers=headers, **given)


def make_accounts(home: Path, clock: Clock) -> Accounts:
    home.mkdir(parents=True, exist_ok=True)
    return Accounts(sqlite_uri(home / "accounts.db"), now=clock)


@cache
def _recorded_home() -> Path:
    """A home with two recorded sweeps, made once; copies save each test a second."""
    home = Path(mkdtemp(prefix="kd-api-")) / "home"
    uri = make_store(home)
    for plan in (NOBODYS, PLAN, OTHERS):
        record_sweep(uri, home, plan, ROWS)
    return home


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """A service whose home is in `folder`, and whose data too, on a machine of two CPUs; no sweep
    of it ever starts."""
    home, clock = folder / "home", Clock()
    shutil.copytree(_recorded_home(), home)
    write_lines(folder / "train.jsonl", DATA)
    write_lines(folder / "validation.jsonl", DATA[:3])
    two = Resources(num_cpus=2, disk_free=10**12)
    with patch.object(planning, "local_resources", lambda where: two):
        yield from _made(home, folder, clock)


def _made(home: Path, folder: Path, clock: Clock) -> Iterator[Service]:
    accounts = make_accounts(home, clock)
    place = Workspace(home, folder=folder)
    launches = Launches(place, at_once=0, quotas=accounts.quotas.all)
    hosted = Hosted(place, accounts, launches, Allowed((folder,)))
    # Not entered: the line of waiting sweeps is moved by the tests.
    client = TestClient(make_site(hosted), raise_server_exceptions=False)
    made = Service(client, hosted, clock)
    for name, (role, project) in USERS.items():
        accounts.people.add(name, role, project=project)
        made.tokens[name] = accounts.people.new_token(name, lasts_s=DAY_S)[0]
    for name, plan in (("anna", PLAN), ("otto", OTHERS)):
        user = accounts.people.one(name)
        accounts.sweeps.claim(user, Claim(plan.sweep_id, plan.spec.name))
    yield made
    accounts.close()
