"""A recorded student on evaluation sets: what is recorded, once, and what is refused."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from judge_support import write_judge
from records_support import make_sinks, make_store, make_tracker, plan_of
from training_support import TEMPLATE, records, write_lines
from training_support import request as training_request
from training_support import trial as tiny_trial

from service.actions.evaluate import HowToEvaluate, evaluate_trials
from service.errors import PlanError, SpecError, TrackingError
from service.evaluation.evaluate import SetResult
from service.evaluation.judge import asked
from service.evaluation.judges import judge_named
from service.record.runs import Runs
from service.states import TrialState
from service.workspace import Workspace
from trainers.files.columns import read_columns
from trainers.numerics import resolve
from trainers.preparing.prepare import prepare
from trainers.training.run import run_trial
from trainers.trial.reporting import SilentReporter

FIELDS = {"generation_seeds": (10, 20), "max_new_tokens": 3}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with trials 0 (with a student), 1 (whose student was not kept) and 2 (failed)."""
    home = tmp_path_factory.mktemp("home")
    prepared = prepare(training_request(home), home)
    uri, plan = make_store(home), plan_of()
    own = write_lines(home / "own.jsonl", records(3, start=400))
    changes = {"template": TEMPLATE, "test": {"of_the_sweep": str(own)}}
    data = plan.spec.data.model_copy(update=changes)
    plan = plan.model_copy(update={"spec": plan.spec.model_copy(update={"data": data})})
    tracker, sinks = make_tracker(uri, home), make_sinks(uri, home)
    sweep = tracker.start_sweep(plan)
    for number, state in enumerate((TrialState.COMPLETED, TrialState.COMPLETED, TrialState.FAILED)):
        trial = tiny_trial(prepared, tau=2.0)
        numerics = resolve("cpu", trial.config.precision, 1)
        trial = trial.model_copy(update={"trial": number, "numerics": numerics})
        run = tracker.start_trial(sweep, trial, hyperparameters={"tau": 2.0}, label=None)
        if number == 0:
            output, sink = home / "out", sinks(run)
            run_trial(trial, output, reporter=SilentReporter())
            sink.upload(output / "student", "student")
            assert sink.close(60)
        tracker.finish_trial(run, state, objective=0.0)
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert tracker.close()
    return home


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "self_inst.jsonl", records(4, start=300) + records(1))


def evaluate(home: Path, *on: str, trial: str = "toy/0", **how: object) -> list[SetResult]:
    given = HowToEvaluate(**({"fields": FIELDS} | how))  # type: ignore[arg-type]
    return evaluate_trials([trial], Workspace(home), on=on, how=given)


def test_a_set_reports_once_and_is_recorded_with_its_trial(
    home: Path, tests: Path, tmp_path: Path
) -> None:
    (first,) = evaluate(home, str(tests))
    assert first.is_new and first.name == "self_inst"
    assert first.notices == ("of its 5 examples 1 are also in the training split",)
    assert {"rouge_l", "self_bleu", "kl_teacher_student"} <= first.metrics.keys()
    json.dumps(first.to_json(), allow_nan=False)
    runs = Runs(f"sqlite:///{home}/mlflow.db")
    record = runs.get("toy/0")
    assert record.metrics["test/self_inst/rouge_l"] == first.metrics["rouge_l"]
    kept = runs.download(record.run_id, "evaluations/self_inst", tmp_path / "kept")
    assert len(read_columns(kept / "examples.parquet")["rouge_l"]) == 5
    assert len(json.loads((kept / "samples.json").read_text())) == 5
    assert not list((home / "evaluations").iterdir())

    (second,) = evaluate(home, str(tests))
    assert not second.is_new
    assert second.metrics == first.metrics
    assert "a test set reports once: --again measures it again" in second.notices[0]

    (other,) = evaluate(home, f"b={tests}")
    assert other.is_new
    assert "the very examples of 'self_inst', which was reported before" in other.notices
    with pytest.raises(PlanError, match="was evaluated on a set of that name, .*self_inst.jsonl"):
        evaluate(home, f"b={home / 'train.jsonl'}")
    (again,) = evaluate(home, str(tests), again=True)
    assert again.is_new and again.metrics == first.metrics


def test_without_a_set_those_of_the_sweep_are_taken(home: Path) -> None:
    (found,) = evaluate(home)
    assert (found.name, found.recorded.place) == ("of_the_sweep", str(home / "own.jsonl"))
    assert found.recorded.facts.num_examples == 3
    (named,) = evaluate(home, f"of_the_sweep={home / 'own.jsonl'}")
    assert not named.is_new


def test_trials_without_a_student_or_an_end_are_refused(home: Path, tests: Path) -> None:
    with pytest.raises(TrackingError, match=r"'toy/1': its student .* rerun toy/1 --local --keep"):
        evaluate(home, str(tests), trial="toy/1")
    with pytest.raises(TrackingError, match="'toy/2': must be a finished trial .* that is failed"):
        evaluate(home, str(tests), trial="toy/2")
    assert not list((home / "evaluations").iterdir())


def test_a_student_that_was_trained_again_may_be_given(home: Path, tests: Path) -> None:
    folder = home / "out" / "student"
    (found,) = evaluate(home, f"rerun={tests}", trial="toy/1", student=folder)
    assert f"of the student in {folder}, not of the one in the record" in found.notices
    (own,) = evaluate(home, f"own={tests}")
    assert found.metrics == own.metrics


