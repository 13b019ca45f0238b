"""Responses to train on: drawn with the probabilities that are noted, and by luck that belongs to
seed, step, prompt and sample."""

import copy
import math
from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from families_support import make
from scipy import stats
from torch import Tensor

from trainers.responses import Response, Sampling
from trainers.tasks.causal_lm import sampling as sampled
from trainers.tasks.causal_lm import steps
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.tasks.causal_lm.sampling import ModelSampler

VOCAB_SIZE, END = 40, 0
PROMPTS = {(7, 0): [5, 6, 7], (3, 0): [8], (3, 1): [8], (9, 2): [9, 10, 11, 12, 13], (1, 0): [3, 3]}
CPU = {"device": "cpu", "precision": "float32"}
SEED = (1, 4)


def network(family: str = "llama", **changed: Any) -> Any:
    """A tiny model, far from flat."""
    model = make(family, **changed)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(4 if family == "gpt2" else 15)
    return LanguageModel.of(model, model.config.vocab_size)


@pytest.fixture(scope="module")
def student() -> Any:
    return network("gpt2")


@pytest.fixture(scope="module")
def teacher() -> Any:
    return network("llama")


def asked(**changed: Any) -> Sampling:
    values: dict[str, Any] = {
        "temperature": 1.0,
        "max_new_tokens": 10,
        "end_token_ids": frozenset({END}),
        "pad_token_id": END,
    }
    return Sampling(**(values | changed))


def sample(
    student: Any,
    prompts: Any = PROMPTS,
    *,
    seed: tuple[int, ...] = SEED,
    teacher: Any = None,
    numerics: dict[str, Any] = CPU,
    **changed: Any,
) -> dict[tuple[int, int], Response]:
    return ModelSampler(student, asked(**changed), numerics, teacher).sample(prompts, seed=seed)


def drawn_from(
    network: Any, prompt: list[int], texts: Any, temperature: float, top_p: float
) -> Any:
    """The probabilities [texts, tokens, V] that each token of some equally long texts behind a
    prompt is drawn from, in float64, by one pass over all of it and a sort."""
    model = copy.deepcopy(network.model).double()
    with torch.no_grad():
        whole = torch.tensor([prompt + list(ids) for ids in texts])
        logits = model(whole, use_cache=False).logits[:, len(prompt) - 1 : -1]
    return np.apply_along_axis(cut, -1, (logits / temperature).softmax(-1).numpy(), top_p)


def cut(probabilities: Any, top_p: float) -> Any:
    kept, mass = [], 0.0
    for token in sorted(range(len(probabilities)), key=lambda t: (-probabilities[t], t)):
        kept.append(token)
        mass += probabilities[token]
        if mass >= top_p:
            break
    result = np.zeros_like(probabilities)
    result[kept] = probabilities[kept] / mass
    return result


@pytest.mark.parametrize(
    ("temperature", "top_p", "mix"),
    [(1.0, 1.0, 0.0), (0.7, 1.0, 0.0), (1.3, 0.6, 0.0), (1.5, 1.0, 0.2), (0.8, 0.7, 0.6)],
)
def test_log_probs_are_those_of_the_distribution_that_drew_each_token(
    student: Any, teacher: Any, temperature: float, top_p: float, mix: float
) -> None:
    responses = sample(
        student, teacher=teacher, temperature=temperature, top_p=top_p, teacher_mix=mix
    )
    for key, response in responses.items():
        assert len(response.log_probs) == len(response.ids) > 0
        of_both = (
            drawn_from(one, PROMPTS[key], [response.ids], temperature, top_p)[0]
            for one in (student, teacher)
        )
        expected = [
            np.log((1 - mix) * q[token] + mix * p[token])
            for token, q, p in zip(response.ids, *of_both, strict=True)
        ]
        assert response.log_probs == pytest.approx(expected, abs=1e-4)


