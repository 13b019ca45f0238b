"""Whole trials whose students write text: what they learn, that they go on to the bit, and that
nothing else moves."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cache_support import cached_trial, planned
from training_support import Recorder, on_teacher_text, request, trial

from trainers.preparing.prepare import prepare
from trainers.sampled import Sample
from trainers.tasks.causal_lm.text_writer import TextWriter
from trainers.teachers import cache_build
from trainers.training.run import check_fingerprints, run_trial
from trainers.training.shares import throw
from trainers.trial.reporting import Leave, TrialResult
from trainers.trial.sources import Prepared, TeacherText
from trainers.trial.trial_file import TrialFile

# Everything that a source keeps, and what the teacher reads, in 8 steps.
ALL_OF_IT: dict[str, Any] = {
    "soft_prompt_tokens": 3,
    "soft_prompt_learning_rate": 0.05,
    "student_share": 0.8,
    "share_of": "sequences",
    "refresh": 2,
    "buffer_size": 8,
    "sampling_max_tokens": 6,
    "teacher_mix": 0.3,
    "steps": 8,
    "evaluations": 4,
    "generation_prompts": 0,
}


def run(prepared: Prepared, output: Path, **config: Any) -> tuple[TrialResult, Recorder]:
    recorder = Recorder()
    result = run_trial(trial(prepared, tau=2.0, **config), output, reporter=recorder)
    return result, recorder


def test_a_share_of_0_trains_to_the_bits_of_a_trial_that_names_none(
    prepared: Prepared, tmp_path: Path
) -> None:
    plain, _ = run(prepared, tmp_path / "plain")
    idle = {"student_share": 0, "sampling_temperature": 3.0, "samples_per_prompt": 2}
    other, _ = run(prepared, tmp_path / "other", **idle)
    assert other.weights_sha256 == plain.weights_sha256
    assert other.metrics == plain.metrics


def test_the_students_text_has_no_hard_loss_and_takes_its_time(
    prepared: Prepared, tmp_path: Path
) -> None:
    _, recorder = run(prepared, tmp_path, student_share=0.5, sampling_max_tokens=8, seed=3)
    written = [bool(throw(3, step, 1)[0] < 0.5) for step in range(6)]
    assert any(written) and not all(written)
    for is_written, losses in zip(written, recorder.steps.values(), strict=True):
        assert (losses["hard_loss"] == 0) == is_written
        assert losses["soft_loss"] > 0
        total = 0.9 * losses["soft_loss"] + 0.1 * losses["hard_loss"]
        assert losses["loss"] == pytest.approx(total, rel=1e-5)
    assert 0 < recorder.evaluations[2]["write_share"] < 1


class Killed(Recorder):
    """Dies after step `stop_after`, once its checkpoint is written."""

    def log(self, step: int, metrics: Any) -> None:
        assert self.stop_after is not None
        if step == self.stop_after + 1:
            raise KeyboardInterrupt("cut")
        super().log(step, metrics)

    def reason_to_leave(self) -> Leave:
        return Leave.NO


def cut(prepared: Prepared, output: Path, step: int, **config: Any) -> tuple[TrialResult, Recorder]:
    """The trial, killed after a step and taken up again."""
    file = trial(prepared, tau=2.0, **config)
    with pytest.raises(KeyboardInterrupt, match="cut"):
        run_trial(file, output, reporter=Killed(stop_after=step), checkpoint_every_s=0)
    return run(prepared, output, **config)


@pytest.fixture(scope="module")
def whole(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    """The trial with all of it, never interrupted."""
    result, recorder = run(prepared, tmp_path_factory.mktemp("whole"), **ALL_OF_IT)
    assert recorder.evaluations[4]["write_share"] > 0
    return result


@pytest.mark.parametrize("step", range(1, 8))
def test_a_trial_that_is_cut_anywhere_goes_on_with_the_same_bits(
    prepared: Prepared, whole: TrialResult, tmp_path: Path, step: int
) -> None:
    resumed, recorder = cut(prepared, tmp_path, step, **ALL_OF_IT)
    assert min(recorder.steps) == step + 1
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.metrics == whole.metrics


def test_the_adaptive_share_is_measured_before_the_first_step_and_goes_on(
    prepared: Prepared, tmp_path: Path
) -> None:
    # each evaluation is worse than the student's start
    adaptive = ALL_OF_IT | {"share_schedule": "adaptive", "learning_rate": 0.3}
    whole, recorder = run(prepared, tmp_path / "whole", **adaptive)
    start = prepared.student_metrics["cross_entropy"]
    assert recorder.evaluations[1]["cross_entropy"] > start + 0.1
    assert "write_share" not in recorder.evaluations[1]
    assert recorder.evaluations[4]["write_share"] > 0
    resumed, _ = cut(prepared, tmp_path / "cut", 5, **adaptive)
    assert resumed.weights_sha256 == whole.weights_sha256


def test_a_cache_of_the_teacher_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    file = trial(prepared, student_share=0.5).model_copy(update={"teacher_source": "cache:float32"})
    with pytest.raises(
        ValueError, match=r"teacher_source: it must be online .*\(student_share=0.5\)"
    ):
        run_trial(file, tmp_path, reporter=Recorder())


@dataclass(frozen=True)
class Seen:
    """A trial: what its teacher wrote, what its student wrote first, its losses, its student, and
    the answers scored."""

    teachers: str
    text: list[list[int]]
    losses: list[float]
    weights: str | None
    answers: str


def seen(prepared: Prepared, output: Path, patch: pytest.MonkeyPatch, **config: Any) -> Seen:
    written: list[list[Sample]] = []
    write = TextWriter.write

    def recorded(self: TextWriter, asked: Any) -> list[Sample]:
        written.append(write(self, asked))
        return written[-1]

    with patch.context() as context:
        context.setattr(TextWriter, "write", recorded)
        base = {"responses": "teacher", "student_share": 0.5, "share_of": "pairs"}
        base |= {"sampling_max_tokens": 6, "steps": 3, "tau": 2.0}
        recorder = Recorder()
        file = on_teacher_text(trial(prepared, **(base | config)), prepared)
        result = run_trial(file, output, reporter=recorder)
    return Seen(
        file.fingerprints["data"],
        [sample.response.ids for sample in written[0]],
        [step["soft_loss"] for step in recorder.steps.values()],
        result.weights_sha256,
        (output / "samples.json").read_text(),
    )


def test_each_of_four_temperatures_moves_what_is_its_own_and_nothing_else(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(prepared.data).parents[2]
    usual, cold = (
        prepare(request(home.parent, teacher_text=TeacherText(temperature=t, max_tokens=9)), home)
        for t in (1.0, 0.25)
    )
    changes: dict[str, tuple[Prepared, dict[str, Any]]] = {
        "as it is": (usual, {}),
        "loss": (usual, {"tau": 4.0}),
        "student": (usual, {"sampling_temperature": 0.25}),
        "teacher": (cold, {}),
        "evaluation": (usual, {"generation_temperature": 0.25}),
    }
    of = {
        name: seen(inputs, tmp_path / name, monkeypatch, **change)
        for name, (inputs, change) in changes.items()
    }
    same = of["as it is"]
    moved = {name for name, one in of.items() if one.teachers != same.teachers}
    assert moved == {"teacher"}
    # what the student writes before its first update depends on none of the others
    moved = {name for name, one in of.items() if one.text != same.text}
    assert moved == {"student"}
    # all but evaluation's move what is learned
    moved = {name for name, one in of.items() if one.losses[0] != same.losses[0]}
    assert moved == {"loss", "student", "teacher"}
    assert of["evaluation"].losses == same.losses
    assert of["evaluation"].weights == same.weights
    assert of["evaluation"].answers != same.answers


def test_a_trial_on_the_teachers_text_says_which_it_learned_and_learns_no_other(
    prepared: Prepared, tmp_path: Path
) -> None:
    home = Path(prepared.data).parents[2]
    text = TeacherText(max_tokens=9)
    found = prepare(request(home.parent, teacher_text=text), home)
    plain = trial(found, responses="teacher", hard_weight=1, soft_weight=0)
    file = on_teacher_text(plain, found)
    file.write(tmp_path / "trial.json")
    again = TrialFile.read(tmp_path / "trial.json")
    check_fingerprints(again)
    first = run_trial(file, tmp_path / "first", reporter=Recorder())
    second = run_trial(again, tmp_path / "second", reporter=Recorder())
    of_data = run_trial(plain, tmp_path / "data", reporter=Recorder())
    assert first.weights_sha256 == second.weights_sha256 != of_data.weights_sha256
    lost = again.model_copy(update={"paths": plain.paths})
    with pytest.raises(ValueError, match=r"paths.data: it must hold what the trial was made with"):
        check_fingerprints(lost)


def test_the_teachers_cache_holds_what_it_says_of_its_own_text(
    prepared: Prepared, tmp_path: Path
) -> None:
    home = Path(prepared.data).parents[2]
    found = prepare(request(home.parent, teacher_text=TeacherText(max_tokens=9)), home)
    file = on_teacher_text(trial(found, responses="teacher", tau=2.0), found)
    plan = planned(found, tmp_path / "caches", data=Path(file.paths.data))
    assert plan.key != planned(found, tmp_path / "caches").key
    cache_build.build(plan)
    online, cached = Recorder(), Recorder()
    run_trial(file, tmp_path / "online", reporter=online)
    run_trial(cached_trial(file, plan), tmp_path / "cached", reporter=cached)
    assert len(cached.steps) == 6
    for step, losses in online.steps.items():
        assert cached.steps[step]["soft_loss"] == pytest.approx(losses["soft_loss"], abs=1e-6)


def steps_of(prepared: Prepared, output: Path, *, workers: int) -> list[dict[str, float]]:
    """What each step reports of a trial on so many workers, in processes of their own."""
    file = trial(prepared, tau=2.0, **ALL_OF_IT).model_copy(update={"world_size": workers})
    output.mkdir()
    file.write(output / "trial.json")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    arguments = ["-m", "trainers", str(output / "trial.json"), "--output", str(output / "out")]
    done = subprocess.run(
        [sys.executable, *(launcher if workers > 1 else []), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, (output / "out" / "metrics.jsonl").read_text().splitlines())
    return [line["metrics"] for line in lines if "gradient_norm" in line["metrics"]]


def test_two_workers_throw_the_coins_of_one_and_have_its_losses(
    prepared: Prepared, tmp_path: Path
) -> None:
    one = steps_of(prepared, tmp_path / "one", workers=1)
    two = steps_of(prepared, tmp_path / "two", workers=2)
    assert len(one) == len(two) == 8
    for ours, theirs in zip(two, one, strict=True):
        # the sum over two workers rounds differently; nothing else may differ
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
