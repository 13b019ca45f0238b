"""What a GPU does while something runs: its kernels, how long it is busy, and a plain product's
rate."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

# How libraries call their kernels of matrix products and attention.
PRODUCTS = ("gemm", "nvjet", "cutlass", "xmma", "gemv", "flash", "fmha", "cudnn")
COPIES = ("Memcpy", "Memset")


@dataclass(frozen=True)
class Kernel:
    """Something that a GPU did; times in seconds."""

    name: str
    start: float
    end: float

    @property
    def kind(self) -> str:
        """products | copies | elementwise."""
        if any(word in self.name.lower() for word in PRODUCTS):
            return "products"
        return "copies" if self.name.startswith(COPIES) else "elementwise"


def longest(kernels: list[Kernel], count: int = 8) -> list[tuple[str, float]]:
    """The kernels that took most, by name, with their seconds."""
    spent: dict[str, float] = {}
    for kernel in kernels:
        spent[kernel.name] = spent.get(kernel.name, 0.0) + kernel.end - kernel.start
    return sorted(spent.items(), key=lambda item: -item[1])[:count]


@contextmanager
def profiled(device: torch.device) -> Iterator[list[Any]]:
    """Fills the list with the events of the block."""
    events: list[Any] = []
    wait(device)
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as made:
        yield events
        wait(device)
    events += made.events() or []


def kernels_of(events: list[Any]) -> list[Kernel]:
    """What the GPU did, in order; ranges of the CPU that the profiler mirrors there are left
    out."""
    of_cpu = {event.name for event in events if event.device_type == DeviceType.CPU}
    found = [
        Kernel(event.name, event.time_range.start / 1e6, event.time_range.end / 1e6)
        for event in events
        if event.device_type == DeviceType.CUDA and event.name not in of_cpu
    ]
    return sorted(found, key=lambda kernel: kernel.start)


def busy_s(kernels: list[Kernel]) -> float:
    """Seconds in which at least one of them ran."""
    total, until = 0.0, 0.0
    for kernel in kernels:
        total += max(0.0, kernel.end - max(kernel.start, until))
        until = max(until, kernel.end)
    return total


@contextmanager
def part(name: str, device: torch.device) -> Iterator[None]:
    """A named range that ends when the GPU is through with it."""
    with record_function(name):
        yield
        wait(device)


def range_of(events: list[Any], name: str) -> tuple[float, float]:
    """Start and end, in seconds, of the one part of that name."""
    (found,) = (e for e in events if e.name == name and e.device_type == DeviceType.CPU)
    return found.time_range.start / 1e6, found.time_range.end / 1e6


def wait(device: torch.device) -> None:
    """Until the GPU has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one square product."""
    size = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(8):
        wait(device)
        started = time.perf_counter()
        a @ b
        wait(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[2:])
