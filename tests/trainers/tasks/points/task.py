"""A task of a test: which of three classes a point in space belongs to. What is known of it without
torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.files import fingerprints
from trainers.tasks.position_metrics import PositionMetric
from trainers.trial.facts import Facts, ModelFacts, PreparedFacts
from trainers.trial.metrics import Metric

NUM_CLASSES, NUM_COORDINATES = 3, 4
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        PositionMetric(
            name="accuracy",
            direction="maximize",
            of=(lambda at: at.logits.argmax(-1) == at.labels,),
        ),
        PositionMetric(
            name="cross_entropy",
            direction="minimize",
            of=(lambda at: -at.log_q.gather(1, at.labels[:, None])[:, 0],),
        ),
        PositionMetric(name="student_entropy", of=(lambda at: -at.dot(at.q, at.log_q),)),
    )
}


@dataclass(frozen=True)
class PointKeys:
    """What decides the inputs: the files."""

    files: Mapping[str, str]

    @property
    def records(self) -> dict[str, Any]:
        return dict(self.files)

    data = records

    @property
    def model(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Points:
    """See `trainers.parts.Task`."""

    name: str = "points"
    default_metric: str = "accuracy"
    position_name: str = "points"
    uses_parameters_once: bool = True
    has_output_matrix: bool = False
    step_s: float = 0.001
    pipeline: str | None = None

    @property
    def metrics(self) -> Mapping[str, Metric]:
        return METRICS

    @property
    def quick_evaluation(self) -> Mapping[str, Any]:
        return {}

    @property
    def thorough_evaluation(self) -> Mapping[str, Any]:
        return {}

    def prompt_template(self, request: Any) -> str | None:
        return None

    def data_fields(self, request: Any) -> dict[str, Any]:
        return {}

    def check_request(self, request: Any) -> None:
        pass

    def why_not_cached(self, config: Any) -> str:
        return ""

    def check_objective(self, metric: str, config: Any) -> None:
        pass

    def input_keys(self, request: Any) -> PointKeys:
        files = {"train": request.data.train, "validation": request.data.validation}
        return PointKeys({name: digest(Path(path)) for name, path in files.items()})

    def inspect(self, request: Any, configs: Any, *, data: Path, home: Path) -> Facts:
        count = len(Path(request.data.train).read_text().splitlines())
        return Facts(num_train_examples=count, num_train_tokens=count, vocab_size=NUM_CLASSES)

    def describe_model(self, request: Any, role: str, home: Path) -> ModelFacts:
        return ModelFacts(dict(request.source(role).config), 0)

    def check_models(self, request: Any, data: Path) -> None:
        """Points have no vocabulary."""

    def read_prepared(self, folder: Path, request: Any) -> PreparedFacts:
        counts = {
            name: len(json.loads((folder / f"{name}.json").read_text()))
            for name in ("train", "validation")
        }
        train = counts["train"]
        found = {"data": fingerprint(folder)}
        return PreparedFacts(NUM_CLASSES, train, train, counts["validation"], found)

    def guess_parameters(self, config: Any, num_classes: int | None) -> int | None:
        return None

    def guess_activations(self, config: Any) -> None:
        return None

    def longest_example(self, config: Any) -> int:
        return 1

    def num_sampled_tokens(self, config: Any, num_evaluations: int) -> int:
        return 0

    def runtime(self) -> Any:
        from trainers.tasks.points.runtime import PointsRuntime

        return PointsRuntime()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(folder: Path) -> str:
    return fingerprints.of_document([digest(path) for path in sorted(folder.glob("*.json"))])
