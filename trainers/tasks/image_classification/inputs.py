"""What decides an image classifier's inputs, and what is known of them before they are prepared; no
torch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from trainers.files import fingerprints
from trainers.files.keyed import keyed_folder
from trainers.parts import SPLIT_NAMES
from trainers.tasks import locate
from trainers.tasks.described import described
from trainers.tasks.image_classification import places
from trainers.tasks.image_classification.facts import ImageFacts, num_views
from trainers.trial.facts import Facts, ModelFacts
from trainers.trial.fields import Augmentation, Data
from trainers.trial.seen import Seen
from trainers.trial.sources import (
    ROLES,
    DataSource,
    Learned,
    ModelSource,
    PrepareRequest,
    Role,
)
from trainers.trial.subset import Subset

# What decides the images of a split beside its place.
READ_BY = (
    "train_split",
    "validation_split",
    "config_name",
    "image_column",
    "label_column",
    "image_size",
    "max_train_examples",
    "max_validation_examples",
)
# Families whose logits are those of the mean over a map, so that a cell of the map has its own.
REGIONS = "regions"
WITH_REGIONS = ("convnet", "mobilenet_v1", "mobilenet_v2", "regnet", "resnet")
Describe = Callable[[Mapping[str, Any], str, Mapping[str, int]], ModelFacts]


class ImageKeys:
    """See `trainers.parts.InputKeys`."""

    def __init__(self, request: PrepareRequest):
        self._request = request

    @cached_property
    def records(self) -> dict[str, Any]:
        """What decides the images of both splits."""
        data = self._request.data
        read_by = {name: getattr(data, name) for name in READ_BY}
        # Of what is not drawn from, every seed leaves the same.
        is_drawn = data.max_train_examples or data.max_validation_examples
        read_by["subset_seed"] = self._request.subset_seed if is_drawn else 0
        return {name: places.fingerprint(data, name) for name in SPLIT_NAMES} | {"source": read_by}

    @property
    def data(self) -> dict[str, Any]:
        """What decides the prepared images and their views."""
        request = self._request
        return {
            "images": self.records,
            "augmentation": request.augmentation,
            "views": request.views,
        }

    @property
    def model(self) -> dict[str, Any]:
        """What decides a model made from a config: the images give it classes and channels."""
        return {"images": self.records}


def inspect(
    request: PrepareRequest, configs: Mapping[str, Mapping[str, Any]], *, data: Path
) -> Facts:
    """See `trainers.parts.Task.inspect`."""
    place = ", ".join(places.place_of(request.data, name) for name in SPLIT_NAMES)
    facts = _facts(request, data)
    check_regions(request, configs)
    seen = Seen.by(request)
    if facts is None:
        return Facts(found={"data": f"{place} (to be loaded from the hub)"})
    check_classes(configs, facts)
    check_subset(request, facts)
    ready = f" (ready in {data})" if data.is_dir() else ""
    shape = " x ".join(map(str, facts.shape))
    described = f"{len(facts.class_names)} classes of images of {shape}{_seen(request)}"
    return Facts(
        num_train_examples=facts.num_train,
        num_train_tokens=facts.num_train * seen.num_rows,
        num_validation_examples=facts.num_validation,
        num_views=num_views(kinds_of(request), request.views),
        vocab_size=len(facts.class_names),
        # logits are what is stored, an image's and those of its regions
        teacher_hidden_size=len(facts.class_names) * seen.num_logits,
        found={"data": f"{place}: {described}{ready}"},
    )


def _seen(request: PrepareRequest) -> str:
    """What trials see of an image beside its first view."""
    seen = Seen.by(request)
    second = f", {seen.second_view} beside each" if seen.num_rows == 2 else ""
    side = seen.regions
    return second + ("" if side == 1 else f", in {side} x {side} regions")


def _facts(request: PrepareRequest, data: Path) -> ImageFacts | None:
    """The facts of prepared images, or of those that would be; None for a hub's data set, which
    would have to be downloaded."""
    if data.is_dir():
        return ImageFacts.read(data)
    if any(is_on_hub(request, name) for name in SPLIT_NAMES):
        return None
    content = fingerprints.of_document(ImageKeys(request).records)
    found = _facts_of(request.data, request.subset_seed, content)
    return replace(found, augmentation=request.augmentation, views=request.views)


@lru_cache(maxsize=1)  # a plan asks for each model and for the data, and reads all images once
def _facts_of(source: DataSource, subset_seed: int, content: str) -> ImageFacts:
    """The facts of the images that `source` names, whose fingerprint is `content`."""
    from trainers.tasks.image_classification import images

    train, validation = (images.read(source, name, subset_seed) for name in SPLIT_NAMES)
    images.check_same_classes(train, validation)
    return ImageFacts(
        class_names=max(train.class_names, validation.class_names, key=len),
        shape=list(train.pixels.shape[1:]),
        mean=[],
        std=[],
        num_train=len(train),
        num_validation=len(validation),
        augmentation=Augmentation.NONE,
        views=0,
        fingerprint=content,
    )


def is_on_hub(request: PrepareRequest, split_name: str) -> bool:
    """Returns whether a split is of a hub's data set."""
    place = places.place_of(request.data, split_name)
    return place != places.DIGITS and places.path_of(request.data, split_name) is None


