"""Models taken apart into body and head: right for the usual families, refused where it would be
wrong."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families_support import FAMILIES, VOCAB_SIZE, make

from trainers.tasks.causal_lm import models


def tokens() -> torch.Tensor:
    return torch.randint(1, VOCAB_SIZE, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_of_the_hidden_states_gives_the_models_own_logits(family: str) -> None:
    model = make(family)
    models.check_head(model, tokens(), VOCAB_SIZE)
    with torch.no_grad():
        hidden = models.hidden_states(models.body_of(model), tokens())
        ours = models.head_of(model, VOCAB_SIZE).logits(hidden)
        own = model(input_ids=tokens()).logits.flatten(0, 1)
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [("gemma2", "soft_cap", 3.0), ("cohere", "scale", 0.3), ("granite", "scale", 0.25)],
)
def test_what_comes_after_the_matrix_is_part_of_the_head(
    family: str, field: str, value: float
) -> None:
    assert getattr(models.head_of(make(family), VOCAB_SIZE), field) == pytest.approx(value)


def test_padding_rows_are_cut_from_the_head() -> None:
    head = models.head_of(make("llama", vocab_size=64), VOCAB_SIZE)
    assert head.vocab_size == VOCAB_SIZE


def test_a_model_that_does_more_after_its_body_is_refused() -> None:
    model = make("llama")
    original = model.lm_head.forward
    model.lm_head.forward = lambda states: original(states).square()
    with pytest.raises(ValueError, match=r"LlamaForCausalLM: its logits must be one matrix times"):
        models.check_head(model, tokens(), VOCAB_SIZE)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_are_causal(family: str) -> None:
    models.check_causal(make(family), tokens(), VOCAB_SIZE)


def test_a_model_that_sees_the_tokens_to_come_is_refused() -> None:
    from transformers import BertConfig, BertLMHeadModel

    small = {"vocab_size": VOCAB_SIZE, "hidden_size": 16, "num_attention_heads": 2}
    config = BertConfig(**small, num_hidden_layers=1, intermediate_size=32)
    with pytest.raises(ValueError, match=r"BertLMHeadModel: a token's hidden state must depend on"):
        models.check_causal(BertLMHeadModel(config).eval(), tokens(), VOCAB_SIZE)
    config.is_decoder = True
    models.check_causal(BertLMHeadModel(config).eval(), tokens(), VOCAB_SIZE)


def test_a_body_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match=r"LlamaModel must be a body with one output matrix"):
        models.body_of(make("llama").model)


def test_padding_on_the_right_does_not_reach_real_tokens() -> None:
    model, ids = make("gpt2"), tokens()
    padded = torch.cat([ids, torch.zeros(2, 5, dtype=torch.long)], dim=1)
    with torch.no_grad():
        short = models.hidden_states(models.body_of(model), ids).view(2, 9, -1)
        long = models.hidden_states(models.body_of(model), padded).view(2, 14, -1)
    torch.testing.assert_close(long[:, :9], short)


def test_a_loaded_gpt2_has_one_call_for_its_gelu_and_says_the_same(tmp_path: Path) -> None:
    plain = make("gpt2")
    plain.save_pretrained(tmp_path)
    fused = models.load(tmp_path, attention=None, dtype=torch.float32)
    kinds = {type(module).__name__ for module in fused.modules()}
    assert "GELU" in kinds and "NewGELUActivation" not in kinds
    gradients = []
    for model in (plain, fused):
        logits = model(input_ids=tokens()).logits
        logits.square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(logits, plain(input_ids=tokens()).logits, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "places", "problem"),
    [
        (1, {}, "needs as many here, but got 1"),
        (2, {"h.0": 0, "h.1": "cpu"}, "needs room for all layers, but some are left on cpu"),
    ],
)
def test_a_teacher_is_spread_only_where_that_can_be(
    monkeypatch: pytest.MonkeyPatch, count: int, places: dict[str, Any], problem: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(models, "load", lambda *_, **__: SimpleNamespace(hf_device_map=places))
    where = (torch.device("cuda"), Path("teacher"))
    with pytest.raises(ValueError, match=rf"a teacher spread over 2 GPUs {problem}"):
        models.load_on(*where, attention=None, dtype=torch.float32, gpus=2)


def test_a_spread_teacher_is_loaded_by_device_map(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    spread = SimpleNamespace(hf_device_map={"h.0": 0, "h.1": 1})

    def load(folder: Path, **options: Any) -> Any:
        asked.append(options["device_map"])
        return spread

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(models, "load", load)
    where = (torch.device("cuda"), Path("teacher"))
    assert models.load_on(*where, attention=None, dtype=torch.float32, gpus=2) is spread
    assert asked == ["auto"]
