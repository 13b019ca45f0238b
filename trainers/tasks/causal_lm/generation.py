"""Samples answers, in batches, without touching any global random state.

The randomness of a prompt is a row of numbers drawn from (seed, prompt) alone, so an answer depends
neither on how prompts are batched nor on what was trained before, and trials that are compared
share their luck.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.signal import OutputHead
from trainers.tasks.causal_lm.batches import group_bounds
from trainers.tasks.causal_lm.steps import Steps, cache_is_right

# Tokens of prompts and answers whose keys and values are kept at once, by type of device.
MAX_CACHED_TOKENS = {"cpu": 32768, "cuda": 262144}
# Finished rows leave the batch when they are this share of it: leaving costs a copy of the cache.
LEAVE_SHARE = 0.25
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


def num_positions(model: Any) -> int:
    """Returns how many tokens the model's positions hold; a million for a model without a limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return 1_000_000 if limit is None else int(limit)


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
    answers: dict[int, list[int]] = {}
    longest = max((ids for _, ids in prompts), key=len, default=[])
    cached = cache_is_right(model, longest, num_positions(model))
    groups = _groups(prompts, decoding.max_new_tokens, model.device.type)
    for group in groups if cached else [[prompt] for prompt in prompts]:
        answers |= _Group(model, head, group, seed, decoding, cached=cached).run()
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
        self,
        model: Any,
        head: OutputHead,
        group: list[Prompt],
        seed: int,
        decoding: Decoding,
        *,
        cached: bool,
    ):
        self._head, self._decoding = head, decoding
        self._device = model.device
        self._numbers = [number for number, _ in group]
        self._seed = seed
        width = max(len(ids) for _, ids in group)
        padded = [[decoding.pad_token_id] * (width - len(ids)) + ids for _, ids in group]
        self._ids = torch.tensor(padded, device=self._device)
        lengths = torch.tensor([[len(ids)] for _, ids in group])
        # Padded on the left, so that every row's next token is written in the same column; the mask
        # keeps attention from the padding in front.
        self._mask = (torch.arange(width) >= width - lengths).long().to(self._device)
        self._ngrams = [_Ngrams(decoding.no_repeat_ngram_size, ids) for _, ids in group]
        positions = num_positions(model)
        self._steps = Steps(model, positions, cached=cached)
        # new tokens that fit behind each prompt, by first place
        self._room = [
            max(0, min(decoding.max_new_tokens, positions - len(ids))) for _, ids in group
        ]
        self._alive = list(range(len(group)))  # rows still in the batch, by their first place
        # numbers of the prompts whose answer has ended
        self._done = {n for n, left in zip(self._numbers, self._room, strict=True) if not left}
        self.answers: dict[int, list[int]] = {number: [] for number in self._numbers}

    def run(self) -> dict[int, list[int]]:
        """Returns the answers by the prompts' numbers."""
        steps = max(self._room)
        draws = torch.stack([luck(self._seed, n, max(steps, 1)) for n in self._numbers])
        draws = draws.to(self._device)
        for step in range(steps):
            drawn = self._draw(self._logits(), draws[self._alive, step])[:, None]
            running = self._take(drawn[:, 0].tolist())
            if not running:
                break
            self._ids = torch.cat([self._ids, drawn], dim=1)
            self._mask = torch.cat([self._mask, torch.ones_like(drawn)], dim=1)
            if len(self._alive) - len(running) >= LEAVE_SHARE * len(self._alive):
                self._leave(torch.tensor(running, device=self._device))
        return self.answers

    def _take(self, tokens: list[int]) -> list[int]:
        """Notes what each row drew; returns the places of the rows that go on."""
        running = []
        for place, token in enumerate(tokens):
            number = self._numbers[self._alive[place]]
            if token in self._decoding.end_token_ids or number in self._done:
                self._done.add(number)
                continue
            self.answers[number].append(token)
            self._ngrams[place].add(token)
            if len(self.answers[number]) < self._room[self._alive[place]]:
                running.append(place)
            else:
                self._done.add(number)
        return running

    def _leave(self, running: Tensor) -> None:
        """Keeps only the rows `running`, in the cache and in everything that has a row for each."""
        self._steps.keep(running)
        self._ids, self._mask = self._ids[running], self._mask[running]
        places = running.tolist()
        self._alive = [self._alive[i] for i in places]
        self._ngrams = [self._ngrams[i] for i in places]

    def _logits(self) -> Tensor:
        logits = self._head.logits(self._steps.last_hidden(self._ids, self._mask)).float()
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