SMALL = 4
SIZES = {"vocab_size": SMALL, "max_position_embeddings": 8, "n_positions": 8}


@pytest.mark.parametrize(
    ("temperature", "top_p", "mix"), [(1.0, 1.0, 0.0), (1.7, 0.9, 0.0), (0.8, 1.0, 0.5)]
)
def test_whole_responses_come_as_often_as_their_probabilities_say(
    temperature: float, top_p: float, mix: float
) -> None:
    student, teacher = (network(f, **SIZES) for f in ("gpt2", "llama"))
    prompt, length, count = [1, 2], 3, 4000
    responses = sample(
        student,
        {(5, number): prompt for number in range(count)},
        teacher=teacher,
        temperature=temperature,
        top_p=top_p,
        teacher_mix=mix,
        max_new_tokens=length,
    )
    seen = Counter(tuple(response.ids) for response in responses.values())

    texts = list(product(range(SMALL), repeat=length))
    q, p = (drawn_from(one, prompt, texts, temperature, top_p) for one in (student, teacher))
    expected: dict[tuple[int, ...], float] = {}
    for number, text in enumerate(texts):
        ids = text[: text.index(END) + 1 if END in text else length]
        rows = (1 - mix) * q[number] + mix * p[number]
        expected[ids] = math.prod(row[token] for row, token in zip(rows, ids, strict=False))
    assert sum(expected.values()) == pytest.approx(1)
    assert set(seen) <= {ids for ids, probability in expected.items() if probability > 0}
    often = [ids for ids, probability in expected.items() if probability * count >= 5]
    rare = 1 - sum(expected[ids] for ids in often)
    observed = [seen[ids] for ids in often]
    wanted = [expected[ids] * count for ids in often]
    if rare > 1e-9:
        observed, wanted = [*observed, count - sum(observed)], [*wanted, rare * count]
    assert stats.chisquare(observed, wanted).pvalue > 0.01


def test_a_response_depends_on_seed_prompt_and_sample_alone(student: Any) -> None:
    together = sample(student)
    backwards = sample(student, dict(reversed(PROMPTS.items())))
    alone = {key: sample(student, {key: ids})[key] for key, ids in PROMPTS.items()}
    texts = [{key: one.ids for key, one in found.items()} for found in (together, backwards, alone)]
    assert texts[0] == texts[1] == texts[2]
    assert together[3, 0].ids != together[3, 1].ids
    for seed in ((2, 4), (1, 5), (1,)):
        assert {key: one.ids for key, one in sample(student, seed=seed).items()} != texts[0]


def test_random_state_and_modes_stay_and_dropout_is_off() -> None:
    one = network("gpt2", resid_pdrop=0.5, embd_pdrop=0.5)
    expected = sample(one)
    one.model.train()
    one.body.h[0].eval()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert sample(one) == expected
    assert torch.equal(torch.get_rng_state(), before)
    assert one.model.training and one.body.h[1].training and not one.body.h[0].training
    assert all(parameter.grad is None for parameter in one.model.parameters())


def test_recomputed_activations_change_nothing(student: Any) -> None:
    other = network("gpt2")
    other.model.activation_checkpointing_enable({"use_reentrant": False})
    other.model.train()
    assert sample(other) == sample(student)


def test_the_token_that_ends_a_response_belongs_to_it(student: Any) -> None:
    free = sample(student, max_new_tokens=30, end_token_ids=frozenset())
    end = free[7, 0].ids[4]
    found = sample(student, max_new_tokens=30, end_token_ids=frozenset({end}))
    for key, response in found.items():
        ids = free[key].ids
        stop = ids.index(end) + 1 if end in ids else len(ids)
        assert response.ids == ids[:stop]
        assert response.ended == (end in ids)
        assert response.log_probs == pytest.approx(free[key].log_probs[:stop], abs=1e-5)


