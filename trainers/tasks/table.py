"""The tasks by name; no torch. A task is an entry here and a folder beside this file."""

from collections.abc import Mapping

from trainers.parts import Task
from trainers.tasks.causal_lm.task import CausalLm
from trainers.tasks.image_classification.task import ImageClassification
from trainers.trial.metrics import Direction, Metric, directions

_ALL: tuple[Task, ...] = (CausalLm(), ImageClassification())
TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}


def task_named(name: str) -> Task:
    """Returns the task with that name, which a config or request has been checked for."""
    return TASKS[name]


def known_metrics() -> dict[str, Metric]:
    """Returns the metrics of all tasks by name, those that can rank trials first."""
    return {name: one for task in TASKS.values() for name, one in task.metrics.items()}


def known_directions() -> dict[str, Direction]:
    """Returns the metrics of all tasks that can rank trials, with their directions."""
    return {name: way for task in TASKS.values() for name, way in directions(task.metrics).items()}


def beside_rankings(task: str | None = None) -> list[str]:
    """Returns the metrics that are shown beside every ranking, of one task or of all."""
    known = known_metrics() if task is None else task_named(task).metrics
    return [name for name, metric in known.items() if metric.beside_rankings]
