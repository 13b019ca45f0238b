"""What training a classifier keeps of its forward pass, counted on the meta device: shapes without
numbers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trainers.tasks.image_classification.models import image_of
from trainers.trial.facts import Activations

# A batch norm takes moments, so it wants more than one image, perhaps of one pixel each.
NUM_IMAGES = 2
BYTES = 4


def kept_by(model: Any, sizes: Mapping[str, int]) -> Activations | None:
    """Returns what a backward pass needs of one image through a model on the meta device; None
    where the data's sizes are not known, or the model needs numbers."""
    if not sizes:
        return None
    kept: dict[int, tuple[Tensor, int]] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(saved: Tensor) -> Tensor:
        memory = saved.untyped_storage()
        # Two operations may keep the same memory. The tensor is held so that no other gets its
        # place, and with it its number.
        if memory._cdata not in weights:
            kept[memory._cdata] = saved, memory.nbytes()
        return saved

    channels = getattr(model.config, "num_channels", sizes["num_channels"])
    images = image_of({**sizes, "num_channels": channels}).expand(NUM_IMAGES, -1, -1, -1)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            model.train()(pixel_values=images.contiguous())
    except Exception:  # a model raises what it likes, and `products_of` says of ours what is wrong
        return None
    num_bytes = sum(size for _, size in kept.values())
    return Activations(layers=1, per_position=num_bytes / NUM_IMAGES / BYTES)
