"""Trials that learn from two views of each image: which views they are, what is cached of them, and
that an interrupted trial goes on with the very same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_support import TASK, convnet, request_of, run, trial_of

from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.tasks import table
from trainers.tasks.image_classification.data import ImageBatch, ImageData
from trainers.tasks.image_classification.models import Classifier
from trainers.teachers.cache import CacheRequest
from trainers.teachers.cache_build import build, plan_cache
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Augmentation
from trainers.trial.reporting import Leave
from trainers.trial.seen import Seen
from trainers.trial.sources import Prepared

TURNS = {"augmentation": "crop", "views": 2}
TWO = {"second_view": "rand_augment", "divergence": "multi_level", "tau": 4.0}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def prepared(home: Path) -> Prepared:
    return prepare(request_of(**TURNS, second_view="rand_augment"), home)


def opened(prepared: Prepared, kind: str = "rand_augment") -> ImageData:
    return ImageData.open(Path(prepared.data), Seen(second_view=Augmentation(kind)))


def test_the_first_view_is_the_one_that_trials_without_a_second_have(prepared: Prepared) -> None:
    one = ImageData.open(Path(prepared.data)).splits["train"]
    two = opened(prepared).splits["train"]
    examples = np.array([5, 310, 7])
    first, both = one.collate(examples), two.collate(examples)
    assert torch.equal(both.pixels[:3], first.pixels)
    assert both.labels.tolist() == [label for label in first.labels.tolist() for _ in range(2)]
    assert both.sequence_ids.tolist() == [0, 0, 1, 1, 2, 2]
    assert not torch.equal(both.pixels[:3], both.pixels[3:])
    # The second one is drawn apart, so that of the same kind it is another.
    same_kind = opened(prepared, "crop").splits["train"].collate(examples)
    assert not torch.equal(same_kind.pixels[:3], same_kind.pixels[3:])
    assert (two.num_positions(examples), one.num_positions(examples)) == (6, 3)
    assert len(two.collate(np.array([], np.int64)).labels) == 0


def test_a_second_view_is_the_same_in_any_batch(prepared: Prepared) -> None:
    split = opened(prepared).splits["train"]
    together, alone = split.collate(np.array([10, 310, 11])), split.collate(np.array([310]))
    assert torch.equal(alone.pixels[1], together.pixels[4])


def test_validation_has_one_view_which_is_not_changed(prepared: Prepared) -> None:
    plain, both = (
        data.splits["validation"].collate(np.arange(4))
        for data in (ImageData.open(Path(prepared.data)), opened(prepared))
    )
    assert torch.equal(plain.pixels, both.pixels) and len(both.labels) == 4


def test_views_go_through_the_network_apart(prepared: Prepared) -> None:
    """Batch norms have the moments of views of one kind, as in MLKD's code."""
    runtime = table.task_named(TASK).runtime()
    cpu = torch.device("cpu")
    model = runtime.load_model(
        Path(prepared.student), cpu, attention=None, dtype=torch.float32, trust=False
    ).train()
    batch = opened(prepared).splits["train"].collate(np.arange(20))
    found = Classifier(model, 10).hidden(batch)
    for view in range(2):
        pixels = batch.pixels[20 * view : 20 * view + 20]
        torch.testing.assert_close(found[view::2], model(pixel_values=pixels).logits)
    none = ImageBatch("train", batch.examples[:0], batch.pixels[:0], batch.labels[:0])
    assert Classifier(model, 10).hidden(none).shape == (0, 10)


def test_data_and_teacher_are_those_of_trials_without_a_second_view(
    home: Path, prepared: Prepared
) -> None:
    without = prepare(request_of(**TURNS), home)
    assert (without.data, without.teacher) == (prepared.data, prepared.teacher)
    assert prepared.num_train_tokens == 2 * without.num_train_tokens == 600