def test_a_set_of_another_kind_is_named(home: Path, tmp_path: Path) -> None:
    images = write_lines(tmp_path / "images.jsonl", [{"image": "a.png", "label": 1}])
    with pytest.raises(PlanError, match=r"--on images: .*images\.jsonl, line 1: 'output' must be"):
        evaluate(home, str(images))


def test_data_that_is_gone_is_named(home: Path, tests: Path) -> None:
    runs = Runs(f"sqlite:///{home}/mlflow.db")
    data = runs.trial_file(runs.get("toy/0").run_id).paths.data
    shutil.move(data, home / "away")
    try:
        with pytest.raises(PlanError, match="the trial's data must be a folder .* kd-sweep resume"):
            evaluate(home, f"gone={tests}")
    finally:
        shutil.move(home / "away", data)


@dataclass
class FakeJudge:
    """Takes the answer that is shown first where `prefers` is empty, else one that holds it."""

    prefers: str = ""
    limit: int = 10**9
    asked: list[str] = field(default_factory=list)

    def check(self, prompts: Sequence[str]) -> None:
        if max(map(len, prompts)) > self.limit:
            raise PlanError("--judge: too long")

    def ask(self, prompts: Sequence[str]) -> list[str]:
        self.asked += prompts
        return [self._verdict(prompt) for prompt in prompts]

    def describe(self) -> dict[str, str]:
        return {"judge": "fake"}

    def _verdict(self, prompt: str) -> str:
        a, b = prompt.split("[Answer A]")[1].split("[Answer B]")
        return "[[B]]" if self.prefers in b and self.prefers not in a else "[[A]]"


def test_a_judge_compares_a_trials_answers_with_the_references(
    home: Path, tests: Path, tmp_path: Path
) -> None:
    (found,) = evaluate(home, f"judged={tests}", judge=FakeJudge())
    assert found.metrics["judge_references/ties"] == 100
    assert found.metrics["judge_references/first_shown"] == 100
    assert found.notices[-1] == ("judge_references: fake judged the answers of 2 generation seeds")
    runs = Runs(f"sqlite:///{home}/mlflow.db")
    record = runs.get("toy/0")
    assert record.metrics["test/judged/judge_references/win_rate"] == 50
    kept = runs.download(record.run_id, "evaluations/judged/judge-references.json", tmp_path)
    document = json.loads(kept.read_text())
    assert document["judge"] == "fake"
    first, second, third = document["judgements"][:3]
    assert (first["example"], second["example"], third["example"]) == (0, 0, 1)
    assert first["second"] == second["second"] == records(1, start=300)[0]["output"]
    kept = runs.download(record.run_id, "evaluations/judged/samples.json", tmp_path)
    assert json.loads(kept.read_text())[0]["answers"] == [first["first"], second["first"]]

    reader = FakeJudge(prefers="The ")  # as every reference begins, and no student of three tokens
    (again,) = evaluate(home, f"judged={tests}", judge=reader)
    assert again.metrics["judge_references/losses"] == 100
    assert len(reader.asked) == 2 * 5 * 2  # five prompts, two seeds, each in both orders


def test_a_model_in_a_folder_judges(home: Path, tests: Path, tmp_path: Path) -> None:
    folder = write_judge(tmp_path / "judge", says="[[B]]", context=4096)
    judge = judge_named(str(folder), None, None)
    (found,) = evaluate(home, f"here={tests}", judge=judge)
    assert found.metrics["judge_references/ties"] == 100
    assert found.metrics["judge_references/first_shown"] == 0
    runs = Runs(f"sqlite:///{home}/mlflow.db")
    run = runs.get("toy/0").run_id
    kept = runs.download(run, "evaluations/here/judge-references.json", tmp_path)
    document = json.loads(kept.read_text())
    assert (document["folder"], document["prompted_by"]) == (str(folder), "chat template")


def test_a_judge_that_cannot_judge_is_refused_before_a_student_is_measured(
    home: Path, tests: Path, tmp_path: Path
) -> None:
    short = write_judge(tmp_path / "judge", context=600)
    refused = {
        str(tmp_path): "--judge: folder .* is not a model",
        str(short): "--judge: the model's context must hold the longest prompt .* takes 600",
        "http://127.0.0.1:9/v1": "--judge: http://127.0.0.1:9/v1 must answer",
    }
    for place, rule in refused.items():
        with pytest.raises(PlanError, match=rule):
            evaluate(home, f"unmeasured={tests}", judge=judge_named(place, None, None))
    assert not any("unmeasured" in name for name in trial_metrics(home))
    # what is longer than the empty pair shows when answers are there, and before any is judged
    judge = FakeJudge(limit=len(asked("", "", "")[0]))
    with pytest.raises(PlanError, match="--judge: too long"):
        evaluate(home, f"measured={tests}", judge=judge)
    assert "test/measured/rouge_l" in trial_metrics(home) and not judge.asked


def test_tasks_of_the_harness_have_no_answers_to_judge(home: Path) -> None:
    how = HowToEvaluate(judge=FakeJudge())
    with pytest.raises(SpecError, match="--judge: must have answers on a set of --on to compare"):
        evaluate_trials(["toy/0"], Workspace(home), harness=["arc_easy"], how=how)


def trial_metrics(home: Path) -> Mapping[str, float]:
    return Runs(f"sqlite:///{home}/mlflow.db").get("toy/0").metrics
