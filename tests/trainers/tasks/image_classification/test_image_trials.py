"""Trials over images: prepared, cached, trained, interrupted, refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_support import TASK, convnet, request_of, run, trial_of

from trainers import numerics
from trainers.files.columns import read_columns
from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.tasks import table
from trainers.tasks.image_classification import images
from trainers.tasks.image_classification.data import ImageData, ViewOrder
from trainers.tasks.image_classification.models import Classifier
from trainers.teachers.cache import CacheRequest
from trainers.teachers.cache_build import build, plan_cache
from trainers.training.run import check_fingerprints
from trainers.training.student import StudentWithLoss
from trainers.trial.fields import Precision
from trainers.trial.reporting import Leave, Outcome
from trainers.trial.sources import Prepared
from trainers.world import World

VIEWED = {"augmentation": "crop", "views": 3}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(request_of(**VIEWED), tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def data(prepared: Prepared) -> ImageData:
    return ImageData.open(Path(prepared.data))


# -- views and batches


def test_an_epoch_has_one_view_of_each_image(data: ImageData) -> None:
    split = data.splits["train"]
    assert (len(split), split.examples_per_epoch) == (900, 300)
    order = split.order(batch_size=64, seed=5)
    for epoch in range(4):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        view, image = np.divmod(np.concatenate([order.examples(step) for step in steps]), 300)
        assert sorted(image) == list(range(300))
        assert set(view) == {(5 + epoch) % 3}


def test_fresh_views_never_come_again() -> None:
    seen: set[int] = set()
    for seed in range(3):
        order = ViewOrder(num_images=7, num_views=0, batch_size=7, seed=seed)
        seen |= {int(example) for epoch in range(50) for example in order.examples(epoch)}
    assert len(seen) == 3 * 50 * 7
    assert max(seen) < 2**63


def test_a_view_is_the_same_in_any_batch(data: ImageData) -> None:
    split = data.splits["train"]
    together = split.collate(np.array([10, 310, 610, 11]))
    assert torch.equal(split.collate(np.array([610])).pixels[0], together.pixels[2])
    assert not torch.equal(together.pixels[0], together.pixels[1])
    assert together.labels.tolist()[:3] == [together.labels.tolist()[0]] * 3
    assert len(split.collate(np.array([], np.int64)).labels) == 0


def test_training_images_are_normalised_and_validation_is_not_changed(prepared: Prepared) -> None:
    folder = Path(prepared.data)
    plain = np.load(folder / "train-pixels.npy") / 255
    data = ImageData.open(folder)
    assert data.facts.mean == pytest.approx([plain.mean()])
    assert data.facts.std == pytest.approx([plain.std()])
    shown = data.splits["validation"].collate(np.arange(5)).pixels.numpy()
    expected = (np.load(folder / "validation-pixels.npy")[:5] / 255 - plain.mean()) / plain.std()
    np.testing.assert_allclose(shown, expected, atol=1e-5)


# -- trials


def test_a_student_learns_the_digits(prepared: Prepared, tmp_path: Path) -> None:
    result, recorder = run(trial_of(prepared, **VIEWED, epochs=30), tmp_path)
    assert result.outcome == Outcome.COMPLETED
    assert prepared.teacher_metrics["top1"] > 60  # chance is 10
    assert result.metrics["top1"] > 60
    assert result.metrics["top1_best_epoch"] == max(
        e["top1"] for e in recorder.evaluations.values()
    )
    assert 0 < result.metrics["calibration_error"] < 1
    examples = read_columns(tmp_path / "examples.parquet")
    assert set(examples) > {"example_id", "top1", "top5", "cross_entropy"}
    assert np.mean(examples["top1"]) == pytest.approx(result.metrics["top1"])
    processor = json.loads((tmp_path / "student" / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": 8, "width": 8}


def test_the_cache_serves_the_very_views(prepared: Prepared, tmp_path: Path) -> None:
    online = trial_of(prepared, **VIEWED)
    request = CacheRequest.of_trial(online, table.task_named(TASK))
    plan = plan_cache(request, tmp_path / "caches")
    # 3 views of 300 images and 100 of validation, 10 logits of 4 bytes each
    assert plan.bytes == pytest.approx(1000 * 40, abs=20_000)
    paths = online.paths.model_copy(update={"teacher_cache": str(build(plan))})
    cached = online.model_copy(update={"teacher_source": "cache:float32", "paths": paths})
    of_online, of_cache = (run(one, tmp_path / one.teacher_source) for one in (online, cached))
    losses = [
        [step["soft_loss"] for step in recorder.steps.values()]
        for _, recorder in (of_online, of_cache)
    ]
    # the teacher met the images in other batches, which rounds differently
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert of_online[0].metrics["top1"] == pytest.approx(of_cache[0].metrics["top1"], abs=2)


@pytest.mark.parametrize("beside", [{}, {"regions": 2}, {"second_view": "crop_flip"}], ids=str)
def test_a_trial_in_bfloat16_asks_a_teacher_in_bfloat16(
    prepared: Prepared, beside: dict[str, Any], tmp_path: Path
) -> None:
    trial = trial_of(prepared, **VIEWED, **beside, precision="bfloat16", steps=3, epochs=None)
    resolved = numerics.resolve("cpu", Precision.BFLOAT16, 1)
    online = trial.model_copy(update={"numerics": resolved})
    request = CacheRequest.of_trial(online, table.task_named(TASK))
    folder = build(plan_cache(request, tmp_path / "caches"))
    paths = online.paths.model_copy(update={"teacher_cache": str(folder)})
    cached = online.model_copy(update={"teacher_source": "cache:bfloat16", "paths": paths})
    soft = [
        [step["soft_loss"] for step in run(one, tmp_path / one.teacher_source)[1].steps.values()]
        for one in (online, cached)
    ]
    assert soft[0] == pytest.approx(soft[1], rel=0.05)


def test_an_interrupted_epoch_goes_on_with_the_same_views(
    prepared: Prepared, tmp_path: Path
) -> None:
    fresh = prepare(request_of(augmentation="crop"), tmp_path / "home")
    for name, trial in {
        "turns": trial_of(prepared, **VIEWED),
        "fresh": trial_of(fresh, augmentation="crop", seed=3),
    }.items():
        whole, _ = run(trial, tmp_path / name / "whole")
        first, _ = run(trial, tmp_path / name / "cut", stop_after=13, reason=Leave.NODE_GOES)
        assert first.steps == 13
        second, _ = run(trial, tmp_path / name / "cut")
        assert second.weights_sha256 == whole.weights_sha256
        assert second.metrics == whole.metrics


def test_trials_of_one_seed_see_the_same_images_whatever_is_searched(data: ImageData) -> None:
    orders = [data.splits["train"].order(batch_size=32, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(orders[0].examples(17), orders[1].examples(17))
    assert not np.array_equal(orders[0].examples(17), orders[2].examples(17))


def test_a_batch_without_images_touches_no_statistics(prepared: Prepared, data: ImageData) -> None:
    runtime = table.task_named(TASK).runtime()
    model = runtime.load_model(
        Path(prepared.student),
        torch.device("cpu"),
        attention=None,
        dtype=torch.float32,
        trust=False,
    ).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = Classifier(model, 10).hidden(data.splits["train"].collate(np.array([], np.int64)))
    assert logits.shape == (0, 10)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training


def test_two_workers_score_the_student_that_is_saved(tmp_path: Path) -> None:
    """Their batch norms see other images; all are scored with the first one's, which is saved."""
    # more images than one worker scores at once
    digits = {"train": "builtin:digits", "validation": "builtin:digits", "max_train_examples": 300}
    prepared = prepare(request_of(**VIEWED, data=digits), tmp_path / "home")
    pair = trial_of(prepared, **VIEWED, epochs=2).model_copy(update={"world_size": 2})
    pair.write(tmp_path / "trial.json")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "trainers", str(tmp_path / "trial.json"), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "result.json").read_text())["metrics"]
    evaluator = (
        table.task_named(TASK)
        .runtime()
        .evaluator(
            pair.config,
            ImageData.open(Path(prepared.data)),
            teacher=None,
            world=World(),
            numerics=numerics.resolve("cpu", Precision.FLOAT32, 1),
        )
    )
    runtime = table.task_named(TASK).runtime()
    model = runtime.load_model(
        tmp_path / "out" / "student",
        torch.device("cpu"),
        attention=None,
        dtype=torch.float32,
        trust=False,
    )
    student = StudentWithLoss.build(
        runtime.network(model, 10), pair.config, device=torch.device("cpu"), numerics={}
    )
    numbers = evaluator.evaluate(student, {}).metrics
    for name in ("top1", "cross_entropy", "calibration_error"):
        assert told[name] == pytest.approx(numbers[name], rel=1e-5), name


