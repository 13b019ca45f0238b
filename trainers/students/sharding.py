"""FSDP2: models whose weights, gradients and optimiser state are spread over a trial's workers.
Importing this file imports torch's FSDP, which takes seconds; only what is sharded does."""

import copy
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from trainers.world import World

Model = TypeVar("Model", bound=nn.Module)


def shard(module: nn.Module, model: Any, world: World) -> FSDPModule:
    """Returns `module`, of which each worker keeps only its part of each weight from now on, on its
    device. The layers of `model`, a part of it, are gathered one by one as they compute; the rest,
    an output head among it, is gathered once in a forward pass of `module` and stays until the
    backward pass is over. All workers call it with the same weights."""
    assert world.group is not None
    mesh = DeviceMesh.from_group(world.group, world.device.type)
    for one in module.parameters():  # FSDP takes no other layout, such as channels last
        one.data = one.data.contiguous()
    for layer in reversed(_layers(model)):  # those inside others first
        fully_shard(layer, mesh=mesh)
    sharded = fully_shard(module, mesh=mesh)
    # A worker whose micro-batch is empty may have no gradient where the others have one.
    sharded.set_reduce_scatter_unused_params(True)
    return sharded


def outline_of(module: Model) -> Model:
    """Returns a copy of a module without the numbers of its parameters, to be filled in by `fill`
    once `module` is sharded."""
    # `deepcopy` takes what is in its memo for what it has copied already.
    known: dict[int, Any] = {
        id(one): nn.Parameter(torch.empty_like(one, device="meta"), one.requires_grad)
        for one in module.parameters()
    }
    return copy.deepcopy(module, known | {id(one): one for one in module.buffers()})


def fill(outline: nn.Module, sharded: nn.Module) -> None:
    """Puts the whole parameters of a sharded module, its buffers and whatever else a checkpoint
    keeps of it into its outline. All workers call it."""
    filled: dict[nn.Parameter, nn.Parameter] = {}  # weights that are tied stay so
    for source, target in zip(sharded.modules(), outline.modules(), strict=True):
        for name, one in source._parameters.items():
            if one is not None and one not in filled:
                filled[one] = nn.Parameter(whole(one.detach()), one.requires_grad)
            target._parameters[name] = None if one is None else filled[one]
        target._buffers.update(source._buffers)
        if type(source).get_extra_state is not nn.Module.get_extra_state:
            target.set_extra_state(source.get_extra_state())


def empty(outline: nn.Module) -> None:
    """Frees what `fill` put into an outline."""
    empties: dict[nn.Parameter, nn.Parameter] = {}
    for module in outline.modules():
        for name, one in module._parameters.items():
            if one is not None:
                free = nn.Parameter(torch.empty_like(one, device="meta"), one.requires_grad)
                module._parameters[name] = empties.setdefault(one, free)


def whole(one: Tensor) -> Tensor:
    """Returns the whole of a tensor of which each worker has its part. All workers call it."""
    return one.full_tensor() if isinstance(one, DTensor) else one


def placed(one: Tensor, like: Tensor) -> Tensor:
    """Returns a whole tensor, which every worker has, as `like` is: this worker's part of it where
    that is sharded."""
    if not isinstance(like, DTensor):
        return one
    return distribute_tensor(one, like.device_mesh, like.placements, src_data_rank=None)


def _layers(model: Any) -> list[nn.Module]:
    """The modules that transformers, too, would not spread over devices: a model's layers, but for
    those that share a weight with another module. The networks that are made here name none."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    uses = Counter(one for module in model.modules() for one in module._parameters.values())
    return [
        module
        for module in model.modules()
        if type(module).__name__ in names and all(uses[one] == 1 for one in module.parameters())
    ]
