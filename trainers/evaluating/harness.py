"""Tasks of lm-evaluation-harness on a finished student's folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainers.nearest import nearest

INSTALL = "pip install 'kd-sweep[harness]'"
SHOWN_OF_SAMPLE = ("doc", "target", "filtered_resps")


@dataclass(frozen=True)
class TaskScores:
    """What a student scores on one task: metrics by name (`acc`, `acc_stderr`, with the filter
    behind a dot where there is one), over so many examples; samples: each example with the
    student's answers."""

    metrics: dict[str, float]
    num_examples: int
    samples: list[dict[str, Any]]


def check_tasks(names: Sequence[str], include: Path | None) -> None:
    """Raises `ValueError` where the harness is not installed, and for a name that is no task of it
    or of the folder `include`."""
    known = _manager(include).all_tasks
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise ValueError(
            f"--harness: must be a task of lm-eval, or of --harness-tasks, but got '{unknown}'."
            f"{nearest(unknown, known)} `lm-eval ls tasks` lists them."
        )


def score_task(
    name: str, student: Path, *, include: Path | None, device: str, trust: bool
) -> TaskScores:
    """Returns the scores of the Hugging Face model in the folder `student`, as the task asks for
    them (number of shots, prompts and metrics are its own). Raises as `check_tasks`, and
    `ValueError` where the task's data cannot be loaded."""
    manager = _manager(include)
    from lm_eval import simple_evaluate

    try:
        found: Any = simple_evaluate(
            model="hf",
            model_args={"pretrained": str(student), "trust_remote_code": trust},
            tasks=[name],
            device=device,
            batch_size=8,
            task_manager=manager,
            bootstrap_iters=0,
        )
    except Exception as error:  # tasks are code of others: data sets, templates, metrics
        raise ValueError(f"--harness {name}: could not be run: {error}.") from error
    return task_scores(name, found)


def task_scores(name: str, found: Any) -> TaskScores:
    """Returns the scores in what the harness returned."""
    metrics = {
        _plain(metric): float(value)
        for metric, value in found["results"][name].items()
        if isinstance(value, int | float) and "," in metric
    }
    samples = found.get("samples", {}).get(name, [])
    counts = found.get("n-samples", {})
    num_examples = sum(int(one["effective"]) for one in counts.values())
    shown = [{part: one.get(part) for part in SHOWN_OF_SAMPLE} for one in samples]
    return TaskScores(metrics, num_examples, json.loads(json.dumps(shown, default=str)))


def _plain(metric: str) -> str:
    """`acc,none` is `acc`; `exact_match,strict-match` is `exact_match.strict-match`."""
    name, _, way = metric.partition(",")
    return name if way == "none" else f"{name}.{way}"


@lru_cache(maxsize=1)  # it reads thousands of files
def _manager(include: Path | None) -> Any:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ValueError(
            f"--harness: needs lm-evaluation-harness, but got: {error}. {INSTALL}"
        ) from error
    return TaskManager(include_path=None if include is None else str(include))
