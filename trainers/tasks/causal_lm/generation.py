"""Samples answers, in batches, without touching any global random state.

The randomness of a prompt is a row of numbers drawn from (seed, prompt) alone, so an answer depends
neither on how prompts are batched nor on what was trained before, and trials that are compared
share their luck.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.signal import OutputHead
from trainers.tasks.causal_lm.groups import MAX_CACHED_TOKENS, Asked, Group, in_groups
from trainers.tasks.causal_lm.steps import Steps, cache_is_right, num_positions

Prompt = tuple[int, list[int]]  # number of the prompt, its token ids


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn: temperature 0 is greedy; no n-gram of prompt and answer is repeated
    when `no_repeat_ngram_size` is positive; any of `end_token_ids` ends an answer."""

    temperature: float
    max_new_tokens: int
    no_repeat_ngram_size: int
    end_token_ids: frozenset[int]
    pad_token_id: int


def end_tokens(model: Any, tokenizer: Any, end_of_turn: str = "") -> frozenset[int]:
    """Returns every token that ends an answer: the tokenizer's end of sequence, the one in
    `end_of_turn` (what the chat template writes behind an answer), and those of the model's
    generation config."""
    config = model.generation_config  # None for a model that transformers cannot generate with
    named: Any = None if config is None else config.eos_token_id
    several = isinstance(named, list | tuple)
    ends = set(named) if several else set() if named is None else {named}
    if ends and config._from_model_config and not several:
        # perhaps only the default of the config's class, which is any word in another vocabulary
        ends &= {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    turn = turn_token(tokenizer, end_of_turn)
    return frozenset({*ends, tokenizer.eos_token_id, *([] if turn is None else [turn])})


def turn_token(tokenizer: Any, end_of_turn: str) -> int | None:
    """Returns the first special token in a template's end of turn; None where it has none, so that
    only its text ends an answer."""
    ids = tokenizer(end_of_turn, add_special_tokens=False)["input_ids"] if end_of_turn else ()
    return next((token for token in ids if token in tokenizer.added_tokens_decoder), None)


@torch.no_grad()
def generate(
    model: Any, head: OutputHead, prompts: list[Prompt], *, seed: int, decoding: Decoding
) -> dict[int, list[int]]:
    """Returns the token ids of one answer for each prompt, by its number, without the token that
    ended it. `model` is in evaluation mode. Where its cache or its padding would change its logits,
    prompts are answered one by one and without a cache, which is slow and right."""
    count = decoding.max_new_tokens
    asked = [
        Asked(n, ids, room(model, ids, count), luck(seed, n, count).to(model.device))
        for n, ids in prompts
    ]
    longest = max((ids for _, ids in prompts), key=len, default=[])
    cached = cache_is_right(model, longest)
    groups = in_groups(asked, MAX_CACHED_TOKENS[model.device.type])
    answers: dict[int, list[int]] = {}
    for group in groups if cached else [[one] for one in asked]:
        writer = _Answering(model, head, [one.ids for one in group], decoding, cached=cached)
        written = Group(group, writer, ends=decoding.end_token_ids, pad=decoding.pad_token_id).run()
        answers |= {n: got.ids[:-1] if got.ended else got.ids for n, got in written.items()}
    return answers


def luck(seed: int, prompt: int, count: int) -> Tensor:
    """Returns `count` numbers in [0, 1) that depend on seed and prompt number alone."""
    # not torch's generator: on the CPU it drops the upper half of a 64-bit seed
    return uniform(np.random.SeedSequence([seed, prompt]), count)


def uniform(entropy: np.random.SeedSequence, count: int) -> Tensor:
    """Returns `count` numbers in [0, 1) that depend on `entropy` alone."""
    drawn = np.random.Generator(np.random.PCG64(entropy)).random(count, dtype=np.float32)
    return torch.from_numpy(drawn).clamp_max(1 - 1e-6)  # at 1 rounding could pick a banned token


def room(model: Any, ids: Sequence[int], max_new_tokens: int) -> int:
    """Returns how many new tokens fit behind a prompt."""
    return max(0, min(max_new_tokens, num_positions(model) - len(ids)))


def softened(logits: Tensor, temperature: float) -> Tensor:
    """Returns the probabilities of `logits` at `temperature`."""
    # a division by 1 changes nothing, but is one more pass over a large vocabulary
    return (logits if temperature == 1 else logits / temperature).softmax(-1)


def inverted(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """Returns the token [B] at which the cumulative probability [B, V] passes the row's number [B]
    in [0, 1)."""
    # By inversion, not `multinomial`, which would draw from torch's global state and depend on the
    # rows of the batch. Scaled by the last sum, which rounding keeps from being exactly 1.
    wanted = uniform[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, wanted, right=True)[:, 0]
    return drawn.clamp_max(cumulative.shape[1] - 1)


class _Answering:
    """Draws answers as `Decoding` says. See `groups.Writer`."""

    def __init__(
        self,
        model: Any,
        head: OutputHead,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        *,
        cached: bool,
    ):
        self._head, self._decoding = head, decoding
        self._ngrams = [_Ngrams(decoding.no_repeat_ngram_size, ids) for ids in prompts]
        self._steps = Steps(model, cached=cached)
        self._seen = False  # whether the n-grams know the last column

    def draw(self, ids: Tensor, mask: Tensor, uniform: Tensor) -> tuple[Tensor, None]:
        if self._seen:
            for ngrams, token in zip(self._ngrams, ids[:, -1].tolist(), strict=True):
                ngrams.add(token)
        self._seen = True
        logits = self._logits(ids, mask)
        if self._decoding.temperature == 0:
            return logits.argmax(-1), None
        probabilities = softened(logits, self._decoding.temperature)
        return inverted(probabilities.cumsum(-1), uniform), None

    def keep(self, rows: Tensor) -> None:
        self._steps.keep(rows)
        self._ngrams = [self._ngrams[place] for place in rows.tolist()]

    def _logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits = self._head.logits(self._steps.last_hidden(ids, mask)).float()
        banned = [(row, t) for row, ngrams in enumerate(self._ngrams) for t in ngrams.banned()]
        if banned:
            # in place: `logits` is this step's own
            rows, tokens = torch.tensor(banned, device=logits.device).T
            logits[rows, tokens] = -torch.inf
        return logits


class _Ngrams:
    """Which tokens would repeat an n-gram of what one row has so far. Each n-gram is filed under
    its first n - 1 tokens, so a step costs one look-up, however long the text is."""

    def __init__(self, size: int, ids: Sequence[int]):
        self._size = size
        self._ids: list[int] = []
        self._followers: dict[tuple[int, ...], list[int]] = {}
        for token in ids:
            self.add(token)

    def add(self, token: int) -> None:
        self._ids.append(token)
        if self._size and len(self._ids) >= self._size:
            ngram = self._ids[-self._size :]
            self._followers.setdefault(tuple(ngram[:-1]), []).append(token)

    def banned(self) -> list[int]:
        if not self._size or len(self._ids) < self._size - 1:
            return []
        start = len(self._ids) - self._size + 1
        return self._followers.get(tuple(self._ids[start:]), [])
