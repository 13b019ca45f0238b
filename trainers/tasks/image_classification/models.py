"""Makes, loads and runs image classifiers of transformers, those of `networks.py` among them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForImageClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
from transformers.utils import logging

from trainers import numerics
from trainers.nearest import nearest
from trainers.signal import OutputHead
from trainers.students.folders import is_adapter
from trainers.tasks import locate
from trainers.tasks.adapters import load_with_base
from trainers.tasks.building import ConfigBuild, check_sizes, names_of
from trainers.tasks.image_classification import regions
from trainers.tasks.image_classification.data import ImageBatch, ImageData
from trainers.tasks.image_classification.facts import ImageFacts
from trainers.tasks.image_classification.networks import (
    ARCHITECTURES,
    SIZED,
    ConvNet,
    ConvNetConfig,
)
from trainers.trial.sources import ModelSource

OWN = ConvNetConfig.model_type
CHECKED_IMAGES = 2
COUNTS = ("num_channels", "num_labels", "width")  # keys of configs of which 0 is none


def register() -> None:
    """Makes transformers know the networks of this project, and keeps it quiet."""
    AutoConfig.register(OWN, ConvNetConfig, exist_ok=True)
    AutoModelForImageClassification.register(ConvNetConfig, ConvNet, exist_ok=True)
    # A saved folder takes networks.py along, so that it opens where this project is not installed.
    ConvNetConfig.register_for_auto_class()
    ConvNet.register_for_auto_class("AutoModelForImageClassification")
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load(folder: Path, *, attention: str | None, dtype: torch.dtype, trust: bool) -> Any:
    """Returns the image classifier in `folder`, or that of its adapter and its base, in evaluation
    mode, on the CPU."""
    register()
    if is_adapter(folder):
        whole = partial(load, attention=attention, dtype=dtype, trust=trust)
        return load_with_base(folder, whole, trust=trust)
    options = {} if attention is None else {"attn_implementation": attention}
    # Folders of our own networks carry a copy of their code, which must not be run in its place.
    is_own = read_type(folder) == OWN
    kind = ConvNet if is_own else AutoModelForImageClassification
    trusted = {} if is_own else {"trust_remote_code": trust}
    model = kind.from_pretrained(folder, dtype=dtype, local_files_only=True, **trusted, **options)
    # Convolutions whose weights lie so give maps that lie so: faster on CPUs and GPUs alike.
    return model.eval().to(memory_format=torch.channels_last)


def num_labels(folder: Path, *, trust: bool) -> int:
    """Returns the number of classes of the classifier in `folder`, which is not loaded."""
    register()
    is_own = read_type(folder) == OWN
    kind, trusted = (ConvNetConfig, {}) if is_own else (AutoConfig, {"trust_remote_code": trust})
    return int(kind.from_pretrained(folder, local_files_only=True, **trusted).num_labels)


def read_type(folder: Path) -> str:
    """Returns the model_type in a folder's config."""
    return str(json.loads((folder / "config.json").read_text()).get("model_type"))


def initialise(source: ModelSource, role: str, facts: ImageFacts, folder: Path) -> None:
    """Writes into `folder` a classifier with the architecture of `source.config`, its weights drawn
    from `source.init_seed`; classes, channels and size are those of the data unless given. Raises
    `ValueError` for a config that makes none, naming the field."""
    register()
    assert source.config is not None
    config = built(source.config, role, facts.sizes).config
    numerics.seed_all(source.init_seed)
    AutoModelForImageClassification.from_config(config).save_pretrained(folder)


def built(given: Mapping[str, Any], role: str, sizes: Mapping[str, int]) -> Any:
    """Returns the model of a config on the meta device: shapes without numbers. `sizes`: of the
    data, as far as they are known. Raises `ValueError` naming the field of one that makes none."""
    register()
    _check_type(given, role)
    _check_counts(given, role)
    known = names_of(given["model_type"]) | {"num_labels"}
    full = {name: value for name, value in sizes.items() if name in known} | dict(given)
    build = ConfigBuild(full, role, AutoModelForImageClassification)
    return build.model(lambda config: check_sizes(config, full, role))


def outline(source: ModelSource, role: str) -> Any:
    """Returns the classifier that `source` names or makes on the meta device: shapes without
    numbers. Raises `ValueError` as `built` does."""
    if source.config is not None:
        return built(source.config, role, {})
    register()
    folder = locate.whole_folder(source, role, with_weights=False)
    is_own, trust = read_type(folder) == OWN, source.trust_remote_code
    kind, trusted = (ConvNetConfig, {}) if is_own else (AutoConfig, {"trust_remote_code": trust})
    config = kind.from_pretrained(folder, local_files_only=True, **trusted)
    with torch.device("meta"):
        return AutoModelForImageClassification.from_config(config, **trusted)


@torch.no_grad()
def products_of(model: Any, role: str, sizes: Mapping[str, int]) -> int | None:
    """Returns the products of a forward pass of one square image through a model on the meta
    device; None where the data's sizes are not known, or the model needs numbers. Raises
    `ValueError` for a network of this project that such an image is too small for."""
    if not sizes:
        return None
    # Other channels than the data's are refused with both numbers where models are compared.
    channels = getattr(model.config, "num_channels", sizes["num_channels"])
    side, image = sizes["image_size"], image_of({**sizes, "num_channels": channels})
    try:
        with FlopCounterMode(display=False) as counter:
            model.eval()(pixel_values=image)
    except Exception as error:  # a model raises what it likes
        if not isinstance(model, ConvNet):
            return None
        raise ValueError(
            f"{role}.config: it must take the data's images of {side} x {side} pixels, but got "
            f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}. Use another "
            "architecture, or a larger data.image_size."
        ) from error
    return int(counter.get_total_flops()) // 2


