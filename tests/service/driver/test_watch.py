"""What the driver does beside its stages, with a board that only remembers."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import make_sweep_plan

from service.driver.place import Place, Sweep
from service.driver.requests import ask_to_stop, asked_to_stop
from service.driver.watch import Watch
from service.events import SlotsUp, TrialAdvanced
from service.plan.places import sweep_folder
from service.slots.board import BoardStatus


class MemoryBoard:
    """Notes what it is asked for, along with whoever else writes to `calls`."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls
        self.now = status()
        self.status = SimpleNamespace(remote=lambda: self.now)
        self.cancel = SimpleNamespace(remote=lambda trial: calls.append(f"trial {trial} leaves"))
        self.stop = SimpleNamespace(remote=lambda: calls.append("board stops"))
        self.leave_nodes = SimpleNamespace(remote=calls.append)


class MemoryLedger:
    """A ledger that only stops."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def stop(self) -> None:
        self._calls.append("ledger stops")


def status(**changes: Any) -> BoardStatus:
    nothing: dict[str, Any] = {"alive": [], "busy": [], "given_up": {}, "retired": []}
    nothing |= {"num_queued": 0, "is_closed": False, "is_stopped": False}
    return BoardStatus(**nothing | changes)


@pytest.fixture
def calls() -> list[Any]:
    return []


def make_watch(
    calls: list[Any], address: str | None = None, home: Path = Path("/nowhere")
) -> tuple[Watch, threading.Event]:
    """A watch over two slots, and the event of its sweep."""
    place, stop = Place(home, "sqlite://", address), threading.Event()
    sweep = Sweep(place, make_sweep_plan(resources={"slots": 2}), None, calls.append, stop)
    watch = Watch(
        sweep, MemoryBoard(calls), get=lambda value: value, draining_nodes=lambda: {"going"}
    )
    return watch, stop


def test_a_signal_stops_the_ledger_before_the_board(calls: list[Any]) -> None:
    watch, stop = make_watch(calls)
    watch.cover(MemoryLedger(calls))  # type: ignore[arg-type]
    watch.look(status())
    assert calls == []
    stop.set()
    watch.look(status())
    assert calls == ["ledger stops", "board stops"]


def test_a_stop_that_reached_the_board_stops_the_driver(calls: list[Any]) -> None:
    watch, stop = make_watch(calls)
    watch.cover(MemoryLedger(calls))  # type: ignore[arg-type]
    watch.look(status(is_stopped=True))
    assert stop.is_set()
    assert calls == ["ledger stops"], "the board knows already"


def test_a_stop_while_inputs_are_prepared_reaches_a_ledger_that_comes_later(
    calls: list[Any],
) -> None:
    watch, stop = make_watch(calls)
    watch.look(status(is_stopped=True))
    assert stop.is_set(), "there is no ledger yet"
    watch.cover(MemoryLedger(calls))  # type: ignore[arg-type]
    assert calls == ["ledger stops"]


def test_steps_are_shown_by_the_percent(calls: list[Any]) -> None:
    watch, _ = make_watch(calls)
    for step in (1, 2, 3, 5, 5, 200):
        watch.look(status(steps={7: (step, 200)}))
    steps = [event.step for event in calls if isinstance(event, TrialAdvanced)]
    assert steps == [1, 2, 5, 200]
    assert calls[-1] == TrialAdvanced(7, 200, 200)


def test_what_other_processes_ask_for_is_done_once(calls: list[Any], tmp_path: Path) -> None:
    watch, stop = make_watch(calls, home=tmp_path)
    folder = sweep_folder(make_sweep_plan(resources={"slots": 2}), tmp_path)
    folder.mkdir(parents=True)
    request = ask_to_stop(folder, 7)
    watch.look(status())
    watch.look(status())
    assert calls == ["trial 7 leaves"] and not request.exists() and not stop.is_set()
    ask_to_stop(folder)
    watch.look(status())
    assert stop.is_set() and calls[1:] == ["board stops"]
    assert asked_to_stop(folder) == {}


def test_slots_that_cannot_start_end_the_sweep_when_they_are_all(calls: list[Any]) -> None:
    watch, stop = make_watch(calls)
    watch.look(status(given_up={"slot-0": "no such device"}))
    assert watch.problem is None and calls == []
    watch.look(status(given_up={"slot-0": "no such device", "slot-1": "no such device"}))
    assert watch.problem == "no slot can start its workers: no such device"
    assert calls == ["board stops"]
    assert not stop.is_set(), "the user did not stop it"


def test_each_number_of_slots_is_shown_once(calls: list[Any]) -> None:
    watch, _ = make_watch(calls)
    for alive in ([], ["slot-0"], ["slot-0"], ["slot-0", "slot-1"]):
        watch.look(status(alive=alive))
    assert calls == [SlotsUp(1, 2), SlotsUp(2, 2)]


def test_nodes_that_go_are_left_on_a_cluster_only(calls: list[Any]) -> None:
    make_watch(calls)[0].look(status())
    assert calls == []
    make_watch(calls, "auto")[0].look(status())
    assert calls == [{"going"}]


def test_the_thread_looks_until_it_is_closed(calls: list[Any]) -> None:
    watch, stop = make_watch(calls)
    with watch:
        stop.set()
        end = threading.Event()
        for _ in range(100):
            if calls:
                break
            end.wait(0.05)
    assert calls[0] == "board stops"
    seen = len(calls)
    end.wait(0.5)
    assert len(calls) == seen


def test_a_board_that_is_gone_ends_the_waiting_for_slots(calls: list[Any]) -> None:
    watch, _ = make_watch(calls)
    watch._get = lambda value: {}["board"]
    watch.cover(MemoryLedger(calls))  # type: ignore[arg-type]
    watch._run()
    assert watch.problem == "the sweep's board no longer answers: KeyError: 'board'"
    assert calls == ["ledger stops"]
