"""Looking at a trial's loss: the training stays what it is to the bit, the positions are the same
for all, and the clock is kept."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_support import request_of, trial_of
from training_support import Recorder, gpt2, request, trial

from trainers import numerics
from trainers.preparing.prepare import prepare
from trainers.tasks import table
from trainers.tasks.causal_lm.data import TokenData
from trainers.teachers.cache import CacheRequest
from trainers.teachers.cache_build import build, plan_cache
from trainers.training.diagnostics import Diagnostics, Probe, probe_examples
from trainers.training.run import run_trial
from trainers.trial.fields import Precision
from trainers.trial.probe import ProbePlan
from trainers.trial.reporting import DIAGNOSTICS, Leave, TrialResult
from trainers.trial.sources import ModelSource, Prepared
from trainers.trial.trial_file import TrialFile

STEPS = 20
NAMES = {
    *("soft_entropy_mean", "soft_entropy_std", "soft_entropy_mean_weighted"),
    *("soft_entropy_std_weighted", "logit_scale_ratio", "cosine_to_tau_1", "hard_to_soft"),
    *(
        f"{of}{share}"
        for of in ("", "forward_kl_", "reverse_kl_")
        for share in ("off_top1", "off_top5", "vanishing")
    ),
}


@pytest.fixture(scope="module")
def with_dropout(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A student whose training draws random numbers."""
    folder = tmp_path_factory.mktemp("dropout")
    student = ModelSource(config=gpt2(1, 16) | {"resid_pdrop": 0.2, "embd_pdrop": 0.2})
    return prepare(request(folder, student=student), folder / "home")


def observed(trial_file: TrialFile, output: Path, **options: Any) -> tuple[TrialResult, Recorder]:
    recorder = Recorder(**options)
    return run_trial(trial_file, output, reporter=recorder), recorder


def short(prepared: Prepared, share: float = 1.0, **config: Any) -> TrialFile:
    """A trial of so few steps that it is only looked at because it may take all of the time."""
    given = {"steps": STEPS, "generation_prompts": 2, "diagnostics_share": share}
    return trial(prepared, **given | config)


