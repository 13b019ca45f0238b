"""Students that learn from fewer images than their teacher did."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_support import Recorder

from trainers import numerics
from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.tasks import table
from trainers.tasks.image_classification.data import ImageData
from trainers.teachers.cache import CacheRequest
from trainers.teachers.cache_build import build, plan_cache
from trainers.training.run import KeptBetweenTrials, run_trial
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.seen import ALL, Seen
from trainers.trial.sources import Prepared, PrepareRequest
from trainers.trial.subset import Subset
from trainers.trial.trial_file import TrialFile, TrialPaths

TASK = "image_classification"
VIEWED = {"augmentation": "crop", "views": 2}


def request_of(**changed: Any) -> PrepareRequest:
    """A teacher that is fitted to 300 of the digits."""
    config = {"model_type": "convnet", "architecture": "small_cnn", "width": 4}
    values: dict[str, Any] = {
        "task": TASK,
        "teacher": {"config": config, "fit": {"epochs": 2, "learning_rate": 3e-3}},
        "student": {"config": config},
        "data": {
            "train": "builtin:digits",
            "validation": "builtin:digits",
            "max_train_examples": 300,
            "max_validation_examples": 100,
        },
    }
    return PrepareRequest.model_validate(values | changed)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def prepared(home: Path) -> Prepared:
    return prepare(request_of(**VIEWED, student_examples=40), home)


def trial_of(prepared: Prepared, **config: Any) -> TrialFile:
    values = {
        "task": TASK,
        "epochs": 3,
        "batch_size": 16,
        "evaluations": 1,
        "student_examples": 40,
        **VIEWED,
    }
    return TrialFile(
        config=TrialConfig.model_validate(values | config),
        numerics=numerics.resolve("cpu", Precision.FLOAT32, 1),
        paths=TrialPaths(teacher=prepared.teacher, student=prepared.student, data=prepared.data),
    )


def test_a_subset_has_the_very_images_and_views_that_all_have(prepared: Prepared) -> None:
    folder = Path(prepared.data)
    every, some = (ImageData.open(folder, each).splits for each in (ALL, Seen(Subset(40, 3))))
    assert (some["train"].examples_per_epoch, len(some["train"])) == (40, 80)
    assert np.array_equal(every["validation"].example_ids, some["validation"].example_ids)
    batch = some["train"].collate(np.arange(80))
    assert torch.bincount(batch.labels).tolist() == [8] * 10  # four of each class, in two views
    place = {number: at for at, number in enumerate(every["train"].example_ids.tolist())}
    same = np.array([place[number] for number in some["train"].example_ids.tolist()])
    assert torch.equal(every["train"].collate(same).pixels, batch.pixels)


def test_a_larger_subset_has_the_smaller_ones_images(prepared: Prepared) -> None:
    folder = Path(prepared.data)
    subsets = (Seen(Subset(40, 0)), Seen(Subset(90, 0)), Seen(Subset(40, 1)))
    few, more, others = (
        set(ImageData.open(folder, each).splits["train"].example_ids.tolist()) for each in subsets
    )
    assert few < more
    assert few != others


def test_only_trials_see_the_subset(prepared: Prepared, home: Path, tmp_path: Path) -> None:
    whole = prepare(request_of(**VIEWED), home)
    assert (whole.teacher, whole.data) == (prepared.teacher, prepared.data)
    assert whole.num_train_examples == 300
    of_some = run_trial(trial_of(prepared), tmp_path / "some", reporter=Recorder())
    of_all = run_trial(
        trial_of(prepared, student_examples=None), tmp_path / "all", reporter=Recorder()
    )
    assert (of_some.steps, of_all.steps) == (3 * 3, 3 * 19)


def test_a_seed_draws_other_images_of_the_same_data(home: Path, prepared: Prepared) -> None:
    # of all images, which max_train_examples would draw from
    data = {"train": "builtin:digits", "validation": "builtin:digits"}
    fitless = {"teacher": {"config": request_of().teacher.config}, "data": data}
    folders = {
        prepare(request_of(**fitless, student_examples=40, subset_seed=seed), home).data
        for seed in (0, 1)
    }
    assert len(folders) == 1


def test_the_cache_holds_what_is_asked_for_and_serves_it(
    prepared: Prepared, tmp_path: Path
) -> None:
    online = trial_of(prepared)
    plan = plan_cache(CacheRequest.of_trial(online, table.task_named(TASK)), tmp_path / "caches")
    assert sum(shard.num_positions for shard in plan.shards) == 2 * 40 + 100
    paths = online.paths.model_copy(update={"teacher_cache": str(build(plan))})
    cached = online.model_copy(update={"teacher_source": "cache:float32", "paths": paths})
    losses = []
    for trial in (online, cached):
        recorder = Recorder()
        run_trial(trial, tmp_path / trial.teacher_source, reporter=recorder)
        losses.append([step["soft_loss"] for step in recorder.steps.values()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_slot_opens_another_subset_anew(prepared: Prepared, tmp_path: Path) -> None:
    kept = KeptBetweenTrials()
    steps = [
        run_trial(
            trial_of(prepared, student_examples=count),
            tmp_path / str(count),
            reporter=Recorder(),
            kept=kept,
        ).steps
        for count in (40, 80, 40)
    ]
    assert steps == [9, 15, 9]


@pytest.mark.parametrize(
    ("count", "rule"),
    [
        (301, r"data\.student_examples: it must be at most the 300 .* got 301\. Lower it"),
        (9, r"data\.student_examples: it must be at least 10, one example for each .* got 9\."),
    ],
)
def test_a_subset_that_cannot_be_drawn_is_refused_before_anything_is_trained(
    prepared: Prepared, tmp_path: Path, count: int, rule: str
) -> None:
    request = request_of(student_examples=count)
    with pytest.raises(ValueError, match=rule):
        inspect(request, tmp_path)
    with pytest.raises(ValueError, match=rule):
        prepare(request, tmp_path)
    assert not (tmp_path / "prepared" / "teachers").exists()
    with pytest.raises(ValueError, match=rule):
        run_trial(trial_of(prepared, student_examples=count), tmp_path, reporter=Recorder())
