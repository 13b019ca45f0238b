"""A training step of MLKD, SDD, DIST and GKL beside one of plain KD, for one view of an image and
for two.

python tests/benchmarks/vision/steps.py [--rounds 9]

Batch 64, 100 classes, 32 x 32 pixels in colour, the teacher's logits at hand as from a cache, SGD.
The students are those of the preset `cifar100` and of a study on a CPU, where a loss is a larger
part of a step. CPU seconds of one thread, interleaved in one process, ratio round by round. Making
a batch's views, which a thread does beside the training, is measured apart.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
import stage as stages

from trainers import numerics
from trainers.signal import OutputHead, TeacherSignal
from trainers.tasks.image_classification.data import ImageBatch
from trainers.tasks.image_classification.models import Classifier
from trainers.tasks.image_classification.networks import ConvNet, ConvNetConfig
from trainers.tasks.image_classification.views import mixed, views
from trainers.training.optimizer import make_optimizer
from trainers.training.student import StudentWithLoss
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Augmentation
from trainers.trial.seen import Seen

BATCH, CLASSES, SIDE = 64, 100, 32
BOUND = 1.3
STUDENTS = {"resnet8x4": {"architecture": "resnet8x4"}, "small_cnn": {"width": 16}}
KD: dict[str, Any] = {"divergence": "forward_kl", "tau": 4.0}
TWO = {"second_view": "rand_augment"}
# Each with the plain step that it is compared with.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "MLKD, one view": ({"divergence": "multi_level", "tau": 4.0}, KD),
    "MLKD, two views": ({"divergence": "multi_level", "tau": 4.0} | TWO, KD | TWO),
    "SDD, 4 x 4 regions": (KD | {"regions": 4}, KD),
    "SDD on DKD": ({"divergence": "decoupled", "tau": 4.0, "regions": 4}, KD),
    "DIST": ({"divergence": "correlation"}, KD),
    "GKL": ({"divergence": "generalized_kl", "tau": 4.0}, KD),
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    numerics.apply(stages.resolved())
    print("| student | loss | CPU ms a step | of plain KD's | bound |\n|---|---|---|---|---|")
    for student in STUDENTS:
        for name, (config, plain) in VARIANTS.items():
            pair = {"ours": step_of(student, config), "plain": step_of(student, plain)}
            seconds = stages.interleaved(pair, rounds)
            print(row(student, name, seconds))
    print("\n| views of a batch | CPU ms |\n|---|---|")
    kinds = {kind: views_of(kind) for kind in Augmentation if kind != Augmentation.NONE}
    for name, times in stages.interleaved(kinds, rounds).items():
        print(f"| `{name}` | {1e3 * statistics.median(times):.1f} |")


def row(student: str, name: str, seconds: dict[str, list[float]]) -> str:
    """Returns a line of the table."""
    took = 1e3 * statistics.median(seconds["ours"])
    ratio = stages.ratio(seconds, "ours", "plain")
    return f"| {student} | {name} | {took:.1f} | {ratio} | {BOUND} |"


def step_of(student: str, given: dict[str, Any]) -> Callable[[], None]:
    """Returns a training step of a student: forward, loss, backward, update."""
    config = TrialConfig.model_validate(
        {"task": "image_classification", "optimizer": "sgd", "learning_rate": 1e-3} | given
    )
    torch.manual_seed(0)
    model = ConvNet(ConvNetConfig(num_labels=CLASSES, **STUDENTS[student])).train()
    module = StudentWithLoss.build(
        Classifier(model, CLASSES), config, device=torch.device("cpu"), numerics=stages.resolved()
    ).train()
    seen = Seen.by(config)
    count = BATCH * seen.num_rows
    batch = ImageBatch(
        "train",
        np.arange(BATCH),
        torch.randn(count, 3, SIDE, SIDE),
        torch.randint(CLASSES, (BATCH,)).repeat_interleave(seen.num_rows),
        regions=config.regions,
    )
    teacher = 3 * torch.randn(count, CLASSES * seen.num_logits)
    signal = TeacherSignal(teacher, OutputHead.identity(CLASSES, torch.device("cpu")))
    optimizer = make_optimizer(config, module)

    def step() -> None:
        sums = module(batch, signal, step=0, num_steps=1)
        (sums.total / count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def views_of(kind: Augmentation) -> Callable[[], Any]:
    """Returns what makes one view of each image of a batch."""
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, 3, SIDE, SIDE), dtype=np.uint8)
    draws = mixed(np.arange(BATCH))
    return lambda: views(pixels, draws, kind)


if __name__ == "__main__":
    main()
