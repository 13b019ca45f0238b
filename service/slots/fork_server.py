"""A process that has loaded what Ray's workers load, and forks them: each is there in a tenth of
the seconds that a new interpreter takes, and shares the memory.

Run as a script, with the number of a socket that listens. On its standard input come four pickles:
where to import from; a function that loads what needs no Ray; once there is a Ray, the variables
that its raylet gives its workers; and a function that loads what needs it. It ends when its
standard input does, with the process that started it. `service.slots.forked_worker` asks it for
workers.
"""

import gc
import json
import os
import pickle
import runpy
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

LENGTH_BYTES = 4
NUM_STREAMS = 3  # standard input, output and error
FORKED = b"1"


def serve(listener: socket.socket, given: dict[str, str]) -> dict[str, Any] | None:
    """Forks a process for each that asks and has the variables `given`, and returns there what was
    asked for, with its standard streams, environment and folder set. Returns None here when
    standard input has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that end
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return None
        connection, _ = listener.accept()
        with connection:
            asked, streams = receive(connection)
            if asked is not None and given.items() <= asked["environment"].items():
                if os.fork() == 0:
                    _become(asked, streams)
                    return asked
                connection.sendall(FORKED)
        for stream in streams:
            os.close(stream)


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Returns what is asked for and the standard streams that came with it; None when whoever asks
    is gone before all of it came."""
    head, streams, _, _ = socket.recv_fds(connection, LENGTH_BYTES, NUM_STREAMS)
    size, body = int.from_bytes(head, "big"), b""
    while len(body) < size and (part := connection.recv(size - len(body))):
        body += part
    is_whole = len(streams) == NUM_STREAMS and 0 < size == len(body)
    return (json.loads(body) if is_whole else None), streams


def _become(asked: dict[str, Any], streams: list[int]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])


def may_fork() -> bool:
    """Returns whether forked processes would be whole: threads do not live on in them, and what has
    talked to a GPU's driver never can there."""
    return threading.active_count() == 1 and "libcuda.so" not in Path("/proc/self/maps").read_text()


def main() -> None:
    """Loads, then serves; in each forked process goes on as the worker."""
    # As in all of Ray's processes: Ctrl-C is the driver's to deal with.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        sys.path[:] = pickle.load(sys.stdin.buffer)
        pickle.load(sys.stdin.buffer)()
        # Ray's library reads its settings as it is loaded, and in forked processes never again.
        given = pickle.load(sys.stdin.buffer)
        os.environ.update(given)
        pickle.load(sys.stdin.buffer)()
        # What is loaded is no garbage: to walk through it would only copy its pages.
        gc.collect()
        gc.freeze()
        asked = serve(listener, given) if may_fork() else None
    if asked is not None:
        from ray._private.utils import update_envs

        update_envs(asked["variables"])
        sys.argv[:] = asked["arguments"]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
