"""Validation metrics against their definitions, written out over whole logits."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_support import trial

from trainers import numerics
from trainers.tasks import position_evaluation
from trainers.tasks.causal_lm import batches, models
from trainers.tasks.causal_lm.answers import Answers
from trainers.tasks.causal_lm.data import TokenData
from trainers.tasks.causal_lm.evaluation import TextEvaluator
from trainers.tasks.causal_lm.metrics import TEXT_METRICS
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.teachers.online import OnlineTeacher
from trainers.training.student import StudentWithLoss
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.reporting import Evaluation
from trainers.trial.sources import Prepared
from trainers.world import World

MODELS = ("student", "teacher")


@pytest.fixture(scope="module")
def loaded(prepared: Prepared) -> dict[str, Any]:
    def load(folder: str) -> Any:
        return models.load(Path(folder), attention=None, dtype=torch.float32)

    return {
        "student": load(prepared.student),
        "teacher": load(prepared.teacher),
        "data": TokenData.open(Path(prepared.data)),
    }


def evaluate(loaded: dict[str, Any], config: TrialConfig, **options: bool) -> dict[str, float]:
    return evaluation(loaded, config, **options).metrics


def evaluation(
    loaded: dict[str, Any], config: TrialConfig, *, is_thorough: bool = False
) -> Evaluation:
    resolved = numerics.resolve("cpu", Precision.FLOAT32, 1)
    data: TokenData = loaded["data"]
    student, teacher = (LanguageModel.of(loaded[who], data.num_classes) for who in MODELS)
    evaluator = TextEvaluator(config, data, OnlineTeacher(teacher), World(), resolved, is_thorough)
    scored = StudentWithLoss.build(student, config, device=torch.device("cpu"), numerics=resolved)
    return evaluator.evaluate(scored, {})


def logits(loaded: dict[str, Any], which: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits in float64 and labels of every learned position, one example at a time."""
    split = loaded["data"].splits["validation"]
    rows, labels = [], []
    for i in range(len(split)):
        ids = torch.from_numpy(split.tokens(i).astype(np.int64))
        with torch.no_grad():
            out = loaded[which](input_ids=ids[None]).logits[0].double()
        where = torch.from_numpy(split.learned(i)[1:].copy())
        rows.append(out[:-1][where])
        labels.append(ids[1:][where])
    return torch.cat(rows), torch.cat(labels)


def calibration_error(q: torch.Tensor, labels: torch.Tensor) -> float:
    """Guo et al.'s, bin by bin."""
    confidence, guess = q.max(-1)
    error = 0.0
    for low in np.arange(15) / 15:
        here = (confidence > low) & (confidence <= low + 1 / 15)
        if here.any():
            right = (guess[here] == labels[here]).double().mean()
            error += float(here.double().mean() * (right - confidence[here].mean()).abs())
    return error


def test_metrics_are_what_their_names_say(loaded: dict[str, Any], prepared: Prepared) -> None:
    config = trial(prepared, tau=2.0, generation_prompts=0).config
    metrics = evaluate(loaded, config)
    z, labels = logits(loaded, "student")
    v, _ = logits(loaded, "teacher")
    log_q, log_p = z.log_softmax(-1), v.log_softmax(-1)
    q, p = log_q.exp(), log_p.exp()
    soft = (v / 2.0).log_softmax(-1)
    soft_entropy = -(soft.exp() * soft).sum(-1)
    centred_z, centred_v = z - z.mean(-1, keepdim=True), v - v.mean(-1, keepdim=True)
    cross_entropy = torch.nn.functional.cross_entropy(z, labels).item()
    expected = {
        "cross_entropy": cross_entropy,
        "perplexity": math.exp(cross_entropy),
        "kl_teacher_student": (p * (log_p - log_q)).sum(-1).mean().item(),
        "kl_student_teacher": (q * (log_q - log_p)).sum(-1).mean().item(),
        "student_entropy": -(q * log_q).sum(-1).mean().item(),
        "teacher_entropy": -(p * log_p).sum(-1).mean().item(),
        "calibration_error": calibration_error(q, labels),
        "top1_agreement": (z.argmax(-1) == v.argmax(-1)).double().mean().item(),
        "teacher_entropy_mean": soft_entropy.mean().item(),
        "logit_scale_ratio": (
            centred_z.max(-1).values.mean() / centred_v.max(-1).values.mean()
        ).item(),
    }
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, rel=1e-4), name
    std = soft_entropy.std(unbiased=False).item()
    assert metrics["teacher_entropy_std"] == pytest.approx(std, rel=1e-2)


def test_examples_have_the_scores_that_the_metrics_are_means_of(
    loaded: dict[str, Any], prepared: Prepared
) -> None:
    found = evaluation(loaded, trial(prepared, generation_prompts=3, max_new_tokens=4).config)
    split = loaded["data"].splits["validation"]
    assert found.by_example["example_id"] == split.example_ids.tolist()
    z, labels = logits(loaded, "student")
    of_position = torch.nn.functional.cross_entropy(z, labels, reduction="none")
    expected = [part.mean().item() for part in of_position.split(split.num_learned.tolist())]
    assert found.by_example["cross_entropy"] == pytest.approx(expected, rel=1e-4)
    for name in ("cross_entropy", "kl_teacher_student", "kl_student_teacher", "top1_agreement"):
        mean = np.average(found.by_example[name], weights=split.num_learned)
        assert mean == pytest.approx(found.metrics[name], rel=1e-9), name
    for name in ("rouge_l", "exact_match"):
        answered, rest = found.by_example[name][:3], found.by_example[name][3:]
        assert np.mean(answered) == pytest.approx(found.metrics[name])
        assert len(rest) == len(split) - 3 and np.isnan(rest).all()