def test_the_cache_has_both_views_and_trials_learn_the_same_from_it(
    prepared: Prepared, tmp_path: Path
) -> None:
    online = trial_of(prepared, **TURNS, **TWO, epochs=3)
    plan = plan_cache(CacheRequest.of_trial(online, table.task_named(TASK)), tmp_path / "caches")
    assert sum(shard.num_positions for shard in plan.shards) == 2 * 2 * 300 + 100
    one = online.model_copy(update={"config": trial_of(prepared, **TURNS).config})
    other = plan_cache(CacheRequest.of_trial(one, table.task_named(TASK)), tmp_path / "caches")
    assert other.key != plan.key
    paths = online.paths.model_copy(update={"teacher_cache": str(build(plan))})
    cached = online.model_copy(update={"teacher_source": "cache:float32", "paths": paths})
    losses = [
        [step["soft_loss"] for step in run(trial, tmp_path / name)[1].steps.values()]
        for name, trial in (("online", online), ("cached", cached))
    ]
    # the teacher met the images in other batches, which rounds differently
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("views", [2, 0])
def test_an_interrupted_epoch_goes_on_with_the_same_two_views(
    home: Path, views: int, tmp_path: Path
) -> None:
    turns = TURNS | {"views": views}
    found = prepare(request_of(**turns, second_view="rand_augment"), home)
    trial = trial_of(found, **turns, **TWO, seed=3)
    whole, _ = run(trial, tmp_path / "whole")
    first, _ = run(trial, tmp_path / "cut", stop_after=13, reason=Leave.NODE_GOES)
    second, _ = run(trial, tmp_path / "cut")
    assert (first.steps, second.weights_sha256) == (13, whole.weights_sha256)
    assert second.metrics == whole.metrics


def test_trials_see_the_same_views_whatever_they_learn_by(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[bytes] = []
    hidden = Classifier.hidden

    def watched(network: Classifier, batch: ImageBatch) -> torch.Tensor:
        if network.model.training:
            seen.append(batch.pixels.numpy().tobytes())
        return hidden(network, batch)

    monkeypatch.setattr(Classifier, "hidden", watched)
    for number, other in enumerate(({}, {"divergence": "forward_kl", "tau": 1.0})):
        run(trial_of(prepared, **TURNS, **(TWO | other), epochs=2), tmp_path / str(number))
    half = len(seen) // 2
    assert half == 20 and seen[:half] == seen[half:]


def test_a_look_at_the_loss_takes_validation_images_for_what_they_are(tmp_path: Path) -> None:
    """They have one view each, whose number may be odd."""
    data = {"train": "builtin:digits", "validation": "builtin:digits"}
    data |= {"max_train_examples": 300, "max_validation_examples": 33}
    found = prepare(request_of(data=data), tmp_path / "home")
    two = {"second_view": "crop", "divergence": "multi_level", "diagnostics_share": 1.0}
    run(trial_of(found, **two, epochs=2), tmp_path / "two")
    run(trial_of(found, **two | {"second_view": "none"}, epochs=2), tmp_path / "one")
    first, other = (
        json.loads((tmp_path / name / "diagnostics.json").read_text())["looks"][0]
        for name in ("two", "one")
    )
    assert (first["num_positions"], first["metrics"]) == (33, other["metrics"])


def test_a_plan_counts_both_views(home: Path) -> None:
    facts = inspect(request_of(**TURNS, second_view="rand_augment"), home)
    assert (facts.num_train_examples, facts.num_train_tokens, facts.num_views) == (300, 600, 2)
    assert "of 1 x 8 x 8, rand_augment beside each" in facts.found["data"]
    facts = inspect(request_of(views=3, second_view="crop_flip"), home)
    assert facts.num_views == 3  # the first is the image as it is


@pytest.mark.parametrize(
    ("config", "is_cached"),
    [
        ({"second_view": "rand_augment", "views": 2}, True),
        ({"second_view": "rand_augment"}, False),
        ({"augmentation": "crop"}, False),
        ({}, True),
    ],
)
def test_new_views_in_each_epoch_are_not_cached(config: dict[str, Any], is_cached: bool) -> None:
    trial = TrialConfig.model_validate({"task": TASK} | config)
    assert (table.task_named(TASK).why_not_cached(trial) == "") == is_cached


def test_views_of_images_that_are_not_changed_are_refused(tmp_path: Path) -> None:
    student = {"config": convnet("small_cnn", 8)}
    with pytest.raises(ValueError, match=r"data\.views: images have several views only with an"):
        inspect(request_of(student=student, views=3), tmp_path)
