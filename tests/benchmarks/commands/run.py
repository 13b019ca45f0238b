"""CPU seconds of commands (the process, system time and its children included), beside those of
`import mlflow` in the same rounds.

Usage: python tests/benchmarks/commands/run.py [--trials N] [--rounds N]
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from many_trials import make_home  # noqa: E402  # path above
from mlflow_server import Server  # noqa: E402  # path above

SERVICE = (sys.executable, "-m", "service")
NOTHING = {
    "kd-sweep --help": 0,
    "kd-sweep --version": 0,
    "kd-sweep best --topp 3": 2,
    "kd-sweep best --metric rouge_ll": 2,
    "kd-sweep best --where tua=2": 2,
    "kd-sweep schema": 0,
    "kd-sweep presets": 0,
}
"""Commands that read no record, and how they exit."""
QUESTIONS = (
    "kd-sweep sweeps",
    "kd-sweep trials latest",
    "kd-sweep best",
    "kd-sweep compare latest/1 latest/2",
)
STATUS = "kd-sweep status latest"  # of a sweep of this machine
FEW = 20


@dataclass(frozen=True, eq=False)
class Case:
    """A command, where it asks, and its exit code."""

    command: str
    place: str
    environment: Mapping[str, str]
    exits: int = 0

    def seconds(self) -> float:
        """CPU seconds of one run."""
        argv = shlex.split(self.command)
        argv = [*SERVICE, *argv[1:]] if argv[0] == "kd-sweep" else [sys.executable, *argv[1:]]
        process = subprocess.Popen(
            argv,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        complaints = process.stderr.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        assert process.returncode == self.exits, f"{self.command}: {complaints}"
        return used.ru_utime + used.ru_stime


def plans(room: Path) -> Iterator[Case]:
    """The plan of the starter: in a home that is empty each time, and in one that has planned."""
    starter = room / "starter.yaml"
    text = subprocess.run([*SERVICE, "init"], capture_output=True, check=True, cwd=ROOT).stdout
    starter.write_bytes(text)
    yield Case(f"kd-sweep plan {starter}", "empty home", {"KD_SWEEP_HOME": str(room / "empty")})
    known = {"KD_SWEEP_HOME": str(room / "planned")}
    yield Case(f"kd-sweep plan {starter}", "home with a plan", known)


def questions(place: str, environment: Mapping[str, str], more: Sequence[str] = ()) -> list[Case]:
    """All that is asked of one record."""
    return [Case(command, place, environment) for command in (*QUESTIONS, *more)]


def measure(cases: Sequence[Case], room: Path, rounds: int) -> dict[Case, list[float]]:
    """CPU seconds of each case in each round, after one round that is not counted."""
    found: dict[Case, list[float]] = {case: [] for case in cases}
    for number in range(rounds + 1):
        for case in cases:
            subprocess.run(["rm", "-rf", str(room / "empty")], check=True)
            seconds = case.seconds()
            if number:
                found[case].append(seconds)
    return found


def report(found: Mapping[Case, Sequence[float]], peer: Case) -> None:
    """Prints the medians as the rows of the README."""
    base = statistics.median(found[peer])
    print("| command | asked of | CPU s | ÷ import mlflow |\n|---|---|---|---|")
    for case, seconds in found.items():
        command = "kd-sweep plan" if " plan " in case.command else case.command
        cpu = statistics.median(seconds)
        print(f"| `{command}` | {case.place} | {cpu:.2f} | {cpu / base:.2f} |")


def main() -> None:
    """Makes the records, asks and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="of the large record")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kd-commands-") as folder:
        room = Path(folder)
        nowhere = {"KD_SWEEP_HOME": str(room / "nowhere")}
        peer = Case('python -c "import mlflow"', "–", {})
        cases = [peer, *(Case(text, "–", nowhere, code) for text, code in NOTHING.items())]
        cases += plans(room)
        servers: list[Server] = []
        try:
            for number in (FEW, given.trials):
                home = room / f"{number}"
                servers.append(Server(home, make_home(home, number)))
                servers[-1].start()
                there = {**nowhere, "MLFLOW_TRACKING_URI": servers[-1].uri}
                here = {"KD_SWEEP_HOME": str(home)}
                cases += questions(f"{number:,} trials, SQLite", here, [STATUS])
                cases += questions(f"{number:,} trials, server", there)
            report(measure(cases, room, given.rounds), peer)
        finally:
            for server in servers:
                server.kill()


if __name__ == "__main__":
    main()
