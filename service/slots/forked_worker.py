"""What a raylet runs to start a worker, in place of Ray's own script: it has the fork server make
one, and does as Ray does where that cannot be.

Run as a script, and small: whatever it imports, each worker waits for.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

SOCKET = "forks"  # in the folder that Ray has for its sockets and logs
LENGTH_BYTES = 4
STREAMS = (0, 1, 2)


def request(arguments: list[str]) -> dict[str, Any] | None:
    """Returns what the fork server is to make of a raylet's arguments, None where the worker must
    be a new process: its runtime environment asks for a command or an interpreter of its own."""
    options = dict(one.removeprefix("--").partition("=")[::2] for one in arguments)
    context = json.loads(options.get("serialized-runtime-env-context") or "{}")
    executable = context.get("py_executable") or sys.executable
    if context.get("command_prefix") or context.get("override_worker_entrypoint"):
        return None
    if options.get("language") != "PYTHON" or executable != sys.executable:
        return None
    own = ("--serialized-runtime-env-context=", "--language=", "-s", "-S")
    return {
        "arguments": [one for one in arguments if not one.startswith(own)],
        "variables": context.get("env_vars") or {},
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
    }


def ask(path: Path, asked: dict[str, Any]) -> bool:
    """Asks the fork server that listens at `path`; returns whether it has forked the worker."""
    body = json.dumps(asked).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
            socket.send_fds(connection, [len(body).to_bytes(LENGTH_BYTES, "big")], STREAMS)
            connection.sendall(body)
            return bool(connection.recv(1))
        except OSError:
            return False


def main() -> None:
    """Has the worker made."""
    arguments = sys.argv[1:]
    worker = next(one for one in arguments if not one.startswith("-"))
    folder = next(one for one in arguments if one.startswith("--temp-dir=")).partition("=")[2]
    asked = request(arguments)
    if asked is None or not ask(Path(folder) / SOCKET, asked):
        rays_own = str(Path(worker).with_name("setup_worker.py"))
        os.execv(sys.executable, [sys.executable, rays_own, *arguments])


if __name__ == "__main__":
    main()
