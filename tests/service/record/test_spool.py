"""The spool with a server that is switched on and off, and a clock that is moved by hand."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.record.entries import Away, Entry, MetricsEntry, Rejected, StateEntry, Unresolved
from service.record.spool import Outbox, SpoolFile, replay_folder


class Server:
    """Keeps what it is given, while it is up; refuses the steps in `refused` for good."""

    def __init__(self) -> None:
        self.is_up = True
        self.taken: list[int] = []
        self.calls = 0
        self.refused: set[int] = set()

    def __call__(self, entries: Sequence[Entry]) -> list[Rejected]:
        self.calls += 1
        if not self.is_up:
            raise Away("no route")
        steps = {one.step: one for one in entries if isinstance(one, MetricsEntry)}
        self.taken += [step for step in steps if step not in self.refused]
        return [Rejected(one, "too long") for step, one in steps.items() if step in self.refused]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def metrics(step: int) -> MetricsEntry:
    return MetricsEntry(run="r", at_ms=step, step=step, metrics={"loss": float("nan")})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(tmp_path: Path, server: Server, clock: Clock) -> Outbox:
    return Outbox(tmp_path / "spool", server, retry_s=5, clock=clock)


def test_what_the_server_takes_leaves_no_file_behind(
    outbox: Outbox, server: Server, tmp_path: Path
) -> None:
    outbox.put(metrics(1))
    outbox.put(metrics(2))
    outbox.cycle()
    assert (server.taken, server.calls) == ([1, 2], 1)
    outbox.put(metrics(3))
    assert outbox.close(1)
    assert server.taken == [1, 2, 3]
    assert not list((tmp_path / "spool").iterdir())


def test_a_replay_that_comes_before_the_lock_takes_no_file_away(
    outbox: Outbox, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, replays = fcntl.flock, []

    def lock(file: Any, how: int) -> None:
        if how == fcntl.LOCK_EX and not replays:
            replays.append(replay_folder(tmp_path / "spool", server))
        flock(file, how)

    monkeypatch.setattr("service.record.spool.fcntl.flock", lock)
    outbox.put(metrics(1))
    assert replays == [0]
    assert len(list((tmp_path / "spool").iterdir())) == 1
    outbox.cycle()
    assert server.taken == [1]


def test_a_killed_process_loses_nothing_that_it_put_in(tmp_path: Path, server: Server) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from service.record.entries import MetricsEntry\n"
        "from service.record.spool import Outbox\n"
        "outbox = Outbox(Path(sys.argv[1]), lambda entries: [])\n"
        "for step in (1, 2):\n"
        "    outbox.put(MetricsEntry(run='r', at_ms=step, step=step, metrics={'loss': 1.0}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert replay_folder(tmp_path, server) == 0
    assert server.taken == [1, 2]


def test_more_than_one_delivery_takes_keeps_its_order(
    outbox: Outbox, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.record.spool.MAX_DELIVERY", 2)
    for step in range(5):
        outbox.put(metrics(step))
    outbox.cycle()
    assert (server.taken, server.calls) == ([0, 1, 2, 3, 4], 3)


def test_an_outage_of_a_week_loses_nothing_and_keeps_the_order(
    outbox: Outbox, server: Server, clock: Clock, tmp_path: Path
) -> None:
    server.is_up = False
    for hour in range(7 * 24):
        clock.now = hour * 3600.0
        outbox.put(metrics(hour))
        outbox.cycle()
    assert len((next((tmp_path / "spool").glob("*.jsonl"))).read_text().splitlines()) == 7 * 24
    server.is_up = True
    clock.now += 10
    outbox.put(metrics(1000))
    outbox.cycle()
    assert server.taken == [*range(7 * 24), 1000]
    assert outbox.is_empty
    outbox.close(1)
    assert not list((tmp_path / "spool").glob("*.jsonl"))


def test_a_server_that_is_away_is_asked_only_now_and_then(
    outbox: Outbox, server: Server, clock: Clock
) -> None:
    server.is_up = False
    for tenth in range(100):
        clock.now = tenth / 10
        outbox.put(metrics(tenth))
        outbox.cycle()
    assert server.calls == 2


def test_what_is_refused_for_good_is_kept_with_its_reason(
    outbox: Outbox, server: Server, tmp_path: Path
) -> None:
    server.refused = {2}
    for step in (1, 2, 3):
        outbox.put(metrics(step))
    outbox.cycle()
    assert server.taken == [1, 3]
    (line,) = (tmp_path / "spool" / "rejected.log").read_text().splitlines()
    assert '"step":2' in line and line.endswith("too long")


def test_closing_spools_what_the_server_does_not_take(
    outbox: Outbox, server: Server, tmp_path: Path
) -> None:
    server.is_up = False
    outbox.put(metrics(1))
    assert not outbox.close(0)
    server.is_up = True
    assert replay_folder(tmp_path / "spool", server) == 0
    assert server.taken == [1]


def test_a_server_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    asked, hanging, taken = threading.Event(), threading.Event(), Server()

    def hang(entries: Sequence[Entry]) -> list[Rejected]:
        asked.set()
        hanging.wait(30)
        return []

    outbox = Outbox(tmp_path, hang, interval_s=0.01)
    outbox.start()
    outbox.put(metrics(1))
    assert asked.wait(30)
    outbox.put(metrics(2))
    assert not outbox.close(0.05)
    assert replay_folder(tmp_path, taken) == 0
    hanging.set()
    assert taken.taken == [1, 2]


def test_a_full_disk_keeps_the_entries_in_memory(
    outbox: Outbox, server: Server, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    server.is_up = False
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        outbox.put(metrics(1))
        outbox.put(metrics(2))
        outbox.cycle()
        assert not outbox.is_empty
        server.is_up, clock.now = True, 100
        outbox.cycle()
        assert server.taken == [1, 2], "a full disk does not hold up a server that answers"
        server.is_up = False
        outbox.put(metrics(3))
        outbox.cycle()
    server.is_up, clock.now = True, 200
    outbox.cycle()
    assert server.taken == [1, 2, 3]


def test_a_line_cut_short_by_the_disk_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, write = SpoolFile(tmp_path), os.write
    spool.append([metrics(1)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
        with pytest.raises(OSError, match="the disk took only a part"):
            spool.append([metrics(2)])
    spool.append([metrics(3)])
    entries, _, _ = spool.first()
    assert [entry.at_ms for entry in entries] == [1, 3]


def test_the_file_of_a_living_writer_is_left_alone(tmp_path: Path, server: Server) -> None:
    living, dead = SpoolFile(tmp_path), SpoolFile(tmp_path)
    living.append([metrics(1)])
    dead.append([metrics(2)])
    dead.release()
    assert replay_folder(tmp_path, server) == 0
    assert server.taken == [2]
    living.release()
    replay_folder(tmp_path, server)
    assert server.taken == [2, 1]


def test_a_run_that_is_not_there_yet_holds_up_only_its_own_file(tmp_path: Path) -> None:
    server = Server()

    def deliver(entries: Sequence[Entry]) -> list[Rejected]:
        if entries[0].at_ms == 1:
            raise Unresolved("trial 1 has not been created yet")
        return server(entries)

    for step in (1, 2):
        spool = SpoolFile(tmp_path)
        spool.append([metrics(step)])
        spool.release()
    assert replay_folder(tmp_path, deliver) == 1
    assert server.taken == [2]
    assert replay_folder(tmp_path, server) == 0
    assert server.taken == [2, 1]


@pytest.mark.parametrize("character", "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e")
def test_an_error_text_with_any_character_keeps_the_final_state(
    tmp_path: Path, character: str
) -> None:
    taken: list[Entry] = []

    def take(entries: Sequence[Entry]) -> list[Rejected]:
        taken.extend(entries)
        return []

    reason = f"no file a{character}b"
    state = StateEntry(run="r", at_ms=1, status="FAILED", tags={"reason": reason})
    writer = SpoolFile(tmp_path)
    writer.append([state])
    writer.release()
    assert replay_folder(tmp_path, take) == 0
    assert taken == [state]
    assert not (tmp_path / "rejected.log").exists()


def test_half_a_character_in_an_error_text_keeps_the_final_state(
    outbox: Outbox, tmp_path: Path
) -> None:
    reason = b"no file \xff".decode(errors="surrogateescape")
    outbox.put(StateEntry(run="r", at_ms=1, status="FAILED", tags={"reason": reason}))
    (kept,) = (tmp_path / "spool").glob("*.jsonl")
    (line,) = kept.read_bytes().split(b"\n")[:-1]
    assert json.loads(line)["tags"]["reason"] == "no file \\udcff"


def test_a_damaged_line_in_the_middle_is_set_aside(
    outbox: Outbox, server: Server, tmp_path: Path
) -> None:
    server.is_up = False
    for step in range(3):
        outbox.put(metrics(step))
    outbox.cycle()
    (path,) = (tmp_path / "spool").glob("*.jsonl")
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b'{"kind": "\xff', *lines[2:]]))
    server.is_up = True
    assert outbox.close(1)
    assert server.taken == [0, 2]
    assert "not an entry" in (tmp_path / "spool" / "rejected.log").read_text()


def test_a_file_that_is_removed_by_hand_is_delivered_all_the_same(
    outbox: Outbox, server: Server, tmp_path: Path
) -> None:
    outbox.put(metrics(1))
    (path,) = (tmp_path / "spool").glob("*.jsonl")
    path.unlink()
    outbox.put(metrics(2))
    assert outbox.close(1)
    assert server.taken == [1, 2]


def test_a_file_that_cannot_be_read_holds_up_no_other(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1.jsonl").mkdir()
    (tmp_path / "2.jsonl").write_bytes(metrics(2).model_dump_json().encode() + b"\n")
    assert replay_folder(tmp_path, server) == 1
    assert server.taken == [2]
    assert "1.jsonl waits, it cannot be read" in caplog.text


def test_the_spool_is_its_owners_alone(outbox: Outbox, tmp_path: Path) -> None:
    outbox.put(metrics(1))
    (path,) = (tmp_path / "spool").glob("*.jsonl")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


LINES = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode(errors="replace")),
    st.builds(
        lambda document: json.dumps(document).encode(),
        st.fixed_dictionaries(
            {"kind": st.sampled_from(["metrics", "state", "run", "file", "text", "x"])},
            optional={
                name: st.none() | st.integers() | st.text(max_size=9) | st.floats()
                for name in ("run", "at_ms", "step", "metrics", "path", "tags", "status", "name")
            },
        ),
    ),
)


@given(lines=st.lists(LINES, max_size=5), at=st.integers(0, 5))
def test_any_file_in_the_spool_is_replayed(lines: list[bytes], at: int) -> None:
    good = metrics(5).model_dump_json().encode()
    lines = [line.replace(b"\n", b" ") for line in lines]
    with TemporaryDirectory() as folder:
        path = Path(folder, "1.jsonl")
        path.write_bytes(b"\n".join([*lines[:at], good, *lines[at:]]))
        server = Server()
        assert replay_folder(Path(folder), server) == 0
        assert server.taken.count(5) == 1
        assert not path.exists()
