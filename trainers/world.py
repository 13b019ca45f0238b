"""The workers of one trial: which one this is, and the few values that they exchange."""

import gc
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

# Imported here, before any group exists: the defaults of its functions keep the group that exists
# when it is imported.
import torch.distributed.nn.functional
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class World:
    """One worker's place among a trial's workers. `group` is None for a single worker, which never
    communicates; otherwise the group of this trial alone."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    group: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this worker reports, writes checkpoints and saves the student."""
        return self.rank == 0

    def summed(self, tensor: Tensor) -> Tensor:
        """Returns the sum of `tensor` over all workers. Where there are several, `tensor` itself is
        overwritten with it."""
        if self.group is not None:
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def flag(self, value: bool) -> bool:
        """Returns the first worker's `value` on every worker."""
        return bool(self.number(value))

    def number(self, value: int) -> int:
        """Returns the first worker's `value`, 0 to 255, on every worker; one byte, so cheap enough
        for each step."""
        if self.group is None:
            return value
        box = torch.tensor([value], dtype=torch.uint8, device=self._wire)
        dist.broadcast(box, group_src=0, group=self.group)
        return int(box.item())

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites `tensors` on every worker with the first one's."""
        for tensor in tensors if self.group is not None else ():
            dist.broadcast(tensor, group_src=0, group=self.group)

    def gathered(self, value: Any) -> list[Any]:
        """Returns every worker's `value`, in the order of ranks."""
        if self.group is None:
            return [value]
        boxes: list[Any] = [None] * self.size
        dist.all_gather_object(boxes, value, group=self.group)
        return boxes

    def barrier(self) -> None:
        """Waits until every worker is here."""
        self.flag(True)

    @property
    def _wire(self) -> torch.device:
        return self.device if self.device.type == "cuda" else torch.device("cpu")


def check_device(device: str) -> None:
    """Raises `ValueError` where this process cannot compute on `device` (cpu | cuda)."""
    if device == "cuda" and not torch.cuda.is_available():
        build = "sees no GPU" if torch.version.cuda else "is built for CPUs alone"
        raise ValueError(
            f"device: a trial with device cuda needs a CUDA device, but got none: torch "
            f"{torch.__version__} {build}. Run it where there is one, or write device: cpu, which "
            "gives other numbers."
        )


def leave(group: dist.ProcessGroup) -> None:
    """Destroys `group`; the caller holds no model of it any more, and drops `group` next."""
    # The group ends its threads when its last reference goes, and they may need the interpreter's
    # lock to end. If that reference is in a `DistributedDataParallel` that only the garbage
    # collector can free, the collector would wait for them while it holds the lock: so garbage is
    # collected while this function still holds a reference. Nor may the threads outlive the
    # interpreter.
    _forget_sharded()
    gc.collect()
    dist.destroy_process_group(group)


def _forget_sharded() -> None:
    """Empties what sharded tensors remember of their operations: the group, which would live on,
    and the next group's tensors would ask for this one."""
    if "torch.distributed.tensor" in sys.modules:
        from torch.distributed.tensor._collective_utils import MeshTopoInfo
        from torch.distributed.tensor._redistribute import (
            _gen_transform_infos,
            clear_redistribute_planner_cache,
        )
        from torch.distributed.tensor.debug import _clear_sharding_prop_cache

        _clear_sharding_prop_cache()  # type: ignore[no-untyped-call]
        MeshTopoInfo.build_from_mesh.cache_clear()
        _gen_transform_infos.cache_clear()
        clear_redistribute_planner_cache()
