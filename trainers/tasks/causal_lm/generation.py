"""Samples answers, in batches, without touching any global random state.

The randomness of a prompt is a row of numbers drawn from (seed, prompt) alone, so an answer depends
neither on how prompts are batched nor on what was trained before, and trials that are compared
share their luck.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from trainers.signal import OutputHead
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.batches import group_bounds

# Tokens of prompts and answers whose keys and values are kept at once, by type of device.
MAX_CACHED_TOKENS = {"cpu": 32768, "cuda": 262144}
# Finished rows leave the batch when they are this share of it: leaving costs a copy of the cache.
LEAVE_SHARE = 0.25
Prompt = tuple[int, list[int]]  # number of the prompt, its token ids


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn: temperature 0 is greedy; no n-gram of prompt and answer is repeated
    when `no_repeat_ngram_size` is positive."""

    temperature: float
    max_new_tokens: int
    no_repeat_ngram_size: int
    eos_token_id: int
    pad_token_id: int


def num_positions(model: Any) -> int:
    """Returns how many tokens the model's positions hold; a million for a model without a limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return 1_000_000 if limit is None else int(limit)


@torch.no_grad()
def generate(
    model: Any, head: OutputHead, prompts: list[Prompt], *, seed: int, decoding: Decoding
) -> dict[int, list[int]]:
    """Returns the token ids of one answer for each prompt, by its number, without the
    end-of-sequence token. `model` is in evaluation mode."""
    answers: dict[int, list[int]] = {}
    for group in _groups(prompts, decoding.max_new_tokens, model.device.type):
        answers |= _Group(model, head, group, seed, decoding).run()
    return answers


def luck(seed: int, prompt: int, count: int) -> Tensor:
    """Returns `count` numbers in [0, 1) that depend on seed and prompt number alone."""
    # not torch's generator: on the CPU it drops the upper half of a 64-bit seed
    drawn = np.random.Generator(np.random.PCG64([seed, prompt])).random(count, dtype=np.float32)
    return torch.from_numpy(drawn).clamp_max(1 - 1e-6)  # at 1 rounding could pick a banned token


def _groups(prompts: list[Prompt], steps: int, device: str) -> list[list[Prompt]]:
    """Prompts of like length together; each takes its own tokens and those to come."""
    ordered = sorted(prompts, key=lambda pair: (-len(pair[1]), pair[0]))
    lengths = [len(ids) + steps + 1 for _, ids in ordered]
    bounds = group_bounds(lengths, MAX_CACHED_TOKENS[device])
    return [ordered[start:stop] for start, stop in bounds]


class _Group:
    """Prompts that are answered together, padded on the left."""

    def __init__(
        self, model: Any, head: OutputHead, group: list[Prompt], seed: int, decoding: Decoding
    ):
        self._body, self._head, self._decoding = models.body_of(model), head, decoding
        self._device = model.device
        self._numbers = [number for number, _ in group]
        self._seed = seed
        width = max(len(ids) for _, ids in group)
        padded = [[decoding.pad_token_id] * (width - len(ids)) + ids for _, ids in group]
        self._next = torch.tensor(padded, device=self._device)
        lengths = torch.tensor([[len(ids)] for _, ids in group])
        # Padded on the left, so that every row's next token is written in the same column; the mask
        # keeps attention from the padding in front.
        self._mask = (torch.arange(width) >= width - lengths).long().to(self._device)
        self._ngrams = [_Ngrams(decoding.no_repeat_ngram_size, ids) for _, ids in group]
        self._takes_positions = "position_ids" in inspect.signature(self._body.forward).parameters
        self._positions = num_positions(model)
        # new tokens that fit behind each prompt, by first place
        self._room = [
            max(0, min(decoding.max_new_tokens, self._positions - len(ids))) for _, ids in group
        ]
        self._alive = list(range(len(group)))  # rows still in the batch, by their first place
        # numbers of the prompts whose answer has ended
        self._done = {n for n, left in zip(self._numbers, self._room, strict=True) if not left}
        self.answers: dict[int, list[int]] = {number: [] for number in self._numbers}

    def run(self) -> dict[int, list[int]]:
        """Returns the answers by the prompts' numbers."""
        cache, steps = DynamicCache(), max(self._room)
        draws = torch.stack([luck(self._seed, n, max(steps, 1)) for n in self._numbers])
        draws = draws.to(self._device)
        # `_next` is the complete prompts in the first step, and one column in those that follow:
        # the cache has the keys and values of all columns before it.
        for step in range(steps):
            self._next = self._draw(self._logits(cache), draws[self._alive, step])[:, None]
            running = self._take(self._next[:, 0].tolist())
            if not running:
                break
            self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
            if len(self._alive) - len(running) >= LEAVE_SHARE * len(self._alive):
                self._leave(torch.tensor(running, device=self._device), cache)
        return self.answers

    def _take(self, tokens: list[int]) -> list[int]:
        """Notes what each row drew; returns the places of the rows that go on."""
        running = []
        for place, token in enumerate(tokens):
            number = self._numbers[self._alive[place]]
            if token == self._decoding.eos_token_id or number in self._done:
                self._done.add(number)
                continue
            self.answers[number].append(token)
            self._ngrams[place].add(token)
            if len(self.answers[number]) < self._room[self._alive[place]]:
                running.append(place)
            else:
                self._done.add(number)
        return running

    def _leave(self, running: Tensor, cache: Any) -> None:
        """Keeps only the rows `running`, in the cache and in everything that has a row for each."""
        cache.batch_select_indices(running)
        self._next, self._mask = self._next[running], self._mask[running]
        places = running.tolist()
        self._alive = [self._alive[i] for i in places]
        self._ngrams = [self._ngrams[i] for i in places]

    def _logits(self, cache: Any) -> Tensor:
        positions = {}
        if self._takes_positions:
            # rows that have ended, and wait to leave, would run beyond the last position
            places = (self._mask.cumsum(1) - 1).clamp(0, self._positions - 1)
            positions["position_ids"] = places[:, -self._next.shape[1] :]
        states = self._body(
            input_ids=self._next,
            attention_mask=self._mask,
            past_key_values=cache,
            use_cache=True,
            **positions,
        ).last_hidden_state
        logits = self._head.logits(states[:, -1]).float()
        banned = [(row, t) for row, ngrams in enumerate(self._ngrams) for t in ngrams.banned()]
        if banned:
            # in place: `logits` is this step's own
            rows, tokens = torch.tensor(banned, device=self._device).T
            logits[rows, tokens] = -torch.inf
        return logits

    def _draw(self, logits: Tensor, uniform: Tensor) -> Tensor:
        if self._decoding.temperature == 0:
            return logits.argmax(-1)
        # By inversion, not `multinomial`, which would draw from torch's global state and depend on
        # the rows of the batch: the token at which the cumulative probability passes the row's
        # number. It is scaled by the last sum, which rounding keeps from being exactly 1.
        cumulative = (logits / self._decoding.temperature).softmax(-1).cumsum(-1)
        wanted = uniform[:, None] * cumulative[:, -1:]
        drawn = torch.searchsorted(cumulative, wanted, right=True)[:, 0]
        return drawn.clamp_max(logits.shape[1] - 1)


class _Ngrams:
    """Which tokens would repeat an n-gram of what one row has so far. Each n-gram is filed under
    its first n - 1 tokens, so a step costs one look-up, however long the text is."""

    def __init__(self, size: int, ids: list[int]):
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
