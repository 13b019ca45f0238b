"""The image-classification task as far as it is known without torch. See `trainers.parts.Task`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.tasks.image_classification import facts, inputs
from trainers.tasks.image_classification.facts import ImageFacts
from trainers.tasks.image_classification.inputs import ImageKeys
from trainers.tasks.image_classification.metrics import METRICS
from trainers.trial.config import TrialConfig
from trainers.trial.facts import Facts, ModelFacts, PreparedFacts
from trainers.trial.metrics import Metric
from trainers.trial.seen import Seen
from trainers.trial.sources import PrepareRequest, Role

if TYPE_CHECKING:
    from trainers.tasks.image_classification.runtime import ImageClassificationRuntime


@dataclass(frozen=True)
class ImageClassification:
    """An image classifier learns the classes of images."""

    name: str = "image_classification"
    default_metric: str = "top1"
    position_name: str = "images"
    uses_parameters_once: bool = False
    has_output_matrix: bool = False
    step_s: float = 0.002
    pipeline: str = "image-classification"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The table in `metrics.py`."""
        return METRICS

    @property
    def quick_evaluation(self) -> Mapping[str, Any]:
        """Nothing is slow."""
        return {}

    @property
    def thorough_evaluation(self) -> Mapping[str, Any]:
        """As trials are."""
        return {}

    def data_fields(self, request: PrepareRequest) -> dict[str, Any]:
        """The first views that the images have: a fit learns from no others."""
        return {"augmentation": request.augmentation, "views": request.views}

    def check_request(self, request: PrepareRequest) -> None:
        """Raises `ValueError` for views without an augmentation, and for prompts to learn."""
        inputs.check_request(request)

    def prompt_template(self, request: PrepareRequest) -> None:
        """An image has no prompt."""

    def input_keys(self, request: PrepareRequest) -> ImageKeys:
        """Returns what decides images, views and models."""
        return ImageKeys(request)

    def example_texts(
        self, request: PrepareRequest, folder: Path, ids: Collection[int]
    ) -> dict[int, str]:
        """Returns the numbers, from 0, and classes of images."""
        from trainers.tasks.image_classification.reading import titles_of  # loads numpy

        return titles_of(folder, ids)

    def inspect(
        self,
        request: PrepareRequest,
        configs: Mapping[str, Mapping[str, Any]],
        *,
        data: Path,
        home: Path,
    ) -> Facts:
        """Returns images, classes and views; those of a hub's data set once it was prepared."""
        return inputs.inspect(request, configs, data=data)

    def describe_model(self, request: PrepareRequest, role: Role, home: Path) -> ModelFacts:
        """Returns a transformers config, and the parameters and products of its model."""
        return inputs.described_model(request, role, home, lambda: self.runtime().describe)

    def check_models(self, request: PrepareRequest, data: Path) -> None:
        """Raises `ValueError` for models with other classes or images than the data's, and for a
        subset that cannot be drawn."""
        sources = {"teacher": request.teacher, "student": request.student}
        configs = {role: inputs.config_of(source, role) for role, source in sources.items()}
        prepared = ImageFacts.read(data)
        inputs.check_classes(configs, prepared)
        inputs.check_regions(request, configs)
        inputs.check_subset(request, prepared)

    def read_prepared(self, folder: Path, request: PrepareRequest) -> PreparedFacts:
        """Returns the facts of prepared images."""
        return facts.read_prepared(folder, Seen.by(request))

    def why_not_cached(self, config: TrialConfig) -> str:
        """Views that are new in every epoch are met once."""
        if facts.num_views(inputs.kinds_of(config), config.views):
            return ""
        return "each epoch has new views of the images; data.views: N has N that take turns"

    def check_objective(self, metric: str, config: TrialConfig) -> None:
        """Every metric is measured in every trial."""

    def guess_parameters(self, config: Mapping[str, Any], num_classes: int | None) -> int | None:
        """A config is built where its size is asked for: no guess."""
        return None

    def guess_activations(self, config: Mapping[str, Any]) -> None:
        """What an image leaves in each layer is counted where the model is built: no guess."""

    def longest_example(self, config: TrialConfig) -> int:
        """An image is one position."""
        return 1

    def num_sampled_tokens(self, config: TrialConfig, num_evaluations: int) -> int:
        """No text is sampled."""
        return 0

    def runtime(self) -> "ImageClassificationRuntime":
        """Returns the side that trains, which loads torch and transformers."""
        from trainers.tasks.image_classification.runtime import ImageClassificationRuntime

        return ImageClassificationRuntime()
