"""Loads models whose folder is an adapter: the base that it names, and the adapter beside it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.tasks import locate

if TYPE_CHECKING:
    import torch

Load = Callable[[Path], Any]


def load_with_base(folder: Path, load: Load, *, trust: bool = False) -> Any:
    """Returns the model that the adapter in `folder` and its base are together, as trials train it:
    in evaluation mode, nothing merged. `load` loads the base. Raises `ValueError` where that is
    not there, or is not the model that the adapter was trained beside."""
    base = locate.base_of(folder, "student", trust=trust)
    from trainers.students import lora

    return lora.loaded(load(base), folder)


def merged(folder: Path, base: Path, load: Load) -> Any:
    """Returns the adapter in `folder` added to the weights of its `base`, which `load` loads: a
    whole model. Raises `ValueError` where they do not go together, and for a quantised base."""
    check_plain(locate.read_config(base), str(folder))
    from trainers.students import lora

    return lora.merged(load(base), folder)


def check_plain(config: Mapping[str, Any], place: str) -> None:
    """Raises `ValueError` for the config of a quantised model, with which no adapter is merged."""
    if config.get("quantization_config"):
        raise ValueError(
            f"{place}: an adapter can be merged with plain weights alone, but its base is "
            "quantised. Use the model that was not quantised as its base."
        )


def stored_dtype(folder: Path) -> "torch.dtype":
    """Returns the dtype of the weights in a model's folder, as its config says."""
    import torch

    config = locate.read_config(folder)
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    found = getattr(torch, name.removeprefix("torch."), torch.float32)
    return found if isinstance(found, torch.dtype) else torch.float32