def looks_in(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((output / DIAGNOSTICS).read_text())["looks"]
    return found


@pytest.mark.parametrize(
    "config",
    [
        {"tau": 2.0},
        {"policy": "cist", "divergence": "reverse_kl", "gradient_accumulation": 3},
        {"policy": "curriculum", "divergence": "generalized_jsd"},
        {"policy": "token_adaptive", "soft_warmup": 0.5},
        {"divergence": "interpolated"},
        {"divergence": "token_scaled"},
    ],
    ids=lambda config: "-".join(map(str, config.values())),
)
def test_no_bit_of_the_training_changes(
    with_dropout: Prepared, tmp_path: Path, config: dict[str, Any]
) -> None:
    seen, recorder = observed(short(with_dropout, **config), tmp_path / "seen")
    unseen, other = observed(short(with_dropout, 0.0, **config), tmp_path / "unseen")
    assert recorder.diagnostics and not other.diagnostics
    assert not recorder.notices or recorder.notices == other.notices
    assert seen.weights_sha256 == unseen.weights_sha256
    assert seen.metrics == unseen.metrics
    assert recorder.steps == other.steps
    assert not (tmp_path / "unseen" / DIAGNOSTICS).exists()


def test_the_first_and_the_last_look_have_a_ladder_and_all_have_every_number(
    prepared: Prepared, tmp_path: Path
) -> None:
    _, recorder = observed(short(prepared, policy="cist"), tmp_path)
    looks = looks_in(tmp_path)
    assert [look["step"] for look in looks] == list(recorder.diagnostics) == [0, 2, 5, 10, 20]
    assert [len(look["ladder"]) for look in looks] == [9, 0, 0, 0, 9]
    for look in looks:
        assert look["metrics"].keys() - {"matched_entropy_std"} == NAMES
        assert sum(look["entropy"]["counts"]) == look["num_positions"] > 30
        logged = recorder.diagnostics[look["step"]]
        assert logged == {f"probe/{name}": value for name, value in look["metrics"].items()}
    content = json.loads((tmp_path / DIAGNOSTICS).read_text())
    assert content["format"] == 1 and content["split"] == "validation"
    assert 0 < content["looks_s"] < content["trial_s"]


def test_the_first_look_is_at_the_undistilled_student(prepared: Prepared, tmp_path: Path) -> None:
    """Far from the teacher all trials of a sweep see the same, whatever their seed."""
    for name, config in {"a": {"tau": 2.0}, "b": {"tau": 2.0, "seed": 7}}.items():
        observed(short(prepared, **config), tmp_path / name)
    first, other = looks_in(tmp_path / "a"), looks_in(tmp_path / "b")
    assert first[0] == other[0]
    assert first[-1]["metrics"] != other[-1]["metrics"]


def test_a_cached_teacher_says_what_it_says_online(prepared: Prepared, tmp_path: Path) -> None:
    online = short(prepared, tau=2.0)
    resolved = numerics.resolve("cpu", Precision.FLOAT32, 1)
    online = online.model_copy(update={"numerics": resolved})
    plan = plan_cache(CacheRequest.of_trial(online, table.task_named("causal_lm")), tmp_path)
    paths = online.paths.model_copy(update={"teacher_cache": str(build(plan))})
    cached = online.model_copy(update={"teacher_source": "cache:float32", "paths": paths})
    for name, file in {"online": online, "cached": cached}.items():
        observed(file, tmp_path / name)
    first, second = (looks_in(tmp_path / name)[0]["metrics"] for name in ("online", "cached"))
    assert second == pytest.approx(first, rel=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        {"divergence": "multi_level", "second_view": "crop_flip"},
        {"divergence": "correlation", "views": 2, "augmentation": "crop"},
        {"regions": 2, "policy": "cist"},
    ],
    ids=lambda config: "-".join(map(str, config.values())),
)
def test_images_are_looked_at_too(tmp_path: Path, config: dict[str, Any]) -> None:
    """Their batch norms, and what trials see beside the images, stay what they are."""
    changes = {name: config[name] for name in ("views", "augmentation") if name in config}
    prepared = prepare(request_of(**changes), tmp_path / "home")
    trials = {
        name: trial_of(prepared, evaluations=1, **config, diagnostics_share=share)
        for name, share in {"seen": 1.0, "unseen": 0.0}.items()
    }
    (seen, recorder), (unseen, _) = (observed(one, tmp_path / name) for name, one in trials.items())
    assert seen.weights_sha256 == unseen.weights_sha256
    assert seen.metrics == unseen.metrics
    assert not any("diagnostics" in notice for notice in recorder.notices)
    assert NAMES <= looks_in(tmp_path / "seen")[-1]["metrics"].keys()


def test_an_interrupted_trial_keeps_its_looks_and_repeats_none(
    prepared: Prepared, tmp_path: Path
) -> None:
    observed(short(prepared, tau=2.0), tmp_path / "whole")
    _, first = observed(
        short(prepared, tau=2.0), tmp_path / "cut", stop_after=7, reason=Leave.NODE_GOES
    )
    _, second = observed(short(prepared, tau=2.0), tmp_path / "cut")
    assert (list(first.diagnostics), list(second.diagnostics)) == ([0, 2, 5], [10, 20])
    assert looks_in(tmp_path / "cut") == looks_in(tmp_path / "whole")


def test_a_trial_without_a_teacher_is_not_looked_at(prepared: Prepared, tmp_path: Path) -> None:
    file = short(prepared, soft_weight=0.0, hard_weight=1.0)
    file = file.model_copy(update={"paths": file.paths.model_copy(update={"teacher": None})})
    _, recorder = observed(file, tmp_path)
    assert not recorder.diagnostics