def check_request(request: PrepareRequest) -> None:
    """Raises `ValueError` for views of images that are not changed, and for prompts to learn."""
    for role in ROLES:
        fit = request.source(role).fit
        if fit is not None and fit.learn == Learned.ALL:
            raise ValueError(
                f"{role}.fit.learn: it must be responses where a task has no prompts, but got all "
                "with images. Leave it out."
            )
    if request.views and set(kinds_of(request)) == {Augmentation.NONE}:
        raise ValueError(
            f"data.views: images have several views only with an augmentation, but got "
            f"{request.views} with augmentation: none. Set data.augmentation to crop or crop_flip."
        )


def check_subset(request: PrepareRequest, facts: ImageFacts) -> None:
    """Raises `ValueError` where trials are to learn from more images than there are, or from fewer
    than there are classes."""
    subset = Subset.of(request)
    if subset is not None:
        subset.check(facts.num_train, len(facts.class_names))


def kinds_of(data: Data) -> list[Augmentation]:
    """Returns what is done for the first view of an image and for the second, where it has one."""
    return [data.augmentation, data.second_view][: Seen.by(data).num_rows]


def check_regions(data: Data, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `ValueError` for a model whose regions have no logits of their own."""
    for role, config in configs.items():
        kind = config.get("model_type")
        if data.regions > 1 and kind is not None and kind not in WITH_REGIONS:
            raise ValueError(
                f"data.regions: the {role} must be a network whose last feature map goes through "
                f"its mean into a linear classifier ({', '.join(WITH_REGIONS)}), but got a {kind}. "
                "Leave data.regions out, or use another model."
            )


def check_classes(configs: Mapping[str, Mapping[str, Any]], facts: ImageFacts) -> None:
    """Raises `ValueError` for a model whose config has other classes, channels or another size
    than the data. What a config does not say passes."""
    for role, config in configs.items():
        labels = config.get("id2label")
        given = {
            "num_labels": config.get("num_labels", len(labels) if labels else None),
            "num_channels": config.get("num_channels"),
            "image_size": config.get("image_size"),
        }
        remedies = (
            "Fit a model that is made from its config, or use data with these classes.",
            "Use another model.",
            "Set data.image_size.",
        )
        for (name, value), remedy in zip(given.items(), remedies, strict=True):
            if isinstance(value, int) and value != facts.sizes[name]:
                raise ValueError(
                    f"{role}: its {name} must be the data's {facts.sizes[name]}, but got {value}. "
                    f"{remedy}"
                )


def config_of(source: ModelSource, role: str) -> Mapping[str, Any]:
    """Returns the config of a model that is named, none of one that is made: it takes the data's
    sizes, and what it says itself is checked where it is made."""
    if source.model is None:
        return source.config or {}
    return locate.read_config(locate.whole_folder(source, role, with_weights=False))


def described_model(
    request: PrepareRequest,
    role: Role,
    home: Path,
    describer: Callable[[], Describe],
) -> ModelFacts:
    """See `trainers.parts.Task.describe_model`. `describer` loads torch, so it is called only for a
    config that was not described before."""
    config = request.source(role).config
    assert config is not None
    facts = _facts(request, keyed_folder(home, "data", ImageKeys(request).data))
    sizes = {} if facts is None else facts.sizes
    if sizes and request.regions > 1:
        sizes = {**sizes, REGIONS: request.regions}
    asked = {"config": config, "sizes": sizes}
    return described(asked, home, lambda: describer()(config, role, sizes))
