"""Tokens per CPU second of sampled text, beside `model.generate` in the same run.

python tests/benchmarks/generation/run.py [--rounds 3] [--threads 1]

Ours: all prompts in one batch, as an evaluation answers them, and as a student writes what it is
trained on, with the probability of each token. Peers: transformers' `generate` with the same
sampling (temperature 1, no top-k), one prompt after another and all in one batch padded on the
left. Nothing ends early, so all make as many tokens.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from trainers import numerics
from trainers.responses import Sampling
from trainers.tasks.causal_lm import generation, models
from trainers.tasks.causal_lm.generation import Decoding
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.tasks.causal_lm.sampling import ModelSampler
from trainers.trial.fields import Precision

BATCH, NEW_TOKENS = 16, 128
SHORTEST, LONGEST = 8, 64  # tokens of a prompt
BOUNDS = {"one by one": 5.0, "generate at 16": 1.0}  # of ours ÷ each
SHAPES = {
    "2 x 96, V 2,048": {"n_layer": 2, "n_embd": 96, "n_head": 2, "vocab_size": 2048},
    "3 x 256, V 50,257": {"n_layer": 3, "n_embd": 256, "n_head": 4, "vocab_size": 50257},
    "6 x 512, V 50,257": {"n_layer": 6, "n_embd": 512, "n_head": 8, "vocab_size": 50257},
}
SPREAD = 4.0  # standard deviation of logits: trained models are far from flat, which top-p feels


@dataclass(frozen=True)
class Text:
    """What is written: answers of an evaluation, without an n-gram twice, or samples."""

    name: str
    ngram: int = 0
    top_p: float = 1.0


TEXTS = (Text("answers, no 6-gram twice", ngram=6), Text("samples"), Text("samples, top-p", 0, 0.9))


@dataclass(frozen=True)
class Stage:
    """A model with random weights, and prompts of different lengths."""

    model: Any
    prompts: list[list[int]]

    def ours(self, text: Text) -> None:
        """As an evaluation or a training asks for it."""
        written = self._answers(text.ngram) if text.ngram else self._samples(text.top_p)
        assert {len(ids) for ids in written} == {NEW_TOKENS}

    def one_by_one(self, text: Text) -> None:
        """`generate` for one prompt after another."""
        for ids in self.prompts:
            self._generate([ids], text)

    def batched(self, text: Text) -> None:
        """`generate` for all prompts at once."""
        self._generate(self.prompts, text)

    def _answers(self, ngram: int) -> list[list[int]]:
        head = models.head_of(self.model, self.model.config.vocab_size)
        decoding = Decoding(
            temperature=1.0,
            max_new_tokens=NEW_TOKENS,
            no_repeat_ngram_size=ngram,
            end_token_ids=frozenset(),
            pad_token_id=0,
        )
        numbered = list(enumerate(self.prompts))
        answers = generation.generate(self.model, head, numbered, seed=10, decoding=decoding)
        return list(answers.values())

    def _samples(self, top_p: float) -> list[list[int]]:
        sampling = Sampling(
            temperature=1.0,
            max_new_tokens=NEW_TOKENS,
            end_token_ids=frozenset(),
            pad_token_id=0,
            top_p=top_p,
        )
        network = LanguageModel.of(self.model, self.model.config.vocab_size)
        sampler = ModelSampler(network, sampling, {"device": "cpu", "precision": "float32"})
        numbered = {(number, 0): ids for number, ids in enumerate(self.prompts)}
        return [one.ids for one in sampler.sample(numbered, seed=(10,)).values()]

    def _generate(self, prompts: list[list[int]], text: Text) -> None:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in prompts])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
        config = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=text.top_p,
            no_repeat_ngram_size=text.ngram,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=0,
        )
        out = self.model.generate(ids, attention_mask=mask, generation_config=config)
        assert out.shape[1] == width + NEW_TOKENS


def build(shape: dict[str, int]) -> Stage:
    """Returns a stage whose model has that shape."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_positions=256, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, **shape
    )
    model = GPT2LMHeadModel(config).eval()
    torch.nn.init.normal_(model.lm_head.weight, std=SPREAD / shape["n_embd"] ** 0.5)
    model.generation_config = GenerationConfig()  # without an end-of-sequence token
    random = np.random.Generator(np.random.PCG64(0))
    lengths = random.integers(SHORTEST, LONGEST, BATCH, endpoint=True)
    prompts = [random.integers(1, shape["vocab_size"], n).tolist() for n in lengths]
    return Stage(model, prompts)


def speeds(stage: Stage, text: Text, rounds: int) -> dict[str, list[float]]:
    """Tokens per CPU second of each variant in each round, after one round that is not counted."""
    variants: dict[str, Callable[[Text], None]] = {
        "one by one": stage.one_by_one,
        "generate at 16": stage.batched,
        "ours": stage.ours,
    }
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            began = time.process_time()
            run(text)
            if number:
                found[name].append(BATCH * NEW_TOKENS / (time.process_time() - began))
    return found


def row(found: dict[str, list[float]]) -> str:
    """The medians, and the ratios to both peers, round by round."""
    cells = [f"{statistics.median(values):8.0f}" for values in found.values()]
    for peer, bound in BOUNDS.items():
        ratios = [a / b for a, b in zip(found["ours"], found[peer], strict=True)]
        met = "" if statistics.median(ratios) >= bound else "  BELOW THE BOUND"
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
        cells.append(f"÷ {peer} {spread}, bound {bound:g}{met}")
    return "  ".join(cells)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    numerics.apply(numerics.resolve("cpu", Precision.FLOAT32, given.threads))
    models.quieten()
    print(f"{BATCH} prompts of {SHORTEST} to {LONGEST} tokens, {NEW_TOKENS} new tokens each;")
    print("tokens per CPU second: one by one, generate at 16, ours; ours ÷ each")
    for name, shape in SHAPES.items():
        stage = build(shape)
        for text in TEXTS:
            found = speeds(stage, text, given.rounds)
            print(f"{name:20} {text.name:25}{row(found)}", flush=True)


if __name__ == "__main__":
    main()