def test_the_examples_are_the_same_for_all_and_a_smaller_probe_is_among_a_larger_one(
    prepared: Prepared,
) -> None:
    split = TokenData.open(Path(prepared.data)).splits["validation"]
    small, large, all_of_it = (probe_examples(split, n) for n in (20, 60, 10**6))
    assert set(small) < set(large) < set(all_of_it) == set(range(len(split)))
    assert split.num_learned[small].sum() >= 20 > split.num_learned[small[:-1]].sum()
    np.testing.assert_array_equal(small, probe_examples(split, 20))


class Clock:
    """A clock that each look moves on by `look_s`."""

    def __init__(self, look_s: float) -> None:
        self.now, self.look_s = 0.0, look_s

    def __call__(self) -> float:
        return self.now


class CountedProbe(Probe):
    """Sees nothing, in time or with an error."""

    clock: Clock
    error: Exception | None = None

    def look(self, step: int, num_steps: int, *, with_ladder: bool) -> dict[str, Any]:
        self.clock.now += self.clock.look_s
        if self.error is not None:
            raise self.error
        return {"step": step, "metrics": {"off_top1": 0.5}}


def diagnostics(
    output: Path, clock: Clock, reporter: Recorder, *, error: Exception | None = None
) -> Diagnostics:
    """Those of 100 steps, which may take 2 % of the time."""
    student = torch.nn.Module()
    student.loss = torch.nn.Module()
    student.loss.vocab_size = 9  # type: ignore[assignment]
    split = type("Split", (), {"name": "validation"})()
    probe = CountedProbe(student, None, split, 8, torch.device("cpu"), {})  # type: ignore[arg-type]
    probe.clock, probe.error = clock, error
    return Diagnostics(
        plan=ProbePlan(8, (0, 10, 25, 50, 100)),
        probe=probe,
        num_steps=100,
        share=0.02,
        reporter=reporter,
        output=output,
        clock=clock,
    )


@pytest.mark.parametrize(
    ("look_s", "expected"),
    [(0.1, [0, 10, 25, 50, 100]), (0.6, [0, 10, 100]), (0.9, [0, 100]), (1.9, [0])],
)
def test_looks_that_take_too_long_are_left_out_the_last_one_last(
    tmp_path: Path, look_s: float, expected: list[int]
) -> None:
    """A step takes 1 s, so that all looks may take 2 s."""
    clock, recorder, looks = Clock(look_s), Recorder(), []  # type: ignore[var-annotated]
    watched = diagnostics(tmp_path, clock, recorder)
    for step in range(101):
        if watched.is_due(step, looks):
            watched.look(step, looks)
        clock.now += 1.0
    assert [look["step"] for look in looks] == list(recorder.diagnostics) == expected


def test_an_error_while_looking_ends_the_diagnostics_and_not_the_trial(tmp_path: Path) -> None:
    clock, recorder, looks = Clock(0.1), Recorder(), []  # type: ignore[var-annotated]
    watched = diagnostics(tmp_path, clock, recorder, error=ValueError("no room"))
    for step in range(101):
        if watched.is_due(step, looks):
            watched.look(step, looks)
    assert recorder.notices == ["diagnostics end at step 0: ValueError: no room"]
    assert not looks and not (tmp_path / DIAGNOSTICS).exists()


def alone(file: TrialFile, folder: Path) -> dict[str, Any]:
    """Two workers train the trial, in processes of their own."""
    folder.mkdir()
    file.write(folder / "trial.json")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    command = [sys.executable, *launcher, "-m", "trainers", str(folder / "trial.json"), "--json"]
    done = subprocess.run(
        [*command, "--output", str(folder / "out")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


@pytest.mark.slow
def test_of_two_workers_one_looks_and_both_train_on(with_dropout: Prepared, tmp_path: Path) -> None:
    pairs = {
        name: short(with_dropout, share, steps=40).model_copy(update={"world_size": 2})
        for name, share in {"seen": 1.0, "unseen": 0.0}.items()
    }
    seen, unseen = (alone(file, tmp_path / name) for name, file in pairs.items())
    assert seen["weights_sha256"] == unseen["weights_sha256"]
    assert seen["metrics"] == unseen["metrics"]
    assert looks_in(tmp_path / "seen" / "out")[-1]["step"] == 40