def test_the_fingerprint_is_found_again(prepared: Prepared) -> None:
    check_fingerprints(trial_of(prepared, **VIEWED))
    runtime = table.task_named(TASK).runtime()
    assert runtime.fingerprint(Path(prepared.data)) == prepared.fingerprints["data"]


# -- what is refused


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        (
            {"teacher": {"config": convnet("small_cnn", 8), "fit": {"steps": 3, "learn": "all"}}},
            r"teacher\.fit\.learn: it must be responses where a task has no prompts, but got all",
        ),
        ({"views": 3}, r"data\.views: images have several views only with an augmentation"),
        (
            {"student": {"config": convnet("resnet21", 8)}},
            r"student\.config\.architecture: .*resnet20",
        ),
        (
            {"student": {"config": convnet("small_cnn", 8, num_labels=7)}},
            "student: its num_labels must be the data's 10, but got 7",
        ),
        (
            {"student": {"config": convnet("small_cnn", 8, num_channels=3)}},
            "student: its num_channels must be the data's 1, but got 3",
        ),
        (
            {"student": {"config": convnet("small_cnn", -8)}},
            r"student\.config\.width: it must fit convnet, but got -8",
        ),
        (
            {"student": {"config": {"model_type": "gpt2"}}},
            r"student\.config\.model_type: it must be one of an image classifier",
        ),
        (
            {"student": {"config": {"model_type": "vit", "image_size": 32}}},
            r"student: its image_size must be the data's 8, but got 32\. Set data\.image_size",
        ),
        (
            {"student": {"config": {"model_type": "vit", "patchsize": 4}}},
            r"student\.config: every key must be one that transformers heeds in a vit, "
            "but got 'patchsize'",
        ),
    ],
)
def test_a_plan_refuses_what_does_not_fit(
    changed: dict[str, Any], rule: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rule):
        inspect(request_of(**changed), tmp_path)