@pytest.mark.parametrize("change", [{"tau": 8.0}, {"policy": "cist"}, {"divergence": "reverse_kl"}])
def test_no_hyperparameter_of_the_loss_reaches_the_metrics(
    loaded: dict[str, Any], prepared: Prepared, change: dict[str, Any]
) -> None:
    plain = evaluate(loaded, trial(prepared, tau=1.0).config)
    changed = evaluate(loaded, trial(prepared, **change).config)
    about_the_loss = {"teacher_entropy_mean", "teacher_entropy_std"}
    same = {n: v for n, v in plain.items() if n not in about_the_loss}
    assert {n: v for n, v in changed.items() if n not in about_the_loss} == same


def test_chunks_and_batches_do_not_show(
    loaded: dict[str, Any], prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trial(prepared, tau=2.0, generation_prompts=0).config
    whole = evaluate(loaded, config)
    monkeypatch.setattr(position_evaluation, "MIN_CHUNK_ROWS", 7)
    monkeypatch.setitem(position_evaluation.MAX_CHUNK_LOGITS, "cpu", 1)
    monkeypatch.setitem(batches.MAX_BATCH_TOKENS, "cpu", 64)
    for name, value in evaluate(loaded, config).items():
        assert value == pytest.approx(whole[name], rel=1e-5), name


def test_the_mode_of_the_student_is_left_as_it_was(
    loaded: dict[str, Any], prepared: Prepared
) -> None:
    loaded["student"].train()
    evaluate(loaded, trial(prepared, generation_prompts=0).config)
    assert not loaded["teacher"].training
    loaded["student"].eval()


def rouge(by_seed: list[list[str]], references: list[list[str]]) -> dict[str, float]:
    answers = Answers(by_seed, references)
    return {metric.name: metric.of(answers) for metric in TEXT_METRICS}


def test_rouge_takes_the_best_reference_and_shows_a_floor() -> None:
    references = [["the cat sleeps", "a dog runs"], ["owls sing"], ["foxes hide well"]]
    perfect = [["a dog runs", "owls sing", "foxes hide well"]]
    scores = rouge(perfect, references)
    assert scores["rouge_l"] == pytest.approx(100)
    assert scores["rouge_l_shuffled"] == pytest.approx(0)
    # longest common subsequence 2 of 3 and 4 words: precision 2/4, recall 2/3
    (half,) = [rouge([["cat sleeps so long"]], [["the cat sleeps"]])["rouge_l"]]
    assert half == pytest.approx(100 * 2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))


def test_an_exact_match_is_blind_to_case_punctuation_and_space() -> None:
    references = [["The cat sleeps.", "A dog"], ["owls sing"], ["x"], ["y"]]
    answers = [["a  DOG!", "owls sings", "x", "z"], ["no", "no", "no", "no"]]
    assert rouge(answers, references)["exact_match"] == pytest.approx(25)


def test_distinct_counts_the_ngrams_of_a_seeds_answers() -> None:
    references = [["x"], ["x"]]
    repeated = rouge([["a b a b", "a b"], ["c d e", "f"]], references)
    # 2 of 6 words and 4 of 4; of pairs (ab, ba, ab, ab) 2 of 4, (cd, de) 2 of 2
    assert repeated["distinct_1"] == pytest.approx(100 * (2 / 6 + 4 / 4) / 2)
    assert repeated["distinct_2"] == pytest.approx(100 * (2 / 4 + 2 / 2) / 2)
    assert repeated["response_length"] == pytest.approx((3 + 2) / 2)
    assert rouge([["", ""]], references)["distinct_2"] == 0


def test_self_bleu_is_that_of_each_answer_against_the_others() -> None:
    references = [["x"]] * 3
    same, other = "the cat sleeps on the mat", "owls sing all night long here"
    assert rouge([[same] * 3], references)["self_bleu"] == pytest.approx(100)
    assert rouge([[same, other, "a b c d"]], references)["self_bleu"] < 20
    # of "a b c d" with "a b c x": 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, 0.5 of 1 (smoothed)
    alike = rouge([["a b c d", "a b c x"]], references[:2])["self_bleu"]
    assert alike == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4))
    assert rouge([["the cat"]], references[:1])["self_bleu"] == 0


def test_only_a_finished_student_is_measured_by_what_is_slow(
    loaded: dict[str, Any], prepared: Prepared
) -> None:
    config = trial(prepared, generation_prompts=3, max_new_tokens=4).config
    quick, thorough = evaluate(loaded, config), evaluate(loaded, config, is_thorough=True)
    assert thorough.keys() - quick.keys() == {"self_bleu"}
    assert {name: thorough[name] for name in quick} == quick


def test_seeds_are_averaged() -> None:
    references = [["the cat"], ["the dog"]]
    both = rouge([["the cat", "the dog"], ["no", "no"]], references)
    assert both["rouge_l"] == pytest.approx(50)
