"""One of two DDP and FSDP processes of `test_loss_on_two_ranks.py`: `python rank_of_two.py RANK
FOLDER`."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from trainers.losses import DistillationLoss, LossContext
from trainers.sampled import Author, Sampled
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.config import TrialConfig
from trainers.world import World, leave

NUM, VOCAB, WIDTH = 30, 13, 6
ROWS = ([0, 20], [20, 30])  # uneven on purpose
CONFIGS = {
    "cist": TrialConfig(divergence="generalized_jsd", policy="cist"),
    "curriculum": TrialConfig(policy="curriculum", curriculum_ramp=0.0),
    "look_ahead": TrialConfig(policy="look_ahead", tau=2.0, look_ahead_step=0.5),
    "whitened": TrialConfig(
        sequence_term="kl_reward", discount=0.9, whiten=True, student_share=0.5, tau=2.0
    ),
}
TEXT_LENGTH = 5  # of which each rank has whole ones


ALONE = World()


class Student(nn.Module):
    """A body, a head and the loss behind them, as one module for DDP to wrap."""

    def __init__(self, config: TrialConfig, world: World = ALONE) -> None:
        super().__init__()
        self.world = world
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.body, self.head = draw(WIDTH, WIDTH), draw(VOCAB, WIDTH)
        self.loss = DistillationLoss(config, VOCAB, fused=True).double()

    def forward(self, inputs: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
        """Returns the total over the positions."""
        signal = TeacherSignal(teacher, OutputHead(torch.eye(VOCAB, dtype=torch.float64)))
        ids = torch.arange(len(labels)) // TEXT_LENGTH
        authors = torch.full((len(labels) // TEXT_LENGTH,), int(Author.STUDENT))
        drawn = Sampled(authors, authors > 0, torch.zeros(len(labels)))
        has_term = self.loss.config.sequence_weight is not None
        sampled = drawn if has_term else None  # what is drawn has no hard loss
        context = LossContext(ids, step=5, num_steps=10, sampled=sampled, world=self.world)
        hidden = inputs @ self.body
        return self.loss(hidden, OutputHead(self.head), labels, signal, context).total


def data() -> tuple[Tensor, Tensor, Tensor]:
    """Returns inputs, labels and teacher logits of all positions."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(NUM, WIDTH, generator=generator, dtype=torch.float64)
    teacher = 2 * torch.randn(NUM, VOCAB, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(VOCAB, (NUM,), generator=generator), teacher


def gradients(module: nn.Module, rows: slice, num_ranks: int) -> dict[str, Tensor]:
    """Returns the gradients after one backward pass over `rows`, normalised over all positions."""
    inputs, labels, teacher = (values[rows] for values in data())
    (module(inputs, labels, teacher) * num_ranks / NUM).backward()
    named = module.named_parameters()
    found = {name.removeprefix("module."): p.grad for name, p in named if p.grad is not None}
    return {name: g.full_tensor() if isinstance(g, DTensor) else g for name, g in found.items()}


def main() -> None:
    """Writes this rank's gradients of each config to the folder."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    world = World(rank, 2, group=torch.distributed.group.WORLD)
    for name, config in CONFIGS.items():
        module = nn.parallel.DistributedDataParallel(Student(config, world))
        torch.save(gradients(module, slice(*ROWS[rank]), 2), folder / f"{name}-{rank}.pt")
        sharded = fully_shard(Student(config, world), mesh=mesh)
        torch.save(gradients(sharded, slice(*ROWS[rank]), 2), folder / f"sharded-{name}-{rank}.pt")
    # An empty rank takes part in every collective all the same.
    rows = slice(0, NUM) if rank == 0 else slice(0, 0)
    for name in ("cist", "whitened"):
        module = nn.parallel.DistributedDataParallel(Student(CONFIGS[name], world))
        torch.save(gradients(module, rows, 2), folder / f"empty-{name}-{rank}.pt")
    del module, sharded, world
    leave(torch.distributed.group.WORLD)


if __name__ == "__main__":
    main()
