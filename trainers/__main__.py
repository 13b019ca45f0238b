"""`python -m trainers trial.json --output DIR`: one trial, without a cluster or a tracking server.

Under torchrun every process is a worker of the trial. Progress goes to stderr; `--json` prints the
result. DIR holds the student, samples.json, examples.parquet, diagnostics.json, result.json and
metrics.jsonl, a line for each report. A trial that read a teacher cache which is not here gets it
built again, in DIR/caches.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from trainers.files.urls import is_url
from trainers.tasks import table
from trainers.teachers.cache import CacheRequest
from trainers.trial.probe import is_diagnostic
from trainers.trial.reporting import Leave, Outcome, TrialResult
from trainers.trial.trial_file import TrialFile

EXIT_BAD_INPUT, EXIT_DIVERGED = 2, 1
METRICS = "metrics.jsonl"


class LineReporter:
    """Writes every report to `file`, and a line per evaluation and each tenth step to stderr.

    stop_after: the step after which the trial leaves as one that was stopped early; None: never.
    """

    def __init__(self, file: Path, stop_after: int | None) -> None:
        self._file, self._stop_after = file, stop_after
        self._step = 0

    def advanced(self, step: int, num_steps: int) -> None:
        """Drops it: steps are shown with their metrics."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keeps the step, shows each tenth; diagnostics are many numbers, and in a file too."""
        self._keep(step, metrics)
        if step % 10 == 0 and not all(map(is_diagnostic, metrics)):
            _say(f"step {step}", metrics)

    def evaluated(self, step: int, evaluation: int, metrics: Mapping[str, float]) -> None:
        """Keeps and shows the evaluation."""
        self._keep(step, metrics)
        _say(f"step {step}, evaluation {evaluation}", metrics)

    def notice(self, text: str) -> None:
        """Shows the text."""
        print(text, file=sys.stderr)

    def reason_to_leave(self) -> Leave:
        """Returns the verdict once the step to stop after is done."""
        is_due = self._stop_after is not None and self._step >= self._stop_after
        return Leave.VERDICT if is_due else Leave.NO

    def _keep(self, step: int, metrics: Mapping[str, float]) -> None:
        self._step = step
        with self._file.open("a") as file:
            file.write(json.dumps({"step": step, "metrics": dict(metrics)}) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Trains the trial and returns the exit code: 0 trained, 1 diverged, 2 wrong input."""
    parser = argparse.ArgumentParser(prog="python -m trainers", description=__doc__)
    parser.add_argument("trial", type=Path, help="trial.json")
    parser.add_argument("--output", type=Path, required=True, help="folder for the student")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--stop-after", type=int, metavar="STEP", help="end early after this step")
    given = parser.parse_args(arguments)
    try:
        trial = TrialFile.read(given.trial)
        result = _run(trial, given.output, given.stop_after)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    if int(os.environ.get("RANK", "0")) == 0:
        _show(result, given.output, as_json=given.json)
    return EXIT_DIVERGED if result.outcome == Outcome.DIVERGED else 0


def _run(trial: TrialFile, output: Path, stop_after: int | None) -> TrialResult:
    import torch
    from torch import distributed as dist

    from trainers.training.run import check_fingerprints, run_trial
    from trainers.world import check_device, leave

    check_device(trial.device)
    check_fingerprints(trial)
    output.mkdir(parents=True, exist_ok=True)
    (output / METRICS).unlink(missing_ok=True)
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    group = None
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if trial.device == "cuda":
            torch.cuda.set_device(local_rank)
        dist.init_process_group("nccl" if trial.device == "cuda" else "gloo")
        group = dist.group.WORLD
    try:
        return run_trial(
            _with_cache(trial, output),
            output,
            reporter=LineReporter(output / METRICS, stop_after),
            rank=rank,
            local_rank=local_rank,
            process_group=group,
        )
    finally:
        if group is not None:
            leave(group)


def _with_cache(trial: TrialFile, output: Path) -> TrialFile:
    """Returns the trial with a cache that is here. Where it has to be built, every worker of the
    trial builds shards that no other one is building."""
    from trainers.teachers.cache_build import build, plan_cache, release

    place = trial.paths.teacher_cache
    is_there = place is not None and (is_url(place) or Path(place).is_dir())
    if trial.teacher_source == "online" or is_there:
        return trial
    task, dtype = table.task_named(trial.config.task), trial.teacher_source.removeprefix("cache:")
    request = CacheRequest.of_trial(trial, task, dtype)
    folder = build(
        plan_cache(request, output.absolute() / "caches"),
        lambda done, of: _say("teacher cache", {"shards": done, "of": of}),
    )
    release()
    paths = trial.paths.model_copy(update={"teacher_cache": str(folder)})
    return trial.model_copy(update={"paths": paths})


def _show(result: TrialResult, output: Path, *, as_json: bool) -> None:
    content = asdict(result) | {"student": result.student and str(result.student)}
    (output / "result.json").write_text(json.dumps(content, indent=2) + "\n")
    if as_json:
        print(json.dumps(content))
        return
    print(f"{result.outcome} after {result.steps} steps; student: {content['student']}")
    for name, value in sorted(result.metrics.items()):
        print(f"  {name:24} {value:.6g}")


def _say(what: str, metrics: Mapping[str, float]) -> None:
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    print(f"{what}: {numbers}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