def image_of(sizes: Mapping[str, int]) -> Tensor:
    """Returns a square image of the data's size without numbers."""
    channels, side = sizes["num_channels"], sizes["image_size"]
    return torch.empty(1, channels, side, side, device="meta")


def _check_type(given: Mapping[str, Any], role: str) -> None:
    types = [*MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, OWN]
    _check_name(
        f"{role}.config.model_type",
        given["model_type"],
        types,
        "one of an image classifier (convnet, resnet, vit, …)",
    )
    if given["model_type"] == OWN:
        names = [*ARCHITECTURES, *SIZED]
        name = given.get("architecture", ConvNetConfig.architecture)
        _check_name(f"{role}.config.architecture", name, names, f"one of {', '.join(names)}")


def _check_counts(given: Mapping[str, Any], role: str) -> None:
    for name in COUNTS:
        # torch makes layers of no channels, and refuses them at the first image alone
        if given.get(name) == 0:
            raise ValueError(
                f"{role}.config.{name}: it must be 1 or more, but got 0. Correct it, or leave it "
                "out."
            )


def _check_name(place: str, name: Any, known: Sequence[str], rule: str) -> None:
    if not isinstance(name, str) or name not in known:
        near = nearest(name, known) if isinstance(name, str) else ""
        raise ValueError(f"{place}: it must be {rule}, but got {name!r:.80}.{near}")


@dataclass(frozen=True)
class Classifier:
    """An image classifier taken apart, see `trainers.parts.Network`: with few classes, its hidden
    states are its logits."""

    model: Any
    num_classes: int

    def hidden(self, batch: ImageBatch) -> Tensor:
        """Returns the logits [B * views, C] of the batch's images; with regions those of each one
        behind its own, [B * views, (1 + regions²) C]."""
        if not len(batch.pixels):
            return self._of_no_image(batch)
        # Each view by itself: a batch norm takes its moments over views of one kind.
        views = batch.pixels.chunk(batch.num_views)
        answers = [self._logits(view, batch.regions) for view in views]
        return answers[0] if len(answers) == 1 else torch.stack(answers, 1).flatten(0, 1)

    def head(self) -> OutputHead:
        """Returns the identity."""
        weight = next(self.model.parameters())
        return OutputHead.identity(self.num_classes, weight.device, weight.dtype)

    def _logits(self, pixels: Tensor, num_regions: int) -> Tensor:
        # A teacher's weights may be in bfloat16, and no autocast around it.
        pixels = pixels.to(next(self.model.parameters()).dtype)
        if num_regions > 1:
            return regions.with_regions(self.model, pixels, num_regions)
        logits: Tensor = self.model(pixel_values=pixels).logits
        return logits

    def _of_no_image(self, batch: ImageBatch) -> Tensor:
        # A worker without images still takes part in the exchange of gradients, so its graph needs
        # all parameters; a batch norm must not see the image that stands in.
        was_training = self.model.training
        self.model.eval()
        one = batch.pixels.new_zeros(1, *batch.pixels.shape[1:])
        none = self._logits(one, batch.regions)[:0]
        self.model.train(was_training)
        return none


@torch.no_grad()
def check(model: Any, data: ImageData) -> None:
    """Raises `ValueError` unless the model gives a logit for each class of the data to some of its
    images."""
    split = data.splits["validation"]
    batch = split.collate(torch.arange(min(CHECKED_IMAGES, len(split))).numpy())
    weight = next(model.parameters())
    pixels = batch.pixels.to(weight.device, weight.dtype)
    name, shape = type(model).__name__, " x ".join(map(str, data.facts.shape))
    try:
        logits = model(pixel_values=pixels).logits
    except Exception as error:  # a model raises what it likes for images of another shape
        raise ValueError(
            f"{name}: it must take the data's images ({shape}: channels, height, width), but got "
            f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}. Use another "
            "model, or data.image_size."
        ) from error
    if tuple(logits.shape) != (len(pixels), data.num_classes):
        raise ValueError(
            f"{name}: it must have the data's {data.num_classes} classes, but has "
            f"{logits.shape[-1]}. Fit a model that is made from its config, or use data with these "
            "classes."
        )
    if not torch.isfinite(logits).all():
        raise ValueError(f"{name}: its logits must be finite numbers, but some are not.")
    if data.seen.regions > 1:
        regions.check(model, pixels)


@torch.no_grad()
def check_single_image(model: Any, data: ImageData) -> None:
    """Raises `ValueError` for a model that cannot train on one image: a batch norm has no moments
    of a single value."""
    sizes: list[int] = []
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    hooks = [
        norm.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0][:, 0].numel()))
        for norm in norms
    ]
    was_training = model.training
    model.eval()
    weight = next(model.parameters())
    try:
        model(pixel_values=weight.new_zeros(1, *data.facts.shape))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    if 1 in sizes:
        raise ValueError(
            f"batch_size: {type(model).__name__} must get two images or more at once, since a "
            "batch norm in it sees one pixel of each, but a micro-batch of an epoch of "
            f"{data.facts.num_train} images has only one. Use another batch_size, or one image "
            "more or less (data.max_train_examples)."
        )


def save(model: nn.Module, facts: ImageFacts, folder: Path) -> None:
    """Writes a Hugging Face folder with the image processor that makes its input."""
    register()
    model.save_pretrained(folder)  # type: ignore[operator]
    _, height, width = facts.shape
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": facts.mean,
        "image_std": facts.std,
    }
    text = json.dumps(processor, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text)
