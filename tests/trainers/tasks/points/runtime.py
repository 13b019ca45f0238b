"""A task of a test: the side that trains."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from trainers.tasks.points.task import METRICS, NUM_CLASSES, NUM_COORDINATES, fingerprint

from trainers.signal import OutputHead, TeacherSignal
from trainers.tasks.balanced import balanced
from trainers.tasks.position_evaluation import PositionSums
from trainers.tasks.positions import Positions
from trainers.trial.facts import SetFacts
from trainers.trial.reporting import Evaluation
from trainers.trial.seen import ALL, Seen
from trainers.trial.subset import Subset

Numbers = np.ndarray[Any, np.dtype[np.int64]]
GROUP = 16


@dataclass(frozen=True)
class PointBatch:
    split_name: str
    examples: Numbers
    points: Tensor
    labels: Tensor
    teacher_hidden: Tensor | None = None
    sampled: None = None

    @property
    def sequence_ids(self) -> Tensor:
        return torch.arange(len(self.labels), device=self.labels.device)

    def to(self, device: torch.device) -> "PointBatch":
        return replace(self, points=self.points.to(device), labels=self.labels.to(device))

    def pinned(self) -> "PointBatch":
        return replace(self, points=self.points.pin_memory(), labels=self.labels.pin_memory())

    def with_teacher_hidden(self, hidden: Tensor) -> "PointBatch":
        return replace(self, teacher_hidden=hidden)


class ShuffledOrder:
    def __init__(self, count: int, batch_size: int, seed: int):
        self._count, self._size, self._seed = count, batch_size, seed
        self.steps_per_epoch = -(-count // batch_size)

    def examples(self, step: int) -> Numbers:
        epoch, index = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self._seed, epoch]).permutation(self._count)
        return order[index * self._size : (index + 1) * self._size]


class PointSplit:
    def __init__(self, name: str, path: Path, subset: Subset | None):
        rows = json.loads(path.read_text())
        if subset is not None:
            subset.check(len(rows), NUM_CLASSES)
            labels = np.array([row["label"] for row in rows])
            rows = [rows[at] for at in balanced(labels, subset.num_examples, subset.seed)]
        self.name = name
        self._points = torch.tensor([row["point"] for row in rows])
        self._labels = torch.tensor([row["label"] for row in rows])
        self.num_learned = np.ones(len(rows), np.int64)
        self.example_ids = np.array([hash(tuple(row["point"])) for row in rows], np.int64)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def examples_per_epoch(self) -> int:
        return len(self)

    def num_positions(self, examples: Numbers) -> int:
        return len(examples)

    def order(self, *, batch_size: int, seed: int) -> ShuffledOrder:
        return ShuffledOrder(len(self), batch_size, seed)

    def groups(self, examples: Numbers, device_type: str) -> list[Numbers]:
        return [examples[at : at + GROUP] for at in range(0, len(examples), GROUP)]

    def collate(self, examples: Numbers) -> PointBatch:
        chosen = torch.from_numpy(examples)
        return PointBatch(self.name, examples, self._points[chosen], self._labels[chosen])


@dataclass(frozen=True)
class PointData:
    splits: Mapping[str, PointSplit]
    num_classes: int = NUM_CLASSES

    def as_seen_by(self, config: Any) -> "PointData":
        return self

    def cache_key(self) -> dict[str, Any]:
        return {}


class PointModel(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.body = nn.Sequential(nn.Linear(NUM_COORDINATES, width), nn.Tanh())
        self.classifier = nn.Linear(width, NUM_CLASSES)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        config = {"model_type": "points", "hidden_size": self.width}
        (folder / "config.json").write_text(json.dumps(config))
        save_file(self.state_dict(), folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "PointModel":
        model = cls(json.loads((folder / "config.json").read_text())["hidden_size"])
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()


@dataclass(frozen=True)
class PointNetwork:
    model: PointModel

    def hidden(self, batch: PointBatch) -> Tensor:
        hidden: Tensor = self.model.body(batch.points)
        return hidden

    def head(self) -> OutputHead:
        return OutputHead(self.model.classifier.weight, self.model.classifier.bias)


@dataclass(frozen=True)
class PointEvaluator:
    data: PointData
    teacher: Any
    world: Any

    @torch.no_grad()
    def evaluate(self, student: Any, before: Any) -> Evaluation:
        split = self.data.splits["validation"]
        sums = PositionSums(METRICS.values(), self.world.device)
        for examples in split.groups(np.arange(len(split)), "cpu"):
            batch = split.collate(examples)
            teacher_logits = None
            if self.teacher is not None:
                signal: TeacherSignal = self.teacher.signal(batch)
                teacher_logits = signal.logits()
            logits = student.head().logits(student.hidden(batch))
            sums.add(Positions(student.soften_teacher, logits, teacher_logits, batch.labels))
        return Evaluation(sums.values(self.world), [])


class PointsRuntime:
    """See `trainers.parts.TaskRuntime`."""

    def write_data(self, request: Any, *, home: Path, folder: Path) -> None:
        for name in ("train", "validation"):
            lines = Path(getattr(request.data, name)).read_text().splitlines()
            (folder / f"{name}.json").write_text(json.dumps([json.loads(line) for line in lines]))

    def open_data(self, folder: Path, *, trust: bool = False, seen: Seen = ALL) -> PointData:
        of_split = {"train": seen.subset, "validation": None}
        return PointData(
            {name: PointSplit(name, folder / f"{name}.json", of_split[name]) for name in of_split}
        )

    def fingerprint(self, folder: Path) -> str:
        return fingerprint(folder)

    def initialise(self, source: Any, role: str, *, data: Any, folder: Path) -> None:
        torch.manual_seed(source.init_seed)
        PointModel(source.config["hidden_size"]).save(folder)

    def load_model(self, folder: Path, device: Any, **options: Any) -> PointModel:
        return PointModel.load(folder).to(device, options["dtype"])

    def check_model(self, model: PointModel, data: PointData) -> None:
        assert model.classifier.out_features == data.num_classes

    def check_smallest_batch(self, model: Any, data: Any, num_examples: int) -> None:
        """One point will do."""

    def network(self, model: PointModel, num_classes: int) -> PointNetwork:
        return PointNetwork(model)

    def hidden_size(self, folder: Path, data: Any, *, trust: bool = False) -> int:
        return int(json.loads((folder / "config.json").read_text())["hidden_size"])

    def recompute_activations(self, model: PointModel) -> None:
        pass

    def evaluation_set(
        self, source: Any, *, like: Any, config: Any, folder: Path
    ) -> tuple[PointData, SetFacts]:
        raise NotImplementedError("no test evaluates a finished student on points")

    def evaluator(
        self, config: Any, data: PointData, *, teacher: Any, world: Any, **options: Any
    ) -> PointEvaluator:
        return PointEvaluator(data, teacher, world)

    def save(self, model: PointModel, data: PointData, folder: Path) -> None:
        model.save(folder)
