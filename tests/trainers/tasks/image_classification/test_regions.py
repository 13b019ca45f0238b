"""Logits of an image's regions: which models have them, and trials that learn from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_support import TASK, convnet, request_of, run, trial_of
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification

from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.tasks import table
from trainers.tasks.image_classification import models, regions
from trainers.tasks.image_classification.data import ImageData
from trainers.tasks.image_classification.inputs import WITH_REGIONS
from trainers.tasks.image_classification.models import Classifier
from trainers.tasks.image_classification.networks import (
    ARCHITECTURES,
    SIZED,
    ConvNet,
    ConvNetConfig,
)
from trainers.teachers.cache import CacheRequest
from trainers.teachers.cache_build import build, plan_cache
from trainers.trial.reporting import Outcome
from trainers.trial.seen import Seen
from trainers.trial.sources import Prepared

TINY: dict[str, dict[str, Any]] = {
    "convnet": {"architecture": "small_cnn", "width": 4},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.35},
    "regnet": {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "groups_width": 8},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
}


def made(model_type: str, **config: Any) -> nn.Module:
    models.register()
    torch.manual_seed(0)
    full = AutoConfig.for_model(model_type, num_labels=7, num_channels=3, **config)
    return AutoModelForImageClassification.from_config(full).eval()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    request = request_of(augmentation="crop", views=2, regions=2)
    return prepare(request, tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("model_type", WITH_REGIONS)
def test_a_region_has_the_logits_of_its_part_of_the_map(model_type: str) -> None:
    model = made(model_type, **TINY[model_type])
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = regions.with_regions(model, pixels, 2).view(2, 5, 7)
        base = model.base_model(pixels)
    features = base if isinstance(base, torch.Tensor) else base.last_hidden_state
    assert features.shape[2] % 2 == 0
    half = features.shape[2] // 2
    torch.testing.assert_close(found[:, 0], model(pixel_values=pixels).logits)
    head = [layer for layer in model.classifier.modules() if isinstance(layer, nn.Linear)][0]
    upper_right = features[:, :, :half, half:].mean((2, 3)) @ head.weight.T + head.bias
    torch.testing.assert_close(found[:, 2], upper_right, rtol=1e-4, atol=1e-5)
    # The parts are alike in size, so their mean is the image's.
    torch.testing.assert_close(found[:, 1:].mean(1), found[:, 0], rtol=1e-4, atol=1e-5)
    regions.check(model, pixels)


@pytest.mark.parametrize("name", sorted({*ARCHITECTURES, *SIZED} - {"strided_cnn"}))
def test_every_network_of_the_literature_has_regions(name: str) -> None:
    model = ConvNet(ConvNetConfig(architecture=name, num_labels=3, width=4)).eval()
    with torch.no_grad():
        assert regions.with_regions(model, torch.randn(1, 3, 32, 32), 4).shape == (1, 17 * 3)
        regions.check(model, torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("vit", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}),
        ("convnext", {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}),  # a norm between
    ],
)
def test_other_models_are_refused(model_type: str, config: dict[str, Any], tmp_path: Path) -> None:
    size = {"image_size": 64} if model_type == "vit" else {}
    with pytest.raises(ValueError, match=r"data\.regions: .* must put the mean over its last"):
        regions.check(made(model_type, **config, **size), torch.randn(2, 3, 64, 64))
    config = {"model_type": model_type, **config}
    rule = rf"data\.regions: the student must be a network .*, but got a {model_type}"
    with pytest.raises(ValueError, match=rule):
        inspect(request_of(student={"config": config}, regions=4), tmp_path)
    inspect(request_of(student={"config": config}), tmp_path)


@pytest.mark.parametrize("name", ["strided_cnn", "vgg8"])
def test_a_map_of_one_pixel_is_refused_by_a_plan(name: str, tmp_path: Path) -> None:
    """A strided network keeps its cells as channels; a VGG leaves one pixel of the digits."""
    rule = r"data\.regions: the last feature map of {} must have more than one pixel"
    student = {"config": convnet(name, 4)}
    with pytest.raises(ValueError, match=rule.format("the student")):
        inspect(request_of(student=student, regions=2), tmp_path)
    inspect(request_of(student=student), tmp_path)
    model = ConvNet(ConvNetConfig(architecture=name, num_channels=1, num_labels=10, width=4))
    with pytest.raises(ValueError, match=rule.format("ConvNet")):
        regions.check(model.eval(), torch.randn(2, 1, 8, 8))


def test_a_batch_without_images_has_as_many_logits(prepared: Prepared) -> None:
    data = ImageData.open(Path(prepared.data), Seen(regions=4))
    model = ConvNet(ConvNetConfig(architecture="small_cnn", num_channels=1, num_labels=10)).train()
    logits = Classifier(model, 10).hidden(data.splits["train"].collate(np.array([], np.int64)))
    assert logits.shape == (0, 170)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_data_and_teacher_are_those_of_trials_without_regions(
    prepared: Prepared, tmp_path: Path
) -> None:
    home = Path(prepared.data).parents[2]
    without = prepare(request_of(augmentation="crop", views=2), home)
    assert (without.data, without.teacher) == (prepared.data, prepared.teacher)
    facts = inspect(request_of(augmentation="crop", views=2, regions=4), home)
    assert facts.teacher_hidden_size == 170
    assert "of 1 x 8 x 8, in 4 x 4 regions" in facts.found["data"]


def test_the_cache_has_the_regions_and_trials_learn_the_same_from_it(
    prepared: Prepared, tmp_path: Path
) -> None:
    with_regions = {"augmentation": "crop", "views": 2, "regions": 2, "tau": 4.0, "epochs": 3}
    online = trial_of(prepared, **with_regions)
    plan = plan_cache(CacheRequest.of_trial(online, table.task_named(TASK)), tmp_path / "caches")
    assert plan.hidden_size == 5 * 10
    paths = online.paths.model_copy(update={"teacher_cache": str(build(plan))})
    cached = online.model_copy(update={"teacher_source": "cache:float32", "paths": paths})
    (of_online, online_steps), (of_cache, cached_steps) = (
        run(trial, tmp_path / name) for name, trial in (("online", online), ("cached", cached))
    )
    losses = [
        [step["soft_loss"] for step in recorder.steps.values()]
        for recorder in (online_steps, cached_steps)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert of_online.outcome == of_cache.outcome == Outcome.COMPLETED
    assert of_online.metrics["top1"] == pytest.approx(of_cache.metrics["top1"], abs=2)
    # The images themselves are evaluated, so that the numbers are those of any other trial.
    still = {"augmentation": "crop", "views": 2, "steps": 1, "epochs": None, "learning_rate": 1e-30}
    metrics = [
        run(trial_of(prepared, **still, regions=each), tmp_path / f"{each}")[0].metrics
        for each in (1, 2)
    ]
    assert metrics[0] == metrics[1]
