"""What training a classifier keeps, counted without numbers."""

import pytest
import torch

from trainers.tasks.image_classification import activations, models

SIZES = {"num_labels": 10, "num_channels": 3, "image_size": 16}


@pytest.mark.parametrize("architecture", ["small_cnn", "small_resnet"])
def test_the_count_is_what_autograd_keeps(architecture: str) -> None:
    config = {"model_type": "convnet", "architecture": architecture, "width": 8}
    kept = activations.kept_by(models.built(config, "student", SIZES), SIZES)
    assert kept is not None
    model = models.built(config, "student", SIZES).to_empty(device="cpu").train()
    memories: dict[int, torch.Tensor] = {}
    weights = {weight.data_ptr() for weight in model.parameters()}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        memories[saved.untyped_storage().data_ptr()] = saved
        return saved

    images = torch.zeros(2, 3, 16, 16)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        model(pixel_values=images)
    sizes = [
        memory.untyped_storage().nbytes()
        for place, memory in memories.items()
        if place not in weights
    ]
    assert kept.layers == 1
    # of both images; the moments of batch norms are of none
    assert 2 * kept.per_position * 4 == pytest.approx(sum(sizes), rel=0.05)


def test_nothing_is_counted_for_images_of_unknown_size() -> None:
    config = {"model_type": "convnet", "architecture": "small_cnn", "width": 8}
    assert activations.kept_by(models.built(config, "student", {}), {}) is None
