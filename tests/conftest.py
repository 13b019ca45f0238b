"""What every test stands on: a home of its own, no network, one thread a process.

The environment is set when this file is imported, before anything imports torch or Ray; child
processes inherit it.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Short on purpose: Ray puts sockets below it, whose paths may have 107 characters.
ROOM = Path(tempfile.mkdtemp(prefix="kd-"))
DEFAULT_HOME = ROOM / "user" / ".kd-sweep"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

ENVIRONMENT = {
    "HOME": str(ROOM / "user"),
    "KD_SWEEP_HOME": str(ROOM / "home"),
    "HF_HOME": str(ROOM / "huggingface"),
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "RAY_TMPDIR": str(ROOM),
    "RAY_USAGE_STATS_ENABLED": "0",
}
# What a user may have set for work, and what would change the outcome of a test.
UNSET = (
    "COLUMNS",
    "KD_SWEEP_ADDRESS",
    "KD_SWEEP_PROFILE",
    "KD_SWEEP_SERVER",
    "KD_SWEEP_STORAGE",
    "KD_SWEEP_STUDY_URL",
    "KD_SWEEP_TOKEN",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
)

os.environ.update(ENVIRONMENT)
for name in UNSET:
    os.environ.pop(name, None)
(ROOM / "user").mkdir()
atexit.register(shutil.rmtree, ROOM, ignore_errors=True)


# FUZZ_EXAMPLES=10000 looks further than every run can, and elsewhere each time; without it a run
# repeats itself. Seconds are bounded to find what hangs.
settings.register_profile(
    "kd-sweep",
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "300")),
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=5000,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("kd-sweep")


@pytest.fixture(autouse=True)
def kd_sweep_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This test's home folder of the project, not made yet; fails a write to the default one."""
    home = tmp_path / "kd-sweep-home"
    monkeypatch.setenv("KD_SWEEP_HOME", str(home))
    yield home
    # Libraries set some of them too, such as MLflow where it is told of a store.
    for name in UNSET:
        os.environ.pop(name, None)
    if DEFAULT_HOME.exists():
        shutil.rmtree(DEFAULT_HOME)
        pytest.fail("the test wrote to ~/.kd-sweep although KD_SWEEP_HOME names another folder")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; skips where it is absent."""
    if not DATA.is_dir():
        pytest.skip("needs the real data in ../shared/data, which is not beside this checkout")
    return DATA