def test_positions_bound_each_response(student: Any) -> None:
    prompts = {(0, 0): [5] * 60, (1, 0): [8], (2, 0): [9, 3] * 32}
    found = sample(student, prompts, max_new_tokens=100, end_token_ids=frozenset())
    assert [len(found[n, 0].ids) for n in range(3)] == [4, 63, 0]
    assert found[2, 0] == Response([], [], ended=False)


def test_the_shares_0_and_1_of_a_teacher_are_the_student_and_the_teacher(
    student: Any, teacher: Any
) -> None:
    assert sample(student, teacher=teacher, teacher_mix=0.0) == sample(student)
    assert sample(student, teacher=teacher, teacher_mix=1.0) == sample(teacher)
    assert sample(student, teacher=teacher, teacher_mix=0.5) != sample(student)


def test_a_mixture_needs_a_teacher(student: Any) -> None:
    with pytest.raises(ValueError, match="teacher_mix needs a teacher, but got 0.2 and none"):
        sample(student, teacher_mix=0.2)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("temperature", -0.5, "must not be negative"),
        ("max_new_tokens", 0, "must be positive"),
        ("top_p", 0.0, r"must be in \(0, 1\]"),
        ("top_p", 1.1, r"must be in \(0, 1\]"),
        ("teacher_mix", -0.1, r"must be in \[0, 1\]"),
    ],
)
def test_what_cannot_be_sampled_is_refused(field: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=f"{field} {rule}, but got {value}"):
        asked(**{field: value})


def test_a_teacher_whose_cache_is_wrong_is_run_without_one(
    student: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = network("llama"), network("llama")
    wrong.model.load_state_dict(right.model.state_dict())
    expected = sample(student, teacher=right, teacher_mix=0.5)
    monkeypatch.setitem(steps._CHECKED, wrong.model, False)
    found = sample(student, teacher=wrong, teacher_mix=0.5)
    assert {key: one.ids for key, one in found.items()} == {
        key: one.ids for key, one in expected.items()
    }


def test_bfloat16_is_that_of_the_trial(student: Any) -> None:
    numerics = {"device": "cpu", "precision": "bfloat16"}
    teacher = network("llama")
    teacher.model.bfloat16()
    options: dict[str, Any] = {"teacher": teacher, "teacher_mix": 0.5, "numerics": numerics}
    found = sample(student, **options)
    assert found == sample(student, **options)
    for key, response in found.items():
        text = PROMPTS[key]
        first = response.ids[0]
        with torch.no_grad():
            with torch.autocast("cpu", torch.bfloat16):
                q = student.model(torch.tensor([text])).logits[0, -1].float().softmax(-1)[first]
            p = teacher.model(torch.tensor([text])).logits[0, -1].float().softmax(-1)[first]
        assert response.log_probs[0] == pytest.approx(float((q / 2 + p / 2).log()), abs=0.05)


def brute_force(probabilities: Tensor, top_p: float) -> Tensor:
    return torch.from_numpy(np.stack([cut(row, top_p) > 0 for row in probabilities.numpy()]))


@pytest.mark.parametrize("top_p", [1e-6, 0.29, 0.91, 0.999])
@pytest.mark.parametrize("scale", [0.0, 0.1, 3.0])
def test_top_p_keeps_the_smallest_set_that_reaches_it(
    monkeypatch: pytest.MonkeyPatch, top_p: float, scale: float
) -> None:
    monkeypatch.setattr(sampled, "LARGEST", (4, 16))
    logits = torch.randn(9, 50, generator=torch.Generator().manual_seed(0)) * scale
    logits[3, 10:30] = logits[3].max()  # equal ones: the first are kept
    probabilities = logits.softmax(-1)
    found = sampled.nucleus(probabilities, top_p)
    assert torch.equal(found, brute_force(probabilities, top_p))
    warped = sampled.warped(logits, 1.0, top_p)
    assert torch.allclose(warped.sum(-1), torch.ones(9)) and not warped[~found].any()
