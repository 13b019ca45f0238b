"""Models that have their weights in common."""

import copy
from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def sharing_weights(start: Model) -> Model:
    """Returns a copy of the modules of `start`, whose parameters are those of `start` in memory,
    frozen; buffers are copied, since a trial may change them."""
    # `deepcopy` takes what is in its memo for what it has copied already.
    shared = {
        id(one): nn.Parameter(one.detach(), requires_grad=False) for one in start.parameters()
    }
    return copy.deepcopy(start, shared)
