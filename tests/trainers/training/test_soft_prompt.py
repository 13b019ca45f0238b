"""The soft prompt before the teacher's input: the loss it descends, what it moves, what never sees
it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_support import Recorder, trial

from trainers import numerics as numerics_of
from trainers.batch_source import Step
from trainers.files.fingerprints import of_weights
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.data import TokenData
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.tasks.causal_lm.runtime import CausalLmRuntime
from trainers.teachers.online import OnlineTeacher
from trainers.teachers.prompted import PromptedTeacher
from trainers.training.run import run_trial
from trainers.training.soft_prompt import PromptTraining
from trainers.training.start import KeptBetweenTrials
from trainers.training.student import StudentWithLoss
from trainers.training.wrapping import Replicated
from trainers.trial.config import TrialConfig
from trainers.trial.reporting import TrialResult
from trainers.trial.sources import Prepared
from trainers.world import World

PROMPT: dict[str, Any] = {"soft_prompt_tokens": 4, "soft_prompt_learning_rate": 0.05}
# Plain gradient descent, so that a step shows its gradient.
DESCENT: dict[str, Any] = {
    "optimizer": "sgd",
    "schedule": "constant",
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "soft_prompt_tokens": 5,
    "soft_prompt_learning_rate": 1.0,
    "soft_prompt_base_weight": 0.7,
    "gradient_accumulation": 2,
    "steps": 4,
    "max_tokens": 96,
    "max_prompt_tokens": 72,
}


def load(folder: str) -> Any:
    return models.load(Path(folder), attention=None, dtype=torch.float32)


def training(prepared: Prepared, config: TrialConfig) -> PromptTraining:
    """The training of a prompt, between the prepared teacher and student."""
    world = World()
    numerics = numerics_of.completed({}, "cpu", config.precision)
    data = TokenData.open(Path(prepared.data))
    bare = OnlineTeacher(LanguageModel.of(load(prepared.teacher), prepared.vocab_size))
    network = CausalLmRuntime().behind_prompt(config, data, teacher=bare.network)
    student = StudentWithLoss.build(
        LanguageModel.of(load(prepared.student).train(), prepared.vocab_size),
        config,
        device=world.device,
        numerics=numerics,
    )
    shared = Replicated(student, world)
    return PromptTraining(
        PromptedTeacher(bare, network), shared, config, world=world, numerics=numerics
    )


def batches_of(prepared: Prepared, *groups: list[int]) -> list[Any]:
    split = TokenData.open(Path(prepared.data)).splits["train"]
    return [split.collate(np.array(group)) for group in groups]


def log_probabilities(model: Any, ids: Tensor, before: Tensor) -> Tensor:
    """Of each next token of one text behind vectors, [T, V], by the model's own forward pass."""
    embedded = model.get_input_embeddings()(ids)
    logits = model(inputs_embeds=torch.cat([before, embedded])[None]).logits[0, len(before) :]
    return logits.log_softmax(-1)


def losses_of(prompt: Tensor, teacher: Any, student: Any, batches: list[Any]) -> list[Tensor]:
    """The means of sum P (log P - log q) and sum P (log P - log p), text by text."""
    nothing, sums, count = prompt[:0], [torch.zeros(()), torch.zeros(())], 0
    of_student = student.get_input_embeddings().weight[:0]
    for batch in batches:
        width = batch.input_ids.shape[1]
        for row, ids in enumerate(batch.input_ids):
            where = batch.positions[batch.sequence_ids == row] - row * width
            ids = ids[: where.max() + 1]  # without padding
            log_p = log_probabilities(teacher, ids, prompt)[where]
            others = [
                log_probabilities(student, ids, of_student)[where].detach(),
                log_probabilities(teacher, ids, nothing)[where].detach(),
            ]
            for i, other in enumerate(others):
                sums[i] = sums[i] + (log_p.exp() * (log_p - other)).sum()
            count += len(where)
    return [each / count for each in sums]


