"""A micro-batch of one image, of which a batch norm may see a single value."""

from pathlib import Path

import pytest
from digits_support import convnet, request_of, run, trial_of

from trainers.preparing.prepare import prepare
from trainers.trial.budget import smallest_micro_batch
from trainers.trial.config import TrialConfig
from trainers.trial.reporting import Outcome

# Three times halved, a map of the 8 x 8 digits has one pixel.
DEEP = {"config": convnet("vgg8", 8)}


def test_a_norm_that_sees_one_pixel_is_refused_before_a_step(tmp_path: Path) -> None:
    found = prepare(request_of(student=DEEP), tmp_path / "home")
    rule = "batch_size: ConvNet must get two images or more at once, .* 300 images has only one"
    with pytest.raises(ValueError, match=rule):
        run(trial_of(found, batch_size=23), tmp_path / "one")  # 13 * 23 + 1
    result, _ = run(trial_of(found, batch_size=22, steps=14, epochs=None), tmp_path / "two")
    assert result.outcome == Outcome.COMPLETED


def test_a_sweep_refuses_it_while_it_is_prepared(tmp_path: Path) -> None:
    config = TrialConfig(task="image_classification", batch_size=23)
    with pytest.raises(ValueError, match="batch_size: ConvNet must get two images or more"):
        prepare(request_of(student=DEEP, scored_as=config), tmp_path)


def test_one_image_is_enough_where_maps_are_larger(tmp_path: Path) -> None:
    found = prepare(request_of(), tmp_path / "home")
    result, _ = run(trial_of(found, batch_size=23, epochs=1), tmp_path / "out")
    assert result.outcome == Outcome.COMPLETED


@pytest.mark.parametrize(
    ("config", "workers", "expected"),
    [
        ({"batch_size": 32}, 1, 12),  # 300 = 9 * 32 + 12
        ({"batch_size": 300}, 1, 300),
        ({"batch_size": 500}, 1, 300),
        ({"batch_size": 23}, 1, 1),
        ({"batch_size": 32}, 8, 1),  # 12 on 8: some have two, some one
        ({"batch_size": 32}, 12, 1),
        ({"batch_size": 32, "gradient_accumulation": 5}, 1, 2),
        ({"batch_size": 32, "gradient_accumulation": 7}, 2, 1),  # 6 in 7 parts: one of them empty
        ({"batch_size": 23, "steps": 13}, 1, 23),  # never at the end of an epoch
        ({"batch_size": 23, "steps": 14}, 1, 1),
        ({"batch_size": 32, "student_examples": 65}, 1, 1),
    ],
)
def test_the_smallest_micro_batch(config: dict[str, int], workers: int, expected: int) -> None:
    trial = TrialConfig.model_validate({"task": "image_classification"} | config)
    assert smallest_micro_batch(trial, 300, workers) == expected
