"""The literature's networks: their sizes, their maps, and that a saved one opens anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from trainers.tasks.image_classification import models
from trainers.tasks.image_classification.networks import (
    ARCHITECTURES,
    SIZED,
    Cells,
    ConvNet,
    ConvNetConfig,
)

# Counted by instantiating the authors' own code with 100 classes.
PARAMETERS = {
    "resnet8": 83892,
    "resnet14": 181108,
    "resnet20": 278324,
    "resnet32": 472756,
    "resnet44": 667188,
    "resnet56": 861620,
    "resnet110": 1736564,
    "resnet8x4": 1233540,
    "resnet32x4": 7433860,
    "resnet50": 23705252,
    "wrn_16_1": 180916,
    "wrn_16_2": 703284,
    "wrn_40_1": 569780,
    "wrn_40_2": 2255156,
    "vgg8": 3965028,
    "vgg11": 9277284,
    "vgg13": 9462180,
    "vgg16": 14774436,
    "vgg19": 20086692,
    "mobilenet_v2": 812836,
    "shufflenet_v1": 949258,
    "shufflenet_v2": 1355528,
}
# Sides of the last map for 32 pixels, as in the literature's descriptions.
SIDES = {"mobilenet_v2": 2, **dict.fromkeys(("vgg8", "vgg11", "vgg13", "vgg16", "vgg19"), 4)}
SIDES |= dict.fromkeys(("resnet50", "shufflenet_v1", "shufflenet_v2"), 4)


def on_meta(name: str, **sizes: int) -> ConvNet:
    with torch.device("meta"):
        return ConvNet(ConvNetConfig(architecture=name, num_labels=100, **sizes))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_has_the_literatures_size_and_map(name: str) -> None:
    model = on_meta(name)
    assert sum(weight.numel() for weight in model.parameters()) == PARAMETERS[name]
    last = model.features(torch.empty(2, 3, 32, 32, device="meta"))
    assert tuple(last.shape[2:]) == (SIDES.get(name, 8),) * 2
    assert model(torch.empty(2, 3, 32, 32, device="meta")).logits.shape == (2, 100)


@pytest.mark.parametrize("name", SIZED)
def test_a_small_network_has_the_width_it_is_given(name: str) -> None:
    narrow, wide = (
        sum(weight.numel() for weight in on_meta(name, width=width).parameters())
        for width in (8, 16)
    )
    # the square of the width, and what grows with it alone
    assert 1.8 < wide / narrow < 4


def test_a_block_adds_its_input() -> None:
    """A residual network whose branches give nothing is its stem and what projects."""
    model = ConvNet(ConvNetConfig(architecture="resnet8", num_labels=3)).eval()
    first = model.features[3]
    nn.init.zeros_(first.branch[-1].weight)
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(first(x), x)  # nonnegative, so the ReLU after the sum changes nothing


def test_the_classifier_sees_the_mean_of_the_map() -> None:
    model = ConvNet(ConvNetConfig(architecture="small_cnn", num_labels=3, num_channels=1)).eval()
    x = torch.rand(2, 1, 8, 8)
    by_position = model.classifier(model.features(x).permute(0, 2, 3, 1))
    torch.testing.assert_close(model(x).logits, by_position.mean((1, 2)))


def test_convolutions_are_drawn_by_what_goes_out() -> None:
    torch.manual_seed(0)
    model = ConvNet(ConvNetConfig(architecture="resnet8x4", num_labels=100))
    weight = model.features[-1].branch[3].weight  # 256 x 256 x 3 x 3
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


OPENED_ELSEWHERE = """
import sys, torch
from transformers import AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
assert "trainers" not in sys.modules
print(model.eval()(torch.ones(1, 1, 8, 8)).logits.sum().item())
"""


def test_a_saved_folder_opens_without_this_project(tmp_path: Path) -> None:
    models.register()
    model = ConvNet(ConvNetConfig(architecture="small_cnn", num_labels=3, num_channels=1)).eval()
    model.save_pretrained(tmp_path / "saved")
    done = subprocess.run(
        [sys.executable, "-c", OPENED_ELSEWHERE, str(tmp_path / "saved")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={"HF_HOME": str(tmp_path / "hf"), "PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    expected = model(torch.ones(1, 1, 8, 8)).logits.sum().item()
    assert float(done.stdout) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["resnet8", "vgg8", "mobilenet_v2", "shufflenet_v1", *SIZED])
def test_a_loaded_network_computes_what_was_saved(name: str, tmp_path: Path) -> None:
    """In float64, since its maps lie in another order, in which sums are taken."""
    models.register()
    config = ConvNetConfig(architecture=name, width=4, num_labels=3, num_channels=2)
    saved = ConvNet(config).double().eval()
    saved.save_pretrained(tmp_path)
    loaded = models.load(tmp_path, attention=None, dtype=torch.float64, trust=False)
    maps: list[torch.Tensor] = []
    for module in loaded.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 2:
            module.register_forward_hook(lambda _m, _i, out: maps.append(out))
    x = torch.rand(2, 2, 32, 32, dtype=torch.float64)
    logits = [model(x).logits for model in (saved, loaded)]
    torch.testing.assert_close(logits[1], logits[0])
    assert maps
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in maps)
    for each in logits:
        each.square().sum().backward()
    for one, other in zip(saved.parameters(), loaded.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad)


@pytest.mark.parametrize("shape", [(7, 7), (2, 2), (4, 4), (9, 5)])
def test_cells_are_what_adaptive_pooling_makes(shape: tuple[int, int]) -> None:
    x = torch.rand(3, 5, *shape, dtype=torch.float64)
    pooled = nn.functional.adaptive_avg_pool2d(x, 4).reshape(3, 80, 1, 1)
    torch.testing.assert_close(Cells()(x), pooled)


def test_cells_that_were_made_for_an_evaluation_are_fit_for_training() -> None:
    with torch.inference_mode():
        Cells()(torch.rand(1, 2, 6, 3))
    x = torch.rand(1, 2, 6, 3, requires_grad=True)
    Cells()(x).sum().backward()
    assert x.grad is not None


def test_the_products_of_a_forward_pass_are_counted() -> None:
    sizes = {"num_labels": 10, "num_channels": 1, "image_size": 28}
    given = {"model_type": "convnet", "architecture": "strided_cnn", "width": 16}
    model = models.built(given, "student", sizes)
    # two convolutions, the cells of their map, and the classifier
    expected = 14 * 14 * 16 * 9 + 7 * 7 * 32 * 16 * 9 + 32 * 49 * 16 + 512 * 10
    assert models.products_of(model, "student", sizes) == expected
    assert models.products_of(model, "student", {}) is None


def test_a_network_that_an_image_is_too_small_for_is_refused_by_its_plan() -> None:
    sizes = {"num_labels": 10, "num_channels": 1, "image_size": 2}
    model = models.built({"model_type": "convnet", "architecture": "small_cnn"}, "student", sizes)
    with pytest.raises(ValueError, match=r"student\.config: it must take the data's images of 2 x"):
        models.products_of(model, "student", sizes)


@pytest.mark.parametrize("name", ["num_channels", "num_labels", "width"])
def test_a_count_that_is_none_is_named(name: str) -> None:
    sizes = {"num_labels": 10, "num_channels": 1, "image_size": 8}
    given = {"model_type": "convnet", "architecture": "small_cnn", name: 0}
    with pytest.raises(
        ValueError, match=rf"student\.config\.{name}: it must be 1 or more, but got 0"
    ):
        models.built(given, "student", sizes)
