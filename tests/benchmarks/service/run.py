"""What the service holds, beside a bare FastAPI route in the same process and the same rounds:
answers of one core, how late they are at half of what the bare route holds, how soon a page hears
of a trial's report, and what 200 open pages cost.

Usage: python tests/benchmarks/service/run.py [--trials N] [--rounds N] [--requests N] [--pages N]
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/benchmarks/commands")]

from many_trials import make_home  # noqa: E402  # path above
from records_support import plan_of  # noqa: E402  # path above

from service.accounts.accounts import open_accounts  # noqa: E402  # path above
from service.accounts.ownership import Claim  # noqa: E402  # path above
from service.accounts.users import UserRole  # noqa: E402  # path above
from service.driver.lock import sweep_lock  # noqa: E402  # path above
from service.driver.log import driver_log  # noqa: E402  # path above
from service.events import DriverEvent, TrialEvaluated  # noqa: E402  # path above
from service.home import accounts_file, sqlite_uri, sweeps_folder  # noqa: E402  # path above
from service.plan.places import plan_file  # noqa: E402  # path above

CALLERS = 16
DAY_S = 86400.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Served:
    """The measured process, and what a user of it sends."""

    pid: int
    port: int
    bare_port: int
    token: str

    def cpu_s(self) -> float:
        """CPU seconds that it has used."""
        parts = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / TICKS

    def memory_mib(self) -> float:
        """What it holds in memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (kib,) = [line.split()[1] for line in lines if line.startswith("VmRSS")]
        return int(kib) / 1024

    def num_open(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextmanager
def served(home: Path) -> Iterator[Served]:
    """A service with a sweep of anna's in `home`."""
    plan = plan_of()
    with open_accounts(sqlite_uri(accounts_file(home))) as accounts:
        anna = accounts.people.add("anna", UserRole.SUBMITTER)
        accounts.sweeps.claim(anna, Claim(plan.sweep_id, plan.spec.name))
        token = accounts.people.new_token("anna", lasts_s=DAY_S)[0]
    script = Path(__file__).with_name("server.py")
    process = subprocess.Popen([sys.executable, str(script), str(home)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    port, bare_port = json.loads(process.stdout.readline())
    try:
        yield Served(process.pid, port, bare_port, token)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


class Caller:
    """A connection that stays open, over which one request follows the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> "Caller":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**22))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Sends the request; returns the status and the body."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        return int(head.split(b" ", 2)[1]), await self.reader.readexactly(int(length or 0))


def request(path: str, token: str = "", more: str = "") -> bytes:
    """A request's bytes."""
    known = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{known}{more}\r\n".encode()


@asynccontextmanager
async def callers(port: int, number: int) -> AsyncIterator[list[Caller]]:
    """Connections, closed at the end."""
    made = [await Caller.to(port) for _ in range(number)]
    try:
        yield made
    finally:
        for one in made:
            one.writer.close()


async def saturate(service: Served, port: int, what: bytes, number: int) -> tuple[float, float]:
    """Asks `number` times, as fast as answers come; returns answers a CPU second of the service,
    and answers a second."""
    left = iter(range(number))

    async def go(one: Caller) -> None:
        for _ in left:
            status, _ = await one.ask(what)
            assert status in (200, 304), status

    async with callers(port, CALLERS) as made:
        await made[0].ask(what)
        cpu, began = service.cpu_s(), time.perf_counter()
        await asyncio.gather(*map(go, made))
        return number / (service.cpu_s() - cpu), number / (time.perf_counter() - began)


async def lateness(port: int, what: bytes, rate: float, seconds: float) -> list[float]:
    """Asks `rate` times a second whether or not answers have come; returns the seconds from when
    each was due."""
    async with callers(port, 4 * CALLERS) as made:
        free: asyncio.Queue[Caller] = asyncio.Queue()
        for one in made:
            free.put_nowait(one)
        found: list[float] = []
        began = time.perf_counter()

        async def go(due: float) -> None:
            one = await free.get()
            await one.ask(what)
            found.append(time.perf_counter() - began - due)
            free.put_nowait(one)

        tasks = []
        for number in range(int(rate * seconds)):
            due = number / rate
            await asyncio.sleep(max(0.0, due - (time.perf_counter() - began)))
            tasks.append(asyncio.create_task(go(due)))
        await asyncio.gather(*tasks)
        return found


async def measure_answers(service: Served, rounds: int, number: int) -> None:
    """Prints what the routes hold beside the bare one."""
    sweep = plan_of().sweep_id
    trials = f"/api/v1/sweeps/{sweep}/trials"
    async with callers(service.port, 1) as made:
        made[0].writer.write(request(trials, service.token))
        head = (await made[0].reader.readuntil(b"\r\n\r\n")).decode()
        tag = head.lower().partition("etag: ")[2].partition("\r\n")[0]
    cases = {
        "bare route": (service.bare_port, request("/bare")),
        "list of sweeps": (service.port, request("/api/v1/sweeps", service.token)),
        "trials, 100 of them": (service.port, request(f"{trials}?limit=100", service.token)),
        "trials, 1,000 of them": (service.port, request(trials, service.token)),
        "trials, known by their ETag": (
            service.port,
            request(trials, service.token, f"If-None-Match: {tag}\r\n"),
        ),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (port, what) in cases.items():
            found[name].append(await saturate(service, port, what, number))
    base, held = (statistics.median(each) for each in zip(*found["bare route"], strict=True))
    print("| route | answers a CPU second | ÷ bare | p50, p99 ms at half of the bare route's |")
    print("|---|---|---|---|")
    for name, (port, what) in cases.items():
        rate = statistics.median(one for one, _ in found[name])
        late = sorted(await lateness(port, what, held / 2, 5.0))
        p50, p99 = (1000 * late[int(share * (len(late) - 1))] for share in (0.5, 0.99))
        print(f"| {name} | {rate:,.0f} | {rate / base:.2f} | {p50:.0f}, {p99:.0f} |")


@asynccontextmanager
async def page(service: Served) -> AsyncIterator[asyncio.StreamReader]:
    """The events that an open page reads, behind those so far."""
    path = f"/api/v1/sweeps/{plan_of().sweep_id}/events"
    caller = await Caller.to(service.port)
    caller.writer.write(request(path, service.token))
    await caller.reader.readuntil(b"retry: ")
    try:
        yield caller.reader
    finally:
        caller.writer.close()


async def measure_news(service: Served, write: Callable[[DriverEvent], None], number: int) -> None:
    """Prints how long after a trial's report a page hears of it."""
    found = []
    async with page(service) as reader:
        for step in range(number):
            await asyncio.sleep(0.7 + 0.037 * step % 0.4)
            began = time.perf_counter()
            write(TrialEvaluated(0, step, {"rouge_l": 20.0}))
            await reader.readuntil(f'"evaluation": {step},'.encode())
            found.append(time.perf_counter() - began)
    print(f"report to page: median {statistics.median(found):.2f} s, most {max(found):.2f} s")


async def measure_pages(service: Served, write: Callable[[DriverEvent], None], number: int) -> None:
    """Prints what open pages cost in a minute of reports, two a second."""
    before = service.num_open()
    async with AsyncExitStack() as opened:
        readers = [await opened.enter_async_context(page(service)) for _ in range(number)]
        drains = [asyncio.create_task(_drain(reader)) for reader in readers]
        memory, cpu, began = [], service.cpu_s(), time.perf_counter()
        for step in range(120):
            write(TrialEvaluated(0, step, {"rouge_l": 20.0}))
            await asyncio.sleep(0.5)
            memory.append(service.memory_mib())
        share = (service.cpu_s() - cpu) / (time.perf_counter() - began)
        during = service.num_open()
        for one in drains:
            one.cancel()
        await asyncio.gather(*drains, return_exceptions=True)
    await asyncio.sleep(3)
    print(
        f"{number} pages: {share:.0%} of a core; memory {memory[20]:.0f} MiB after 10 s, "
        f"{memory[-1]:.0f} after a minute; open files {before}, {during} with the pages, "
        f"{service.num_open()} after them"
    )


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


def main() -> None:
    """Makes the record, serves it, asks and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=1500, help="of a route and round")
    parser.add_argument("--reports", type=int, default=20)
    parser.add_argument("--pages", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kd-service-") as folder:
        home = Path(folder)
        make_home(home, given.trials)
        sweep = sweeps_folder(home) / plan_of().sweep_id
        sweep.mkdir(parents=True)
        plan_file(sweep).write_text(plan_of().model_dump_json())
        with served(home) as service:
            asyncio.run(measure_answers(service, given.rounds, given.requests))
            with sweep_lock(sweep), driver_log(sweep) as write:
                asyncio.run(measure_news(service, write, given.reports))
                asyncio.run(measure_pages(service, write, given.pages))


if __name__ == "__main__":
    main()
