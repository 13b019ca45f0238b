"""Time and memory of the fused loss against its plain form and public implementations.

    python tests/benchmarks/losses/run.py [memory | time | rows | few] [--rounds 5]

CPU seconds of one thread, variants interleaved in one process, ratios taken round by round,
medians. Memory: a fresh process each, the resident peak over the step less what was there before
it. On a CUDA device the same with its clock (of GPU_REPEATS steps) and allocator, in bfloat16.
`--only` keeps to the variants or rows with this regular expression, `--set FIELD NUMBER` gives rows
a further field. Peers that are not installed or
fail are left out.
"""

import argparse
import json
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cases
import torch

from trainers.numerics import keep_freed_memory, resolve
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision

MIB = 1 << 20
GPU_REPEATS, FEW_REPEATS = 10, 8
BOUNDS_TIME = {
    ("jsd fused", "jsd plain"): (0.52, 0.40),
    ("jsd fused", "jsd trl"): (0.45, 0.34),
    ("jsd fused", "jsd trl chunked"): (0.65, 0.50),
    ("jsd fused", "jsd liger"): (0.65, 0.50),
    ("jsd fused", "jsd liger triton"): (1.0, 1.0),
    ("forward_kl fused", "forward_kl plain"): (0.85, 0.70),
    ("forward_kl fused", "forward_kl trl chunked"): (0.85, 0.70),
}
BOUNDS_MEMORY = {
    ("jsd fused", "jsd plain"): 0.10,
    ("forward_kl fused", "forward_kl plain"): 0.20,
    ("jsd fused", "jsd trl"): 0.09,
}
BOUND_MATMULS, BOUND_GROWTH = 1.35, 1.2
MEASURED_MEMORY = (
    "jsd fused",
    "jsd plain",
    "jsd trl",
    "jsd trl chunked",
    "jsd liger",
    "jsd liger triton",
    "forward_kl fused",
    "forward_kl plain",
    "forward_kl trl chunked",
)


def main() -> None:
    """Runs the sections that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "section", nargs="?", choices=("all", "time", "rows", "few", "memory"), default="all"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--rows-positions", type=int, default=256)
    parser.add_argument(
        "--only", default="", help="variants, or divergence:policy, with this pattern"
    )
    parser.add_argument(
        "--set", nargs=2, action="append", default=[], metavar=("FIELD", "NUMBER"), help="of rows"
    )
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "POSITIONS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    # For all variants, as in a trial: products as fast as this machine makes them without rounding
    # their factors, and memory that is freed kept.
    numerics = resolve(device(), Precision.AUTO, 1)
    torch.set_float32_matmul_precision(numerics["matmul_precision"])
    keep_freed_memory()
    if given.one:
        print(json.dumps(peak_of(given.one[0], int(given.one[1]))))
        return
    print(machine())
    if given.section in ("all", "memory"):
        memory()
    if given.section in ("all", "time"):
        times(given.rounds, given.positions, given.only)
    if given.section in ("all", "rows"):
        fields = {name: float(number) for name, number in given.set}
        rows(given.rounds, given.rows_positions, given.only, **fields)
    if given.section in ("all", "few"):
        few(given.rounds, given.only)


def device() -> str:
    """Returns cuda where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype() -> torch.dtype:
    """Returns what the device is for: bfloat16 on a GPU, float32 on a CPU."""
    return torch.bfloat16 if device() == "cuda" else torch.float32


def machine() -> str:
    """Returns a line that says where this ran, and how exact its matrix products are."""
    first = torch.randn(256, 512)
    exact = (first.double() @ first.double().T).float()
    error = float(((first @ first.T) - exact).norm() / exact.norm())
    name = torch.cuda.get_device_name() if device() == "cuda" else processor()
    return f"{name}, torch {torch.__version__}, {dtype()}; CPU matmul error {error:.1e}"


def processor() -> str:
    """Returns the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def seconds(step: cases.Step) -> float:
    """Returns the CPU seconds of a step, or the GPU's from its first call to its last."""
    if device() == "cpu":
        started = time.process_time()
        step()
        return time.process_time() - started
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(GPU_REPEATS):
        step()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000 / GPU_REPEATS


