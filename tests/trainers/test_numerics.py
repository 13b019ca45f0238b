"""Resolved numerics, and globals that a trial cannot leave changed."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainers import numerics
from trainers.numerics import GlobalState
from trainers.trial.fields import Precision


def test_a_cpu_resolves_to_exact_products() -> None:
    before = torch.get_float32_matmul_precision()
    resolved = numerics.resolve("cpu", Precision.AUTO, 1)
    assert torch.get_float32_matmul_precision() == before
    assert resolved["precision"] == "float32"
    assert resolved["threads"] == 1 and resolved["deterministic"] is True
    # whatever it chose must be exact: that is the whole rule
    torch.set_float32_matmul_precision(resolved["matmul_precision"])
    a, b = torch.randn(200, 300), torch.randn(300, 100)
    exact = a.double() @ b.double()
    assert ((a @ b).double() - exact).norm() / exact.norm() < 1e-5
    torch.set_float32_matmul_precision(before)


def test_medium_is_not_taken_where_it_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "MATMUL_ERROR", 1e-12)
    assert numerics.resolve("cpu", Precision.AUTO, 1)["matmul_precision"] == "highest"


def test_a_named_precision_is_kept() -> None:
    assert numerics.resolve("cpu", Precision.BFLOAT16, 1)["precision"] == "bfloat16"


def test_autocast_follows_the_precision() -> None:
    for precision, dtype in (
        (Precision.FLOAT32, torch.float32),
        (Precision.BFLOAT16, torch.bfloat16),
    ):
        resolved = numerics.resolve("cpu", precision, 1)
        with numerics.autocast(resolved):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
        assert numerics.weights_dtype(resolved) == dtype


def test_applying_sets_what_was_resolved() -> None:
    resolved = numerics.resolve("cpu", Precision.AUTO, 1)
    numerics.apply(resolved)
    assert torch.get_num_threads() == 1
    assert torch.get_float32_matmul_precision() == resolved["matmul_precision"]
    assert torch.are_deterministic_algorithms_enabled()


def test_everything_a_trial_can_leave_changed_is_set_back(tmp_path: Path) -> None:
    clean = GlobalState.capture()
    os.environ["LEFT_BEHIND"] = "1"
    os.environ.pop("HF_HUB_OFFLINE", None)
    os.chdir(tmp_path)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    torch.autograd.set_detect_anomaly(True)
    torch.backends.cudnn.benchmark = not clean.cudnn_benchmark
    assert GlobalState.capture() != clean
    clean.restore()
    assert GlobalState.capture() == clean
    assert torch.is_grad_enabled() and not torch.is_anomaly_enabled()
    assert torch.zeros(1).device.type == "cpu" and torch.zeros(1).dtype == torch.float32


def test_seeds_of_several_parts_differ_in_each() -> None:
    drawn = set()
    for parts in ((0, 0), (0, 1), (1, 0), (1, 1)):
        numerics.seed_all(*parts)
        drawn.add(torch.rand(1).item())
    assert len(drawn) == 4
    numerics.seed_all(0, 0)
    assert torch.rand(1).item() in drawn


FAULTS = """
import resource, torch
from trainers.numerics import keep_freed_memory
assert keep_freed_memory()
def work():
    for _ in range(20):
        torch.exp(torch.ones(1 << 20)) + torch.ones(1 << 20)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_of_freed_tensors_is_used_again() -> None:
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # pages; 20 times 12 MiB are 60,000


def test_numerics_that_leave_something_open_are_completed() -> None:
    complete = numerics.resolve("cpu", Precision.AUTO, 1)
    assert numerics.completed({}, "cpu", Precision.AUTO) == complete
    found = numerics.completed({"threads": 2}, "cpu", Precision.BFLOAT16)
    assert found == complete | {"threads": 2, "precision": "bfloat16"}
    numerics.apply(found)
    whole = complete | {"threads": 3, "cpu_capability": "another machine's"}
    assert numerics.completed(whole, "cpu", Precision.BFLOAT16) is whole
