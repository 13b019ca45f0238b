"""Logits of an image's regions: each cell of a grid over the last feature map, pooled and put
through the classifier as the mean over the complete map is (Wei et al. 2024, SDD)."""

from typing import Any

import torch
from torch import Tensor

# How far the classifier may be from the model's own logits, at the mean over its map.
TOLERANCE = 1e-3


def with_regions(model: Any, pixels: Tensor, regions: int) -> Tensor:
    """Returns logits [B, (1 + regions²) C]: the model's own of each image, then those of its cells,
    row by row. Where a map does not divide evenly, cells overlap, as adaptive pooling has it."""
    logits, features = _answer(model, pixels)
    cells = torch.nn.functional.adaptive_avg_pool2d(features, regions).flatten(2).transpose(1, 2)
    of_cells = model.classifier(cells.flatten(0, 1)).view(len(pixels), -1)
    return torch.cat([logits, of_cells], 1)


def check(model: Any, pixels: Tensor) -> None:
    """Raises `ValueError` unless the model's logits are its classifier's of the mean over its last
    map, in evaluation mode, for `pixels`."""
    try:
        logits, features = _answer(model, pixels)
        expected = model.classifier(features.mean((2, 3)))
        fits = torch.allclose(logits, expected, rtol=TOLERANCE, atol=TOLERANCE)
    except (AttributeError, TypeError, RuntimeError, IndexError):  # it is built in another way
        fits = False
    if fits:
        _check_size(features, type(model).__name__)
    else:
        raise ValueError(
            f"data.regions: {type(model).__name__} must put the mean over its last feature map "
            "through a linear classifier, so that a region has logits too, but it does not. Leave "
            "data.regions out, or use another model."
        )


def check_described(model: Any, role: str, pixels: Tensor) -> None:
    """Raises `ValueError` for a model on the meta device whose last map of `pixels` is too small;
    one that needs numbers is checked when it has them."""
    try:
        _, features = _answer(model, pixels)
    except (AttributeError, TypeError, RuntimeError, IndexError):
        return
    _check_size(features, f"the {role}")


def _check_size(features: Tensor, name: str) -> None:
    height, width = features.shape[2:]
    if height * width == 1:
        raise ValueError(
            f"data.regions: the last feature map of {name} must have more than one pixel, but it "
            "has 1 x 1 for the data's images. Leave data.regions out, or use another model."
        )


def _answer(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The model's logits [B, C] and its last map [B, D, h, w]."""
    found: list[Any] = []
    hook = model.base_model.register_forward_hook(lambda *call: found.append(call[-1]))
    try:
        logits: Tensor = model(pixel_values=pixels).logits
    finally:
        hook.remove()
    features = found[-1] if isinstance(found[-1], Tensor) else found[-1].last_hidden_state
    return logits, features
