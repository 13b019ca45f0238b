"""A real MLflow server on this machine, for tests that take it away."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from records_support import make_store

START_S = 120


class Server:
    """`mlflow server` on a free port of this machine, which can be killed and started again; of a
    store that is there, or of a fresh one in `folder`."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.folder = folder
        self.store = make_store(folder) if store is None else store
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--backend-store-uri", self.store, "--port", str(self.port)]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + START_S
        while not self.answers():
            assert time.monotonic() < end, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None
