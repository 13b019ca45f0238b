"""The exit code of `.ci/run` with stand-ins for `make` and Docker's engine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ["install", "lint", "test", "test-peers", "test-browser", "test-docker"]


def _script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("failing", [None, *STAGES])
def test_ci_fails_exactly_when_a_stage_fails(tmp_path: Path, failing: str | None) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    _script(tmp_path / "bin" / "make", f'echo "$1" >> stages; [ "$1" != "{failing}" ]')
    _script(tmp_path / "tests" / "docker" / "engine.sh", '[ "$1" = make ] || exit 0; "$@"')
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        [tmp_path / ".ci" / "run"],
        env={**os.environ, "PATH": path, "TMPDIR": str(temporary)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    ran = (tmp_path / "stages").read_text().split()
    assert (ended.returncode == 0) == (failing is None), ended.stderr
    assert ran == (STAGES if failing is None else STAGES[: STAGES.index(failing) + 1])
    assert not any(temporary.iterdir()), "the engine's folder outlived the run"
