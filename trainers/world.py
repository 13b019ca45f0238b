"""The workers of one trial: who this one is, and the few things they say to each other."""

import gc
from dataclasses import dataclass
from typing import Any

import torch

# The defaults of its functions would keep a group that was there before it was imported.
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
        """Returns the sum of `tensor` over all workers (in place where there are several)."""
        if self.group is not None:
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def from_first(self, value: Any) -> Any:
        """Returns the first worker's `value` on every worker."""
        if self.group is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, group_src=0, group=self.group, device=self._wire)
        return box[0]

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


def leave(group: dist.ProcessGroup) -> None:
    """Gives `group` back; whoever calls this holds no model of it any more, and drops `group` next.

    The group ends its threads when the last one lets go of it, and they may need the interpreter's
    lock for that. So the last one must not be a `DistributedDataParallel` in a cycle, which would
    wait for them with the lock in its hand, nor may they live when the interpreter ends.
    """
    gc.collect()
    dist.destroy_process_group(group)
