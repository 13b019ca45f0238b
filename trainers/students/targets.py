"""Which layers of a model an adapter is beside."""

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from trainers.nearest import nearest

LINEAR = (nn.Linear, Conv1D)


def target_names(
    model: Any, targets: tuple[str, ...] | None, place: str = "student.adapter"
) -> list[str]:
    """Returns the names of the linear layers of `model` that `targets` name, each in whole or by
    its end: by default all but the head. Raises `ValueError` with the `place` of the adapter where
    there are none, for a target without any, and for the head, whose matrix the loss takes as it
    is."""
    linear = {name for name, module in model.named_modules() if isinstance(module, LINEAR)}
    heads = {name for name in linear if _is_head(model, model.get_submodule(name))}
    kind = type(model).__name__
    if targets is None:
        if not linear - heads:
            raise ValueError(
                f"{place}: an adapter is beside linear layers, but {kind} has none beside its "
                f"head. Train it whole: leave {place} out."
            )
        return sorted(linear - heads)
    by_target = {target: {name for name in linear if _ends(name, target)} for target in targets}
    for target, names in by_target.items():
        if not names:
            ends = sorted({name.rsplit(".", 1)[-1] for name in linear - heads})
            raise ValueError(
                f"{place}.targets: each must match a linear layer of {kind}, but '{target}' "
                f"matches none.{nearest(target, ends)} Known here: {', '.join(ends)}."
            )
        if names & heads:
            raise ValueError(
                f"{place}.targets: none may match the head, whose matrix the loss takes as it is, "
                f"but '{target}' does. Leave it out."
            )
    return sorted(set().union(*by_target.values()))


def numbers_per_rank(model: Any, names: list[str]) -> int:
    """Returns how many numbers an adapter of rank 1 has beside the layers of these names: A as many
    as each takes in, and B as many as it puts out. A rank takes so many more."""
    return sum(sum(model.get_submodule(name).weight.shape) for name in names)


def _is_head(model: Any, module: nn.Module) -> bool:
    head = model.get_output_embeddings()
    if head is not None:
        return bool(module is head)
    # of a classifier, whose last layer has a row for each class
    return bool(getattr(module, "out_features", None) == model.config.num_labels)


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
