"""What the commands for clusters say, against one that only remembers."""

import json
import re

import pytest
from cli_support import call
from fakes import MemoryClient, make_sweep_plan
from typer.testing import Result

from service.actions import cluster as submitting
from service.cluster import dashboard
from service.cluster import job as jobs
from service.cluster.job import JobOrder
from service.events import Notice, TrialEnded, to_line
from service.states import TrialState

PLAN = make_sweep_plan()
THERE = "http://head:8265"
AT = f"--address {THERE}"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> MemoryClient:
    made = MemoryClient()
    monkeypatch.setenv("KD_SWEEP_ADDRESS", THERE)
    monkeypatch.setattr(dashboard, "connect", lambda cluster: made)
    monkeypatch.setattr(submitting, "plan_on_cluster", lambda *_, **__: PLAN)
    return made


def submit(*options: str) -> Result:
    return call("submit", "sweep.yaml", "--yes", *options)


@pytest.mark.parametrize(
    ("status", "exit_code", "said"),
    [
        ("RUNNING", None, "is running. Nothing was submitted now.\n"),
        ("SUCCEEDED", 0, f"is completed. .*kd-sweep extend {PLAN.sweep_id} --trials N {AT}"),
        ("FAILED", 130, f"is cancelled. .*kd-sweep resume {PLAN.sweep_id} {AT}"),
        ("FAILED", 4, f"is failed. .*kd-sweep resume {PLAN.sweep_id} {AT}"),
    ],
)
def test_a_sweep_that_was_submitted_before_is_said_to_be(
    client: MemoryClient, status: str, exit_code: int | None, said: str
) -> None:
    first = submit()
    assert first.exit_code == 0 and "submitted before" not in first.stderr
    client.infos[0].status, client.infos[0].driver_exit_code = status, exit_code
    again = submit()
    assert again.exit_code == 0 and len(client.infos) == 1
    assert re.search(f"its job {PLAN.sweep_id} {said}", again.stderr)
    assert json.loads(submit("--json").stdout)["is_new"] is False


@pytest.fixture
def stopped(client: MemoryClient) -> MemoryClient:
    """A cluster with a sweep that failed, and one that was stopped."""
    jobs.submit(client, JobOrder(plan=make_sweep_plan(name="broken")))
    jobs.submit(client, JobOrder(plan=PLAN))
    failed, cancelled = client.infos
    log = [to_line(Notice("slot 0 starts")), "error: no slot can start its workers"]
    failed.status, failed.message = "FAILED", "Job entrypoint command failed\n" + "\n".join(log)
    cancelled.status, cancelled.driver_exit_code = "FAILED", 130
    cancelled.message = "Job entrypoint command failed with exit code 130, last logs:\n" + log[0]
    client.log = [to_line(TrialEnded(0, TrialState.COMPLETED, 1.0))]
    return client


def test_a_failed_job_stands_beside_others(stopped: MemoryClient) -> None:
    shown = call("status")
    assert shown.exit_code == 0 and "Job entrypoint" not in shown.stdout
    rows = json.loads(call("status", "--json").stdout)
    assert [(row["state"], row["message"]) for row in rows] == [
        ("cancelled", None),
        ("failed", "no slot can start its workers"),
    ]
    one = json.loads(call("status", "tiny", "--json").stdout)
    assert (one["state"], one["trials"]) == ("cancelled", {"completed": 1})
    assert "1 completed" in call("status", PLAN.sweep_id).stdout


def test_a_stop_is_told_in_a_sentence(stopped: MemoryClient) -> None:
    watched = call("watch", "latest")
    assert watched.exit_code == 130
    go_on = f"Go on with: kd-sweep resume {PLAN.sweep_id} {AT}\n"
    assert watched.stderr == f"sweep {PLAN.sweep_id} was stopped. {go_on}"
    failed = call("watch", "broken")
    assert failed.exit_code == 4
    assert failed.stderr.endswith("failed: no slot can start its workers\n")
    stopped.infos[1].status, stopped.infos[1].driver_exit_code = "RUNNING", None
    ended = call("stop", "latest")
    assert (ended.exit_code, ended.stderr) == (0, go_on)


def test_a_trial_is_stopped_and_may_be_trained_again(stopped: MemoryClient) -> None:
    stopped.infos[1].status, stopped.infos[1].driver_exit_code = "RUNNING", None
    ended = call("stop-trial", "latest", "7")
    assert ended.stderr == ("trial 7 is cancelled; train it again with: kd-sweep retry latest 7\n")
    stopped.control = "FAILED"
    refused = call("stop-trial", "latest", "3")
    assert (refused.exit_code, refused.stderr) == (4, "error: trial 3 must be running\n")
