"""Sampled answers: right probabilities, no repeated n-grams, and luck that belongs to seed and
prompt."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families_support import make
from transformers import (
    DynamicCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from trainers.signal import OutputHead
from trainers.tasks.causal_lm import generation, models, steps
from trainers.tasks.causal_lm.generation import Decoding

VOCAB_SIZE, EOS = 24, 0
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15], [3, 3, 3, 3]]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    small = {
        "vocab_size": VOCAB_SIZE,
        "bos_token_id": EOS,
        "eos_token_id": EOS,
        "pad_token_id": EOS,
    }
    if request.param == "gpt2":
        made: Any = GPT2LMHeadModel(
            GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=48, **small)
        )
    else:
        made = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=48,
                **small,
            )
        )
    with torch.no_grad():
        # far from flat, so that errors show; GPT-2's output matrix is its input matrix too
        made.get_output_embeddings().weight.mul_(4 if request.param == "gpt2" else 20)
    return made.eval()


def decoding(**changed: Any) -> Decoding:
    values: dict[str, Any] = {
        "temperature": 1.0,
        "max_new_tokens": 12,
        "no_repeat_ngram_size": 0,
        "end_token_ids": frozenset({EOS}),
        "pad_token_id": EOS,
    }
    return Decoding(**(values | changed))


def answers(
    model: Any, prompts: list[tuple[int, list[int]]], seed: int = 1, **changed: Any
) -> dict[int, list[int]]:
    head = models.head_of(model, VOCAB_SIZE)
    return generation.generate(model, head, prompts, seed=seed, decoding=decoding(**changed))


@pytest.mark.parametrize("ngram", [0, 2, 3])
def test_greedy_answers_are_those_of_transformers(model: Any, ngram: int) -> None:
    ours = answers(model, list(enumerate(PROMPTS)), temperature=0, no_repeat_ngram_size=ngram)
    for number, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt])
        own = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=12,
            no_repeat_ngram_size=ngram,
        )[0, len(prompt) :].tolist()
        assert ours[number] == (own[: own.index(EOS)] if EOS in own else own)


def test_an_answer_depends_on_seed_and_prompt_number_alone(model: Any) -> None:
    together = answers(model, list(enumerate(PROMPTS)))
    backwards = answers(model, list(reversed(list(enumerate(PROMPTS)))))
    single = {n: answers(model, [(n, ids)])[n] for n, ids in enumerate(PROMPTS)}
    assert together == backwards == single
    assert answers(model, list(enumerate(PROMPTS)), seed=2) != together


def test_global_random_state_is_neither_read_nor_changed(model: Any) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = answers(model, list(enumerate(PROMPTS)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert answers(model, list(enumerate(PROMPTS))) == first


def test_the_first_token_is_drawn_with_the_models_probabilities(model: Any) -> None:
    prompt, count = PROMPTS[0], 4000
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    expected = (logits / 1.5).softmax(-1)
    many = [(n, prompt) for n in range(count)]
    drawn = answers(model, many, temperature=1.5, max_new_tokens=1)
    seen = torch.zeros(VOCAB_SIZE)
    for ids in drawn.values():
        seen[ids[0] if ids else EOS] += 1
    error = (seen / count - expected).abs()
    assert (error < 5 * (expected * (1 - expected) / count).sqrt() + 1e-3).all()


def test_no_ngram_of_prompt_and_answer_comes_twice(model: Any) -> None:
    drawn = answers(
        model, list(enumerate(PROMPTS)), no_repeat_ngram_size=2, max_new_tokens=30, temperature=0.7
    )
    for number, prompt in enumerate(PROMPTS):
        new = (prompt + drawn[number])[len(prompt) - 1 :]
        pairs = list(zip(new, new[1:], strict=False))
        old = set(zip(prompt, prompt[1:], strict=False))
        assert len(pairs) == len(set(pairs))
        assert not old & set(pairs)


def test_the_models_positions_bound_each_answer_by_its_own_prompt(model: Any) -> None:
    never_ends = decoding(max_new_tokens=500, temperature=0, end_token_ids=frozenset())
    head = models.head_of(model, VOCAB_SIZE)
    prompts = [(0, [5] * 40), (1, [8]), (2, [9, 3] * 24)]
    drawn = generation.generate(model, head, prompts, seed=1, decoding=never_ends)
    assert [len(drawn[n]) for n in range(3)] == [48 - 40, 48 - 1, 0]
    single = generation.generate(model, head, prompts[1:2], seed=1, decoding=never_ends)
    assert drawn[1] == single[1]


def test_luck_is_uniform_and_its_own_for_each_prompt() -> None:
    rows = torch.stack([generation.luck(10, prompt, 200) for prompt in range(50)])
    assert 0 <= rows.min() and rows.max() < 1
    assert abs(rows.mean().item() - 0.5) < 0.02
    assert len({tuple(row.tolist()) for row in rows}) == 50
    assert torch.equal(rows[3][:20], generation.luck(10, 3, 20))


def test_banned_tokens_are_those_that_would_complete_a_seen_ngram() -> None:
    ngrams = generation._Ngrams(3, [1, 2, 3, 1, 2, 4, 1, 2])
    assert sorted(ngrams.banned()) == [3, 4]
    ngrams.add(9)
    assert ngrams.banned() == []


def test_a_head_can_be_any_output_head(model: Any) -> None:
    # a head with all weight on one token answers nothing else
    weight = torch.zeros(VOCAB_SIZE, 32)
    bias = torch.full((VOCAB_SIZE,), -100.0)
    bias[17] = 100.0
    drawn = generation.generate(
        model, OutputHead(weight, bias), [(0, [5])], seed=1, decoding=decoding()
    )
    assert drawn[0] == [17] * 12


class Forgetful(DynamicCache):
    """Keeps no keys and values of earlier tokens."""

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> Any:
        return key_states, value_states


def broken(model: Any) -> Any:
    raise AttributeError("this cache has no such layer")


@pytest.mark.parametrize("cache", [lambda model: Forgetful(), broken])
def test_a_model_whose_cache_is_wrong_is_run_without_one(
    monkeypatch: pytest.MonkeyPatch, cache: Any
) -> None:
    model = make("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)
    prompts = list(enumerate(PROMPTS))
    expected = answers(model, prompts, temperature=0)
    assert steps.cache_is_right(model, [1])
    other = make("llama")
    other.load_state_dict(model.state_dict())
    monkeypatch.setattr(steps, "_cache", cache)
    assert answers(other, prompts, temperature=0) == expected
    assert not steps.cache_is_right(other, [1])


@pytest.mark.parametrize("spare", [0, 3])
def test_the_memory_of_a_cache_changes_no_answer(
    model: Any, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    # rows end at different steps, so that some leave between two growths
    options: dict[str, Any] = {"max_new_tokens": 30, "end_token_ids": frozenset({EOS, 3, 4, 5})}
    expected = answers(model, list(enumerate(PROMPTS)), **options)
    monkeypatch.setattr(steps, "SPARE_COLUMNS", spare)
    assert answers(model, list(enumerate(PROMPTS)), **options) == expected
    plain = lambda model: DynamicCache(config=model.config)  # noqa: E731
    monkeypatch.setattr(steps, "_cache", plain)
    assert answers(model, list(enumerate(PROMPTS)), **options) == expected


def test_a_step_does_not_move_what_the_cache_holds() -> None:
    layer, column = steps._Spacious(), torch.ones(2, 1, 1, 4)
    places = {layer.update(column, column)[0].data_ptr() for _ in range(steps.SPARE_COLUMNS)}
    assert len(places) == 1
    keys, values = layer.update(2 * column, 3 * column)
    assert keys.shape == values.shape == (2, 1, steps.SPARE_COLUMNS + 1, 4)
    assert keys[:, :, -1].eq(2).all() and values[:, :, -1].eq(3).all()
    assert keys[:, :, :-1].eq(1).all()


def test_the_cache_is_tried_once_a_model(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(model, [(0, [5])])
    monkeypatch.setattr(steps, "_try", lambda *_: pytest.fail("tried again"))
    answers(model, [(0, [5])], seed=2)


TOKENIZER = SimpleNamespace(
    eos_token_id=0, all_special_ids=[0], added_tokens_decoder={0: "", 7: ""}
)


@pytest.mark.parametrize(
    ("config", "ends"),
    [
        (GenerationConfig(eos_token_id=[1, 7]), {0, 1, 7}),  # Gemma's end of turn
        (GenerationConfig(eos_token_id=5), {0, 5}),
        (GenerationConfig(), {0}),
        # taken from the model's config: there it may be no more than the default of the class
        (GenerationConfig(eos_token_id=2, _from_model_config=True), {0}),
        (GenerationConfig(eos_token_id=7, _from_model_config=True), {0, 7}),
        (GenerationConfig(eos_token_id=[2, 7], _from_model_config=True), {0, 2, 7}),
    ],
)
def test_every_end_token_of_tokenizer_and_generation_config_ends_an_answer(
    config: Any, ends: set[int]
) -> None:
    model = SimpleNamespace(generation_config=config)
    assert generation.end_tokens(model, TOKENIZER) == ends


def test_an_end_token_of_the_generation_config_is_read_from_the_models_folder(
    tmp_path: Path,
) -> None:
    made = make("gemma2")
    made.generation_config = GenerationConfig(eos_token_id=[1, 9])
    made.save_pretrained(tmp_path)
    loaded = models.load(tmp_path, attention=None, dtype=torch.float32)
    assert generation.end_tokens(loaded, TOKENIZER) == {0, 1, 9}
    # a head with all weight on one token answers nothing else
    bias = torch.zeros(40).index_fill(0, torch.tensor(9), 100.0)
    head = OutputHead(torch.zeros(40, 16), bias)
    ends = generation.end_tokens(loaded, TOKENIZER)
    drawn = generation.generate(
        loaded, head, [(0, [5])], seed=1, decoding=decoding(end_token_ids=ends)
    )
    assert drawn[0] == []
