"""What makes the same trial give the same bits: resolved numerics, reset globals, seeds."""

import ctypes
import os
import platform
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainers.trial.fields import Precision

MATMUL_ERROR = 1e-5
PROBE = 256
# What of the numerics a process is set to.
RESOLVED = frozenset({"device", "precision", "threads", "matmul_precision", "deterministic"})
# On a CPU, "medium" products keep code and scratch memory for each new shape, for 1,024 shapes by
# default. Batches differ in shape, so that grows by gigabytes and is hardly ever used again. oneDNN
# reads these variables once, at its first product.
SHAPES_KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "16"}
# glibc's names and numbers: tensors of up to 32 MiB come from the heap, of which 256 MiB are kept.
HEAP_SETTINGS = {"M_MMAP_THRESHOLD": (-3, 32 << 20), "M_TRIM_THRESHOLD": (-1, 256 << 20)}


def resolve(device: str, precision: Precision, threads: int) -> dict[str, Any]:
    """Returns the numerics that a trial on this machine uses, to be written into its `trial.json`:
    device and its name, precision (float32 | bfloat16), matmul_precision, threads, deterministic,
    and the instruction set torch uses. "medium" float32 products are taken where they are still
    exact to 1e-5."""
    resolved = precision
    if precision == Precision.AUTO:
        resolved = Precision.BFLOAT16 if device == "cuda" else Precision.FLOAT32
    return {
        "device": device,
        "device_name": _device_name(device),
        "precision": str(resolved),
        "matmul_precision": _matmul_precision(device),
        "threads": threads,
        "deterministic": True,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def completed(given: dict[str, Any], device: str, precision: Precision) -> dict[str, Any]:
    """Returns a trial's numerics with what they leave open as `resolve` finds it here, on one
    thread; they leave nothing open where `resolve` made them."""
    if RESOLVED <= given.keys():
        return given
    return resolve(device, precision, 1) | given


def apply(numerics: dict[str, Any]) -> None:
    """Sets this process to `numerics` (what `resolve` returned, perhaps on another machine)."""
    # cuBLAS reads this when its first handle is made; without it deterministic mode refuses matmuls
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _bound_memory()
    keep_freed_memory()
    torch.set_num_threads(numerics["threads"])
    torch.set_float32_matmul_precision(numerics["matmul_precision"])
    torch.use_deterministic_algorithms(numerics["deterministic"])
    # filling every new tensor with NaN finds bugs, but costs a pass over memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_freed_memory() -> bool:
    """Makes the C library keep the memory that tensors free; returns whether it does (glibc only).
    Otherwise it returns megabytes to the system after each operation, and the next one waits until
    they are zeroed again: up to half of the time of an elementwise loss on a CPU."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and all(mallopt(*pair) for pair in HEAP_SETTINGS.values())


def autocast(numerics: dict[str, Any]) -> torch.autocast:
    """Returns the autocast context of the resolved precision; it does nothing for float32."""
    return torch.autocast(
        numerics["device"], torch.bfloat16, enabled=numerics["precision"] == Precision.BFLOAT16
    )


def weights_dtype(numerics: dict[str, Any], own: str | None = None) -> torch.dtype:
    """Returns the dtype that a frozen model is kept and computes in: `own` where it has one."""
    dtype: torch.dtype = getattr(torch, own or numerics["precision"])
    return dtype


def seed_all(*parts: int) -> None:
    """Seeds Python, NumPy and torch from `parts` (for example trial seed and rank)."""
    words = np.random.SeedSequence(parts).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


@dataclass(frozen=True)
class GlobalState:
    """The global switches that a trial could leave changed for the next one in the same process."""

    environment: dict[str, str]
    folder: str
    dtype: torch.dtype
    device: torch.device
    mkldnn: bool
    cudnn_benchmark: bool

    @classmethod
    def capture(cls) -> "GlobalState":
        """Returns the current state: to be taken once, after the imports and before the first
        trial."""
        return cls(
            environment=dict(os.environ),
            folder=os.getcwd(),
            dtype=torch.get_default_dtype(),
            device=torch.get_default_device(),
            mkldnn=bool(torch.backends.mkldnn.enabled),
            cudnn_benchmark=torch.backends.cudnn.benchmark,
        )

    def restore(self) -> None:
        """Sets everything back, and turns gradients on and anomaly detection off."""
        # only where it differs: for a moment it is empty, and other threads may read it
        if dict(os.environ) != self.environment:
            os.environ.clear()
            os.environ.update(self.environment)
        os.chdir(self.folder)
        torch.set_default_dtype(self.dtype)
        torch.set_default_device(None if self.device.type == "cpu" else self.device)
        torch.backends.mkldnn.set_flags(self.mkldnn)  # type: ignore[no-untyped-call]
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        torch.set_grad_enabled(True)
        torch.autograd.set_detect_anomaly(False)


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()


def _bound_memory() -> None:
    for name, value in SHAPES_KEPT.items():
        os.environ.setdefault(name, value)


def _matmul_precision(device: str) -> str:
    """Returns "medium" where products of that precision are exact to `MATMUL_ERROR`, else
    "highest": some CPUs and every GPU round the factors under "medium"."""
    _bound_memory()  # this product may be the process's first
    before = torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(PROBE, PROBE, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    try:
        torch.set_float32_matmul_precision("medium")
        product = (a.to(device) @ b.to(device)).double().cpu()
    finally:
        torch.set_float32_matmul_precision(before)
    error = ((product - exact).norm() / exact.norm()).item()
    return "medium" if error <= MATMUL_ERROR else "highest"
