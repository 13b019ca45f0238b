"""What a trial starts from: its data, its student's first weights, and what is kept of both for the
next trial of the process."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from trainers import numerics as numerics_of
from trainers.numerics import GlobalState
from trainers.parts import Data, TaskRuntime
from trainers.students.folders import is_adapter
from trainers.tasks import table
from trainers.training.student import StudentWithLoss
from trainers.trial.adapters import Adapter, adapter_of
from trainers.trial.seen import Seen
from trainers.trial.trial_file import TrialFile
from trainers.world import World

Kept = TypeVar("Kept")


@dataclass
class KeptBetweenTrials:
    """What a process keeps from one trial to the next: opened data, teacher, the student's start;
    one of each kind. Made before the first trial: it also remembers the global state that each
    trial starts from."""

    globals: GlobalState = field(default_factory=GlobalState.capture)
    kept: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def get(self, kind: str, key: Any, make: Callable[[], Kept]) -> Kept:
        """Returns the thing of `kind` for `key`; made again when the last one was for another
        key."""
        if kind not in self.kept or self.kept[kind][0] != key:
            self.kept.pop(kind, None)  # frees the old one first: two may not fit into memory
            self.kept[kind] = (key, make())
        value: Kept = self.kept[kind][1]
        return value


@dataclass(frozen=True)
class Inputs:
    """A trial's task, data and surroundings."""

    runtime: TaskRuntime
    data: Data
    numerics: dict[str, Any]
    world: World


def open_inputs(
    trial: TrialFile, kept: KeptBetweenTrials, numerics: dict[str, Any], world: World
) -> Inputs:
    """Returns the data and surroundings of a trial; its data stays open for the next one."""
    task = table.task_named(trial.config.task)
    runtime, folder = task.runtime(), Path(trial.paths.data)
    trust, seen = trial.trusts("tokenizer"), Seen.by(trial.config)
    key = (task.name, str(folder), trust, seen)
    data = kept.get("data", key, lambda: runtime.open_data(folder, trust=trust, seen=seen))
    return Inputs(runtime, data, numerics, world)


def make_student(trial: TrialFile, kept: KeptBetweenTrials, inputs: Inputs) -> StudentWithLoss:
    """Returns the student of a trial, on its device, with what it starts from. Raises `ValueError`
    for a model that does not fit the data, and an adapter that does not fit the model."""
    config, num_classes = trial.config, inputs.data.num_classes
    runtime, device = inputs.runtime, inputs.world.device
    adapter = adapter_of(config)
    if adapter is None:
        model = _whole_student(trial, kept, inputs)
    else:
        model = _student_with(adapter, trial, kept, inputs)
    if config.gradient_checkpointing:
        runtime.recompute_activations(model)
    network = runtime.network(model, num_classes)
    return StudentWithLoss.build(network, config, device=device, numerics=inputs.numerics)


def _whole_student(trial: TrialFile, kept: KeptBetweenTrials, inputs: Inputs) -> Any:
    """A student all of whose weights are trained."""
    path, attention = trial.paths.student, trial.config.attention_implementation
    start = kept.get(
        "student",
        (path, attention, inputs.data.num_classes),
        # a GPU has to hold only the one that is trained
        lambda: _load_start(trial, inputs, torch.float32).cpu(),
    )
    # a copy, since training changes it in place, and the next trial starts from the same weights
    return copy.deepcopy(start).to(inputs.world.device)


def _student_with(
    adapter: Adapter, trial: TrialFile, kept: KeptBetweenTrials, inputs: Inputs
) -> Any:
    """A student that trains an adapter beside its start's weights, which stay where they are from
    trial to trial, as a teacher's do."""
    from trainers.students import lora

    path, attention = trial.paths.student, trial.config.attention_implementation
    dtype, device = numerics_of.weights_dtype(inputs.numerics), str(inputs.world.device)
    start = kept.get(
        "student",
        (path, attention, inputs.data.num_classes, dtype, device),
        lambda: _load_start(trial, inputs, dtype),
    )
    return lora.with_adapter(start, adapter, seed=trial.config.seed)


def _load_start(trial: TrialFile, inputs: Inputs, dtype: torch.dtype) -> Any:
    folder = Path(trial.paths.student)
    if is_adapter(folder):
        raise ValueError(
            f"paths.student: it must be a whole model, but {folder} is an adapter. Name it in a "
            "sweep, which merges it with its base, or merge it (PEFT's merge_and_unload)."
        )
    model = inputs.runtime.load_model(
        folder,
        inputs.world.device,
        attention=trial.config.attention_implementation,
        dtype=dtype,
        trust=trial.trusts("student"),
    )
    inputs.runtime.check_model(model, inputs.data)
    return model