@pytest.mark.parametrize("number", [0, 3])
def test_a_step_descends_the_written_out_loss(prepared: Prepared, number: int) -> None:
    of = training(prepared, TrialConfig.model_validate(DESCENT))
    batches = batches_of(prepared, [0, 7, 21], [3])
    # away from its start, where the student's part of the gradient is all there is
    with torch.no_grad():
        of.teacher.prompt += 0.3 * torch.randn(5, 32, generator=torch.manual_seed(1))
    before = of.teacher.prompt.detach().clone().requires_grad_()
    num_positions = sum(len(batch.labels) for batch in batches)
    found = of.learn(Step(number, batches, num_positions), 4)
    weight = 0.7 * (1 - (number + 1) / 4)
    teacher, student = load(prepared.teacher), load(prepared.student)
    to_student, to_base = losses_of(before, teacher, student, batches)
    (to_student + weight * to_base).backward()  # type: ignore[no-untyped-call]
    assert before.grad is not None and before.grad.abs().max() > 1e-4
    step = before.detach() - of.teacher.prompt.detach()
    torch.testing.assert_close(step, before.grad, rtol=1e-3, atol=1e-6)
    whole = to_student.item() + weight * to_base.item()
    assert found["soft_prompt_loss"] == pytest.approx(whole, 1e-4)
    assert found["soft_prompt_shift"] == pytest.approx(to_base.item(), 1e-4)


def test_the_gradient_is_the_losss_slope(prepared: Prepared) -> None:
    """By differences of the loss itself, along a random direction."""
    of = training(prepared, TrialConfig.model_validate(DESCENT))
    batches = batches_of(prepared, [1, 2])
    random = torch.manual_seed(2)
    start, direction = (torch.randn(5, 32, generator=random) for _ in range(2))

    def loss_at(distance: float) -> float:
        with torch.no_grad():
            of.teacher.prompt.copy_(start + distance * direction)
        return of.learn(Step(0, batches, 40), 4)["soft_prompt_loss"]

    loss_at(0.0)  # the optimiser's first step is the gradient
    gradient = start - of.teacher.prompt.detach()
    slope = (loss_at(0.02) - loss_at(-0.02)) / 0.04
    assert slope == pytest.approx((gradient * direction).sum().item(), rel=0.02)


def test_a_step_leaves_teacher_and_student_as_they_were(prepared: Prepared) -> None:
    of = training(prepared, TrialConfig.model_validate(DESCENT))
    student, teacher = of.student.whole, of.teacher.bare.network.model
    weights = [of_weights(dict(each.state_dict())) for each in (student.model, teacher)]
    luck = torch.get_rng_state()
    of.learn(Step(0, batches_of(prepared, [0, 7]), 60), 4)
    assert [of_weights(dict(each.state_dict())) for each in (student.model, teacher)] == weights
    assert all(each.grad is None for each in (*student.parameters(), *teacher.parameters()))
    assert student.training and not teacher.training
    assert torch.equal(torch.get_rng_state(), luck), "what a student drops does not depend on it"


def run(prepared: Prepared, output: Path, **config: Any) -> tuple[TrialResult, Recorder]:
    recorder = Recorder()
    values: dict[str, Any] = {"student_share": 0.5, "sampling_max_tokens": 6, "tau": 2.0}
    result = run_trial(trial(prepared, **(values | config)), output, reporter=recorder)
    return result, recorder


def test_without_tokens_a_trial_trains_to_the_bits_of_one_that_knows_none(
    prepared: Prepared, tmp_path: Path
) -> None:
    plain, losses = run(prepared, tmp_path / "plain")
    idle = {"soft_prompt_tokens": 0, "soft_prompt_learning_rate": 3.0, "soft_prompt_text": "Go."}
    other, others = run(prepared, tmp_path / "idle", **idle)
    assert other.weights_sha256 == plain.weights_sha256 and others.steps == losses.steps
    with_one, seen = run(prepared, tmp_path / "prompt", **PROMPT)
    assert with_one.weights_sha256 != plain.weights_sha256
    assert all(
        step["soft_prompt_loss"] > 0 < step["soft_prompt_shift"] for step in seen.steps.values()
    )
    of_prompt = {"soft_prompt_loss", "soft_prompt_shift"}
    assert not any(of_prompt & step.keys() for step in losses.steps.values())


