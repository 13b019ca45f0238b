"""Commands in processes of their own, as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_module(home: Path, *arguments: str, exits: tuple[int, ...] = (0,)) -> str:
    """Runs `python -m` with these in that home, and returns what it printed; fails where it does
    not exit with one of `exits`."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=os.environ | {"KD_SWEEP_HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode in exits, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def answer_of(home: Path, *arguments: str, exits: tuple[int, ...] = (0,)) -> Any:
    """What a command of kd-sweep answers in JSON."""
    return json.loads(run_module(home, "service", *arguments, "--json", exits=exits))