def test_a_model_of_other_images_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    first = prepare(request_of(), tmp_path)
    teacher = {"model": first.teacher}
    few = {"train": "builtin:digits", "validation": "builtin:digits"}
    plan = inspect(request_of(teacher=teacher), tmp_path)
    assert (plan.vocab_size, plan.num_views) == (10, 1)
    scaled = request_of(teacher=teacher, data={**few, "image_size": 16})
    assert inspect(scaled, tmp_path).num_train_examples == 1348  # any size suits a convolution


def test_a_transformer_of_images_trains_too(tmp_path: Path) -> None:
    vit = {
        "model_type": "vit",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "patch_size": 4,
    }
    found = prepare(request_of(student={"config": vit}), tmp_path)
    trial = trial_of(found, epochs=1)
    result, _ = run(trial, tmp_path / "out")
    assert result.outcome == Outcome.COMPLETED


def test_a_plan_reads_each_split_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    of_split = images.read
    monkeypatch.setattr(
        images,
        "read",
        lambda source, name, seed: read.append(name) or of_split(source, name, seed),
    )
    few = {"train": "builtin:digits", "validation": "builtin:digits", "max_train_examples": 77}
    facts = inspect(request_of(data=few), tmp_path)
    assert facts.num_train_examples == 77
    assert read == ["train", "validation"]
