"""Tokens per CPU second of sampled answers, beside `model.generate` in the same run.

python tests/benchmarks/generation/run.py [--rounds 3] [--threads 1]

Ours: all prompts in one batch, as an evaluation answers them. Peers: transformers' `generate` with
the same sampling (temperature 1, no top-k, no top-p, no 6-gram twice), one prompt after another and
all in one batch padded on the left. No answer ends early, so all three make as many tokens.
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
from trainers.tasks.causal_lm import generation, models
from trainers.tasks.causal_lm.generation import Decoding
from trainers.trial.fields import Precision

BATCH, NEW_TOKENS, NGRAM = 16, 128, 6
SHORTEST, LONGEST = 8, 64  # tokens of a prompt
BOUND = 5.0  # ours ÷ one by one
SHAPES = {
    "2 x 96, V 2,048": {"n_layer": 2, "n_embd": 96, "n_head": 2, "vocab_size": 2048},
    "3 x 256, V 50,257": {"n_layer": 3, "n_embd": 256, "n_head": 4, "vocab_size": 50257},
    "6 x 512, V 50,257": {"n_layer": 6, "n_embd": 512, "n_head": 8, "vocab_size": 50257},
}


@dataclass(frozen=True)
class Stage:
    """A model with random weights, and prompts of different lengths."""

    model: Any
    prompts: list[list[int]]

    def ours(self) -> None:
        """As an evaluation answers them."""
        head = models.head_of(self.model, self.model.config.vocab_size)
        decoding = Decoding(
            temperature=1.0,
            max_new_tokens=NEW_TOKENS,
            no_repeat_ngram_size=NGRAM,
            end_token_ids=frozenset(),
            pad_token_id=0,
        )
        numbered = list(enumerate(self.prompts))
        answers = generation.generate(self.model, head, numbered, seed=10, decoding=decoding)
        assert {len(ids) for ids in answers.values()} == {NEW_TOKENS}

    def one_by_one(self) -> None:
        """`generate` for one prompt after another."""
        for ids in self.prompts:
            self._generate([ids])

    def batched(self) -> None:
        """`generate` for all prompts at once."""
        self._generate(self.prompts)

    def _generate(self, prompts: list[list[int]]) -> None:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in prompts])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
        config = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            no_repeat_ngram_size=NGRAM,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=0,
        )
        out = self.model.generate(ids, attention_mask=mask, generation_config=config)
        assert out.shape[1] == width + NEW_TOKENS


def build(shape: dict[str, int]) -> Stage:
    """Returns a stage whose model has that shape."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_positions=256, **shape)).eval()
    model.generation_config = GenerationConfig()  # without an end-of-sequence token
    random = np.random.Generator(np.random.PCG64(0))
    lengths = random.integers(SHORTEST, LONGEST, BATCH, endpoint=True)
    prompts = [random.integers(1, shape["vocab_size"], n).tolist() for n in lengths]
    return Stage(model, prompts)


def speeds(stage: Stage, rounds: int) -> dict[str, list[float]]:
    """Tokens per CPU second of each variant in each round, after one round that is not counted."""
    variants: dict[str, Callable[[], None]] = {
        "one by one": stage.one_by_one,
        "generate at 16": stage.batched,
        "ours": stage.ours,
    }
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            began = time.process_time()
            run()
            if number:
                found[name].append(BATCH * NEW_TOKENS / (time.process_time() - began))
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    numerics.apply(numerics.resolve("cpu", Precision.FLOAT32, given.threads))
    models.quieten()
    print(f"{BATCH} prompts of {SHORTEST} to {LONGEST} tokens, {NEW_TOKENS} new tokens each")
    print(f"{'tokens per CPU s':20} {'one by one':>11} {'generate at 16':>15} {'ours':>7}")
    for name, shape in SHAPES.items():
        found = speeds(build(shape), given.rounds)
        middle = {variant: statistics.median(values) for variant, values in found.items()}
        ratios = [a / b for a, b in zip(found["ours"], found["one by one"], strict=True)]
        met = "" if statistics.median(ratios) >= BOUND else "  BELOW THE BOUND"
        print(
            f"{name:20} {middle['one by one']:11.0f} {middle['generate at 16']:15.0f} "
            f"{middle['ours']:7.0f}  ours ÷ one by one {statistics.median(ratios):.1f} "
            f"[{min(ratios):.1f}-{max(ratios):.1f}], bound {BOUND:.0f}{met}"
        )


if __name__ == "__main__":
    main()