def interleaved(steps: dict[str, cases.Step], rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each step in each round; each must have run once before."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    order = random.Random(0)  # what runs before a step tells on it
    for _ in range(rounds):
        for name in order.sample(list(steps), len(steps)):
            taken[name].append(seconds(steps[name]))
    return taken


def ratio(taken: dict[str, list[float]], name: str, other: str) -> tuple[float, float, float]:
    """Returns median, smallest and largest ratio over the rounds."""
    found = [a / b for a, b in zip(taken[name], taken[other], strict=True)]
    return statistics.median(found), min(found), max(found)


def made(makers: dict[str, Callable[[], cases.Step]]) -> dict[str, cases.Step]:
    """Returns the steps of what is installed and can run here, each run once."""
    steps = {}
    for name, maker in makers.items():
        if "triton" in name and device() == "cpu":
            continue
        try:
            step = maker()
            step()
        except Exception as error:  # a peer may raise anything; without it the rest still tells
            print(f"   {name}: left out ({type(error).__name__}: {error})")
        else:
            steps[name] = step
    return steps


def times(rounds: int, positions: int, only: str) -> None:
    """Prints the time table of the two main losses."""
    size = cases.with_positions(cases.GPT2, positions)
    widths = f"{size.student_width}/{size.teacher_width}"
    print(f"\n## time: V={size.vocab}, N={size.positions}, d={widths}, {rounds} rounds")
    inputs = cases.Inputs(size, device(), dtype())
    makers = cases.variants(inputs)
    chosen = {
        name: maker for name, maker in makers.items() if re.search(only, name) or name == "matmuls"
    }
    taken = interleaved(made(chosen), rounds)
    print("| variant | s | of the matmuls |\n|---|---|---|")
    for name, spent in taken.items():
        of_matmuls = ratio(taken, name, "matmuls")[0]
        print(f"| {name} | {statistics.median(spent):.4g} | {of_matmuls:.2f} |")
    print("\n| ratio | median (min-max) | gate | goal | |\n|---|---|---|---|---|")
    for (name, other), (gate, goal) in BOUNDS_TIME.items():
        if name not in taken or other not in taken:
            continue
        middle, low, high = ratio(taken, name, other)
        verdict = "goal" if middle <= goal else "gate" if middle <= gate else "MISSED"
        shown = f"{middle:.2f} ({low:.2f}-{high:.2f})"
        print(f"| {name} / {other} | {shown} | {gate} | {goal} | {verdict} |")


def rows(rounds: int, positions: int, only: str, **fields: float) -> None:
    """Prints each row with each policy against its matmuls and its plain form; `fields` are those
    of every loss."""
    size = cases.with_positions(cases.GPT2, positions)
    print(f"\n## rows: V={size.vocab}, N={size.positions}, {rounds} rounds")
    print("| divergence | policy | of its matmuls (min-max) | of its plain form | |")
    print("|---|---|---|---|---|")
    inputs = cases.Inputs(size, device(), dtype())
    for divergence, traits in DIVERGENCES.items():
        for policy in sorted(traits.policies):
            if not re.search(only, f"{divergence}:{policy}"):
                continue
            config = cases.config_of(divergence, policy, **fields)
            taken = interleaved(made(row_makers(inputs, config)), rounds)
            floor, low, high = ratio(taken, "fused", "matmuls")
            plain = ratio(taken, "fused", "plain")[0]
            verdict = "ok" if floor <= BOUND_MATMULS and plain <= 1 else "MISSED"
            shown = f"{floor:.2f} ({low:.2f}-{high:.2f})"
            print(f"| {divergence} | {policy} | {shown} | {plain:.2f} | {verdict} |", flush=True)


def few(rounds: int, only: str) -> None:
    """Prints what all rows and policies take of their plain form where a batch has few logits:
    walked in chunks, and as a trial would."""
    print(f"\n## few logits: {rounds} rounds; smallest, median, largest of all rows × policies")
    print("| V | N | walked / plain | as chosen / plain |\n|---|---|---|---|")
    for size in cases.FEW:
        inputs = cases.Inputs(size, device(), dtype())
        found: dict[str, list[float]] = {"walked": [], "chosen": []}
        for divergence, traits in DIVERGENCES.items():
            for policy in sorted(traits.policies):
                if not re.search(only, f"{divergence}:{policy}"):
                    continue
                config = cases.config_of(divergence, policy)
                ways = {"walked": True, "chosen": None, "plain": False}
                steps = {
                    name: repeated(cases.ours(inputs, config, fused=way))
                    for name, way in ways.items()
                }
                interleaved(steps, 1)
                taken = interleaved(steps, rounds)
                for name, ratios in found.items():
                    ratios.append(ratio(taken, name, "plain")[0])
        shown = (f"{min(r):.2f}, {statistics.median(r):.2f}, {max(r):.2f}" for r in found.values())
        print(f"| {size.vocab} | {size.positions} | {' | '.join(shown)} |", flush=True)


def repeated(step: cases.Step) -> cases.Step:
    """Returns FEW_REPEATS steps as one, so that what ran before it does not show."""

    def steps() -> None:
        for _ in range(FEW_REPEATS):
            step()

    return steps


def row_makers(inputs: cases.Inputs, config: TrialConfig) -> dict[str, Callable[[], cases.Step]]:
    """Returns the three ways of a row, made when called; "fused" is what a trial takes, the plain
    form itself where positions are few."""
    return {
        "matmuls": lambda: cases.matmuls(inputs, config),
        "fused": lambda: cases.ours(inputs, config, fused=None),
        "plain": lambda: cases.ours(inputs, config, fused=False),
    }


def peak_of(variant: str, positions: int) -> float:
    """Returns the MiB that one step of a variant adds at its peak, gradients included."""
    inputs = cases.Inputs(cases.with_positions(cases.QWEN, positions), device(), dtype())
    # Memory that a check would free is kept, and would hide the step's.
    step = cases.variants(inputs, check=False)[variant]()
    if device() == "cuda":
        step()  # the libraries' own workspaces are not the loss's
        inputs.clear()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status_kib("VmRSS")
    step()
    return (status_kib("VmHWM") - before) / 1024


def status_kib(field: str) -> int:
    """Returns a figure of this process's memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status must name {field}, but got none")


def in_a_fresh_process(variant: str, positions: int) -> float | None:
    """Returns the variant's peak in MiB, or None where it cannot run."""
    command = [sys.executable, __file__, "--one", variant, str(positions)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"   {variant}: left out ({(done.stderr.strip() or 'no message').splitlines()[-1]})")
        return None
    return float(json.loads(done.stdout.splitlines()[-1]))


def memory() -> None:
    """Prints the memory table."""
    size = cases.QWEN
    print(f"\n## memory: V={size.vocab}, d={size.student_width}/{size.teacher_width}")
    print("| variant | N | peak MiB |\n|---|---|---|")
    peaks: dict[str, float] = {}
    for name in MEASURED_MEMORY:
        if "triton" in name and device() == "cpu":
            continue
        peak = in_a_fresh_process(name, size.positions)
        if peak is not None:
            peaks[name] = peak
            print(f"| {name} | {size.positions} | {peak:.0f} |", flush=True)
    longer = in_a_fresh_process("jsd fused", 4 * size.positions)
    if longer is not None:
        print(f"| jsd fused | {4 * size.positions} | {longer:.0f} |")
    print("\n| ratio | | bound | |\n|---|---|---|---|")
    found = {
        f"{name} / {other}": (peaks[name] / peaks[other], bound)
        for (name, other), bound in BOUNDS_MEMORY.items()
        if name in peaks and other in peaks
    }
    if longer is not None and "jsd fused" in peaks:
        found["jsd fused, N 4096 / N 1024"] = (longer / peaks["jsd fused"], BOUND_GROWTH)
    for name, (value, bound) in found.items():
        print(f"| {name} | {value:.3f} | {bound} | {'ok' if value <= bound else 'MISSED'} |")


if __name__ == "__main__":
    main()
