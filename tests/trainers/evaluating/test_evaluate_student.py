"""A finished student on evaluation sets: its trial's very numbers, and what makes a set none."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_support import TEMPLATE, records, trial, write_lines

from trainers import numerics
from trainers.evaluating.evaluate import FinishedStudent
from trainers.files.columns import read_columns
from trainers.preparing.prepare import prepare
from trainers.tasks.causal_lm import models, temperatures
from trainers.tasks.causal_lm.data import TokenData
from trainers.training.run import run_trial
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.metrics import OF_THE_LOSS
from trainers.trial.reporting import SilentReporter, TrialResult
from trainers.trial.sources import DataSource, Prepared, PrepareRequest
from trainers.trial.trial_file import TrialFile, TrialPaths

AS_THE_TRIAL = {"generation_prompts": 4, "generation_seeds": (10,)}


@pytest.fixture(scope="module")
def done(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    folder = tmp_path_factory.mktemp("trial")
    return run_trial(trial(prepared), folder, reporter=SilentReporter())


@pytest.fixture
def student(prepared: Prepared, done: TrialResult) -> FinishedStudent:
    assert done.student is not None
    return FinishedStudent(trial(prepared), done.student, AS_THE_TRIAL)


def source(path: Path) -> DataSource:
    return DataSource(train="none", validation=str(path), template=TEMPLATE)


def validation_of(prepared: Prepared) -> Path:
    return Path(prepared.data).parents[2].parent / "validation.jsonl"


def test_the_validation_split_gives_the_trials_own_numbers_and_is_no_test(
    student: FinishedStudent, done: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    found = student.score(source(validation_of(prepared)), tmp_path)
    own = {name: done.metrics[name] for name in done.metrics if name not in OF_THE_LOSS}
    assert {name: found.metrics[name] for name in own} == own
    assert found.metrics.keys() - own.keys() == {"self_bleu"}
    assert found.facts.in_validation == found.facts.num_examples == 12
    assert found.facts.caution == "it is the validation split, by which trials were selected"


def test_all_prompts_are_answered_and_kept_with_five_seeds(
    done: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    assert done.student is not None
    test = write_lines(tmp_path / "test.jsonl", records(5, start=200) + records(2))
    finished = FinishedStudent(trial(prepared), done.student, {"max_new_tokens": 3})
    found = finished.score(source(test), tmp_path / "out")
    assert found.facts.in_train == 2
    assert found.facts.caution == "of its 7 examples 2 are also in the training split"
    columns = read_columns(tmp_path / "out" / "examples.parquet")
    assert len(columns["rouge_l"]) == 7 and not np.isnan(columns["rouge_l"]).any()
    scores = {round(7 * 5 * 2 * value / 100) for value in columns["exact_match"]}
    assert scores == {0}
    answers = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert [one["references"] for one in answers[:5]] == [
        [row["output"]] for row in records(5, start=200)
    ]
    assert len(answers[0]["answers"]) == 5


def test_answers_at_the_teachers_entropy_and_the_best_temperature_of_the_validation_split(
    student: FinishedStudent, prepared: Prepared, tmp_path: Path
) -> None:
    finished = replace(student, at_temperatures=True)
    found = finished.score(source(validation_of(prepared)), tmp_path).metrics
    matched = found["generation_temperature_entropy_matched"]
    # at tau the student's logits are those of one that is tau times less sharp
    entropy = student_entropy(student, prepared, matched)
    assert entropy == pytest.approx(found["teacher_entropy"], rel=0.01)
    assert found["generation_temperature_best_temperature"] in temperatures.CANDIDATES
    assert 0 <= found["rouge_l_best_temperature"] <= 100


def student_entropy(student: FinishedStudent, prepared: Prepared, temperature: float) -> float:
    """The mean entropy over learned positions, one example at a time."""
    model = models.load(student.folder, attention=None, dtype=torch.float32)
    split, found = TokenData.open(Path(prepared.data)).splits["validation"], []
    for i in range(len(split)):
        ids = torch.from_numpy(split.tokens(i).astype(np.int64))
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0][:-1][split.learned(i)[1:].copy()]
        log_q = (logits.double() / temperature).log_softmax(-1)
        found.append(-(log_q.exp() * log_q).sum(-1))
    return torch.cat(found).mean().item()


def test_a_student_whose_teacher_is_gone_is_measured_without_it(
    done: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    assert done.student is not None
    there = trial(prepared)
    paths = there.paths.model_copy(update={"teacher": str(tmp_path / "gone")})
    moved = there.model_copy(update={"paths": paths})
    finished = FinishedStudent(moved, done.student, {"generation_prompts": 0})
    assert not finished.has_teacher
    found = finished.score(source(validation_of(prepared)), tmp_path).metrics
    assert found["cross_entropy"] == done.metrics["cross_entropy"]
    assert "kl_teacher_student" not in found


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"instruction": "What?"}], "line 1: 'output' must be text"),
        ([{"image": "x.png", "label": 3}], "line 1: 'output' must be text"),
        ([], "at least one record must be there"),
    ],
)
def test_a_set_of_another_kind_is_refused(
    student: FinishedStudent, tmp_path: Path, rows: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        student.score(source(write_lines(tmp_path / "set.jsonl", rows)), tmp_path / "out")
    with pytest.raises(ValueError, match=r"gone\.jsonl is missing"):
        student.score(source(tmp_path / "gone.jsonl"), tmp_path / "out")


def test_an_image_classifier_is_measured_on_images(tmp_path: Path) -> None:
    task, digits = "image_classification", "builtin:digits"
    made = prepare(
        PrepareRequest.model_validate(
            {
                "task": task,
                "teacher": {"config": {"model_type": "convnet", "architecture": "small_cnn"}},
                "student": {"config": {"model_type": "convnet", "architecture": "small_cnn"}},
                "data": {"train": digits, "validation": digits, "max_validation_examples": 40},
            }
        ),
        tmp_path / "home",
    )
    images = TrialFile(
        config=TrialConfig.model_validate({"task": task}),
        numerics=numerics.resolve("cpu", Precision.FLOAT32, 1),
        paths=TrialPaths(teacher=made.teacher, student=made.student, data=made.data),
    )
    finished = FinishedStudent(images, Path(made.student), {})
    all_digits = DataSource(train=digits, validation=digits)
    found = finished.score(all_digits, tmp_path / "out")
    assert found.facts.num_examples > found.facts.in_validation == 40
    columns = read_columns(tmp_path / "out" / "examples.parquet")
    assert found.metrics["top1"] == pytest.approx(np.mean(columns["top1"]))
    with pytest.raises(ValueError, match="data.validation"):
        finished.score(DataSource(train=digits, validation=str(tmp_path)), tmp_path / "other")
