"""A driver in a process of its own, as a user has it: signals and kills reach it and nothing else.

    python sweep_process.py HOME EVENTS JSON

JSON holds `document` (changes of the tiny sweep), `step_s`, `faults`, `prepare` (real | nothing)
and `disk` (what fails in a real trial, see `FaultyDisk`). Each event becomes a line of EVENTS: its
class and its fields.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.driver.place import Tools

ROOT = Path(__file__).resolve().parents[1]


class SweepProcess:
    """Starts the driver and follows its events."""

    def __init__(
        self,
        home: Path,
        name: str = "events",
        environment: Mapping[str, str] | None = None,
        **order: Any,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._events = home / f"{name}.jsonl"
        self._output = (home / f"{name}.log").open("w")
        path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(home), str(self._events), json.dumps(order)],
            env=os.environ | {"PYTHONPATH": path} | dict(environment or {}),
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The events so far, of one class if it is named."""
        if not self._events.exists():
            return []
        lines = self._events.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [event for event in found if kind in (None, event["event"])]

    def wait_for(self, ready: Callable[[], bool], timeout_s: float = 180.0) -> None:
        """Returns when `ready`; fails with the driver's output when it ends before, or in time."""
        end = time.monotonic() + timeout_s
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the driver ended or is late:\n{self.output()}")
            time.sleep(0.05)

    def wait(self, timeout_s: float = 240.0) -> int:
        """The exit code at the driver's end."""
        return self.process.wait(timeout_s)

    def output(self) -> str:
        """What the driver has printed."""
        self._output.flush()
        return Path(self._output.name).read_text()

    def close(self) -> None:
        """Ends the driver if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._output.close()


def main(home: Path, events: Path, order: dict[str, Any]) -> None:
    """Runs the sweep in this process."""
    from fakes import make_sweep_plan
    from rich.console import Console

    from service.driver.driver import run_at
    from service.driver.place import Place
    from service.signals import StopOnSignal

    plan = make_sweep_plan(**order.get("document", {}))
    uri = order.get("tracking", f"sqlite:///{home}/mlflow.db")
    place = Place(home, uri, order.get("address"), tools_of(order))
    with StopOnSignal(Console().print) as stopper:

        def on_event(event: Any) -> None:
            stopper.install()
            with events.open("a") as file:
                fields = dataclasses.asdict(event)
                file.write(json.dumps({"event": type(event).__name__} | fields, default=str) + "\n")

        run_at(place, plan, on_event=on_event, stop=stopper.stop)


def tools_of(order: dict[str, Any]) -> "Tools":
    """What the order wants to be done in Ray's processes."""
    from fakes import Faults, FaultyDisk, FormulaTrainer, load_nothing, prepare_nothing

    from service.driver.place import Tools

    if "disk" in order:
        return Tools(trainer=FaultyDisk(order["disk"]))
    if order.get("prepare") == "real":
        return Tools()
    faults = Faults(**order.get("faults", {}))
    return Tools(prepare_nothing, FormulaTrainer(order.get("step_s", 0.0), faults), load_nothing)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
