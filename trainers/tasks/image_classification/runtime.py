"""The side of the image-classification task that trains. See `trainers.parts.TaskRuntime`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainers.parts import SignalMaker
from trainers.tasks.image_classification import activations, data, models, regions, writing
from trainers.tasks.image_classification.data import ImageData
from trainers.tasks.image_classification.evaluation import ImageEvaluator
from trainers.tasks.image_classification.inputs import REGIONS
from trainers.tasks.image_classification.models import Classifier
from trainers.trial.config import TrialConfig
from trainers.trial.facts import ModelFacts, SetFacts
from trainers.trial.seen import ALL, Seen
from trainers.trial.sources import DataSource, ModelSource, PrepareRequest
from trainers.world import World


@dataclass(frozen=True)
class ImageClassificationRuntime:
    """Plain methods over the modules beside this one; nothing is kept from one call to the next."""

    def write_data(self, request: PrepareRequest, *, home: Path, folder: Path) -> None:
        """Writes both splits as arrays, and the facts."""
        writing.write(request, folder)

    def write_all_learned(self, data: Path, folder: Path) -> None:
        """Raises `ValueError`: `check_request` refuses it before."""
        raise ValueError(
            f"fit.learn: images have no prompts, but got all for {data}. Leave it out."
        )

    def open_data(self, folder: Path, *, trust: bool = False, seen: Seen = ALL) -> ImageData:
        """Returns the prepared images in `folder`, which bring no code."""
        return ImageData.open(folder, seen)

    def evaluation_set(
        self, source: DataSource, *, like: ImageData, config: TrialConfig, folder: Path
    ) -> tuple[ImageData, SetFacts]:
        """See `trainers.parts.TaskRuntime`."""
        return writing.evaluation_set(source, like, folder)

    def fingerprint(self, folder: Path) -> str:
        """Returns the SHA-256 over pixels, labels and the views that are taken."""
        return data.fingerprint(folder)

    def initialise(self, source: ModelSource, role: str, *, data: ImageData, folder: Path) -> None:
        """Writes a classifier with the data's classes, channels and size, unless the config gives
        others."""
        models.initialise(source, role, data.facts, folder)

    def describe(
        self, config: Mapping[str, Any], role: str, sizes: Mapping[str, int]
    ) -> ModelFacts:
        """Returns the complete config, and the parameters, products and activations of a classifier
        that transformers builds. `sizes`: of the data, as far as they are known."""
        model = models.built(config, role, sizes)
        products = models.products_of(model, role, sizes)
        if sizes.get(REGIONS, 1) > 1:
            regions.check_described(model, role, models.image_of(sizes))
        kept = activations.kept_by(model, sizes)
        return ModelFacts(model.config.to_dict(), int(model.num_parameters()), products, kept)

    def outline(self, source: ModelSource, role: str) -> Any:
        """Returns transformers' image classifier without numbers."""
        return models.outline(source, role)

    def load_model(
        self,
        folder: Path,
        device: torch.device,
        *,
        attention: str | None,
        dtype: torch.dtype,
        trust: bool,
        gpus: int = 1,
    ) -> Any:
        """Returns transformers' image classifier. Raises `ValueError` for several GPUs."""
        if gpus > 1:
            raise ValueError(
                f"teacher_cache.gpus: an image classifier runs on one GPU, but got {gpus}. "
                "Leave it out."
            )
        return models.load(folder, attention=attention, dtype=dtype, trust=trust).to(device)

    def check_model(self, model: Any, data: ImageData) -> None:
        """Raises `ValueError` unless the model takes the data's images and has its classes."""
        models.check(model, data)

    def check_smallest_batch(self, model: Any, data: ImageData, num_examples: int) -> None:
        """Raises `ValueError` for a single image where a batch norm would see one value of it."""
        if num_examples == 1:
            models.check_single_image(model, data)

    def network(self, model: Any, num_classes: int) -> Classifier:
        """Returns the model with its logits as hidden states."""
        return Classifier(model, num_classes)

    def hidden_size(self, folder: Path, data: ImageData, *, trust: bool = False) -> int:
        """Returns the number of logits of an image and its regions: they are what is stored."""
        return models.num_labels(folder, trust=trust) * data.seen.num_logits

    def recompute_activations(self, model: Any) -> None:
        """Turns on transformers' gradient checkpointing. Raises `ValueError` for a model that has
        none."""
        if not model.supports_gradient_checkpointing:
            raise ValueError(
                f"training.gradient_checkpointing: {type(model).__name__} does not support it. "
                "Set it to false."
            )
        model.activation_checkpointing_enable({"use_reentrant": False})

    def evaluator(
        self,
        config: TrialConfig,
        data: ImageData,
        *,
        teacher: SignalMaker | None,
        world: World,
        numerics: dict[str, Any],
        is_thorough: bool = False,
    ) -> ImageEvaluator:
        """Returns what measures the metrics of `metrics.py`."""
        return ImageEvaluator(data, teacher, world, numerics, is_thorough)

    def save(self, model: Any, data: ImageData, folder: Path) -> None:
        """Writes a Hugging Face folder with its image processor."""
        models.save(model, data.facts, folder)
