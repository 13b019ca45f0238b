"""Teacher and undistilled student are scored once, exactly as trials are."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from training_support import request, trial

from trainers.preparing import scoring
from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import SCORING, prepare
from trainers.training.run import run_trial
from trainers.trial.reporting import SilentReporter
from trainers.trial.sources import Prepared, PrepareRequest

# Scores of the trial's own loss, which an undistilled student has none of.
OF_THE_LOSS = {"teacher_entropy_mean", "teacher_entropy_std"}


@pytest.fixture(scope="module")
def home(prepared: Prepared) -> Path:
    return Path(prepared.data).parents[2]


def asked(prepared: Prepared, home: Path, **config: object) -> PrepareRequest:
    return request(home.parent, scored_as=trial(prepared, **config).config)


def unchanged(prepared: Prepared, folder: Path, student: str) -> dict[str, float]:
    """The metrics of a trial whose steps are too small to change a weight."""
    still = trial(prepared, learning_rate=1e-30, weight_decay=0, steps=1, evaluations=1)
    paths = still.paths.model_copy(update={"student": student})
    still = still.model_copy(update={"paths": paths, "fingerprints": {}})
    return run_trial(still, folder, reporter=SilentReporter()).metrics


def test_the_scores_are_those_of_trials_that_learn_nothing(
    prepared: Prepared, home: Path, tmp_path: Path
) -> None:
    scores = prepare(asked(prepared, home), home).scores
    assert scores is not None
    start = unchanged(prepared, tmp_path / "start", prepared.student)
    measured = {name: start[name] for name in start if name not in OF_THE_LOSS}
    measured.pop("tokens_per_s", None), measured.pop("data_wait_share", None)
    assert scores.undistilled == measured
    teacher = unchanged(prepared, tmp_path / "teacher", prepared.teacher)
    assert {"rouge_l", "rouge_l_shuffled", "cross_entropy"} <= scores.teacher.keys()
    assert scores.teacher == {name: teacher[name] for name in scores.teacher}
    assert "top1_agreement" not in scores.teacher, "of the teacher with itself it says nothing"


def test_they_are_measured_once_for_each_evaluation(prepared: Prepared, home: Path) -> None:
    heard: list[str] = []

    def scores_of(**config: object) -> object:
        heard.clear()
        found = prepare(asked(prepared, home, **config), home, lambda stage, _: heard.append(stage))
        return found.scores

    first = scores_of(generation_prompts=3)
    assert SCORING in heard
    assert scores_of(generation_prompts=3, evaluations=1, learning_rate=1.0) == first
    assert SCORING not in heard
    assert scores_of(generation_prompts=2) != first
    assert SCORING in heard


def test_a_plan_knows_how_long_an_evaluation_took(
    prepared: Prepared, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter([10.0, 10.5, 20.0, 23.0])  # around a pass without texts, and an evaluation
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(scoring, "time", clock)
    scores = prepare(asked(prepared, home, generation_prompts=5), home).scores
    assert scores is not None
    assert (scores.forward_s, scores.evaluation_s) == (0.5, 3.0)
    facts = inspect(asked(prepared, home, generation_prompts=5), home)
    assert (facts.evaluation_s, facts.forward_s) == (3.0, 0.5)
    other = inspect(asked(prepared, home, generation_prompts=1), home)
    assert (other.evaluation_s, other.teacher_entropy_share is None) == (None, False)