@pytest.mark.parametrize(
    "change",
    [
        {"soft_prompt_tokens": 5},
        {"soft_prompt_text": "The cat sleeps."},
        {"soft_prompt_learning_rate": 0.01},
        {"soft_prompt_base_weight": 0.0},
    ],
)
def test_each_field_moves_what_the_student_learns(
    prepared: Prepared, tmp_path: Path, change: dict[str, Any]
) -> None:
    one, _ = run(prepared, tmp_path / "one", **PROMPT, generation_prompts=0)
    other, _ = run(prepared, tmp_path / "other", **(PROMPT | change), generation_prompts=0)
    assert one.weights_sha256 != other.weights_sha256


def test_the_teacher_of_evaluations_and_of_the_next_trial_is_the_one_without(
    prepared: Prepared, tmp_path: Path
) -> None:
    kept, runtime = KeptBetweenTrials(), CausalLmRuntime()
    plain, prompted = (trial(prepared, **fields) for fields in ({}, PROMPT))
    first = run_trial(plain, tmp_path / "first", reporter=Recorder(), kept=kept)
    result = run_trial(prompted, tmp_path / "prompt", reporter=Recorder(), kept=kept)
    teacher = kept.kept["teacher"][1]
    assert of_weights(dict(teacher.model.state_dict())) == of_weights(
        dict(load(prepared.teacher).state_dict())
    )
    again = run_trial(plain, tmp_path / "again", reporter=Recorder(), kept=kept)
    assert again.weights_sha256 == first.weights_sha256 and again.metrics == first.metrics
    # the student that was saved, against a teacher that never had a prompt
    data = TokenData.open(Path(prepared.data))
    numerics = numerics_of.completed({}, "cpu", prompted.config.precision)
    student = StudentWithLoss.build(
        LanguageModel.of(load(str(result.student)), prepared.vocab_size),
        prompted.config,
        device=torch.device("cpu"),
        numerics=numerics,
    )
    fresh = OnlineTeacher(LanguageModel.of(load(prepared.teacher), prepared.vocab_size))
    evaluator = runtime.evaluator(
        prompted.config, data, teacher=fresh, world=World(), numerics=numerics
    )
    assert evaluator.evaluate(student, {}).metrics == pytest.approx(result.metrics)


def test_it_learns_beside_a_teacher_in_bfloat16(prepared: Prepared, tmp_path: Path) -> None:
    wide, half = (
        run(prepared, tmp_path / name, **PROMPT, precision=name, steps=2, generation_prompts=0)[1]
        for name in ("float32", "bfloat16")
    )
    for step, expected in wide.steps.items():
        found = half.steps[step]["soft_prompt_loss"]
        assert found != expected["soft_prompt_loss"]
        assert found == pytest.approx(expected["soft_prompt_loss"], rel=0.05)


def test_a_cache_and_a_missing_teacher_are_refused(prepared: Prepared, tmp_path: Path) -> None:
    file = trial(prepared, **PROMPT)
    cached = file.model_copy(update={"teacher_source": "cache:float32"})
    with pytest.raises(ValueError, match=r"must be online where .*\(soft_prompt_tokens=4\)"):
        run_trial(cached, tmp_path, reporter=Recorder())
    alone = file.model_copy(update={"paths": file.paths.model_copy(update={"teacher": None})})
    with pytest.raises(ValueError, match=r"paths.teacher: it must name .* soft_prompt_tokens=4"):
        run_trial(alone, tmp_path, reporter=Recorder())
    long = trial(prepared, **PROMPT | {"soft_prompt_tokens": 33})
    with pytest.raises(ValueError, match=r"got 33 \+ 96 > 128 positions"):
        run_trial(long, tmp_path, reporter=Recorder())
