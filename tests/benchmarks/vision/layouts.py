"""Forward and backward pass of networks whose weights lie channels last, as a trial loads them,
beside the same network as it is saved.

python tests/benchmarks/vision/layouts.py [--rounds 9]

Batch 64; CPU seconds of one thread, interleaved in one process, ratio round by round.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
import stage as stages

from trainers import numerics
from trainers.tasks.image_classification import models
from trainers.tasks.image_classification.networks import ConvNet, ConvNetConfig

BATCH = 64
GREY, COLOUR = (1, 28, 10), (3, 32, 100)  # channels, side, classes
NETWORKS = {
    "strided_cnn": GREY,
    "small_cnn": GREY,
    "strided_resnet": GREY,
    "resnet8x4": COLOUR,
    "resnet20": COLOUR,
    "wrn_16_2": COLOUR,
    "vgg8": COLOUR,
    "mobilenet_v2": COLOUR,
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    numerics.apply(stages.resolved())
    models.register()
    print("| network | CPU ms as saved | channels last ÷ as saved |\n|---|---|---|")
    for name, (channels, side, classes) in NETWORKS.items():
        config = ConvNetConfig(architecture=name, num_channels=channels, num_labels=classes)
        pixels, labels = torch.randn(BATCH, channels, side, side), torch.randint(classes, (BATCH,))
        with tempfile.TemporaryDirectory() as folder:
            saved = ConvNet(config)
            saved.save_pretrained(folder)
            place = Path(folder)
            loaded = models.load(place, attention=None, dtype=torch.float32, trust=False).train()
        pair = {"loaded": step_of(loaded, pixels, labels), "saved": step_of(saved, pixels, labels)}
        seconds = stages.interleaved(pair, rounds)
        took = 1e3 * statistics.median(seconds["saved"])
        print(f"| {name} | {took:.1f} | {stages.ratio(seconds, 'loaded', 'saved')} |")


def step_of(model: ConvNet, pixels: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """Returns a forward and backward pass."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(pixels, labels=labels).loss.backward()

    return step


if __name__ == "__main__":
    main()
