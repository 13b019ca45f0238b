"""Answers prompts token by token: prompts of like length in one batch, which rows leave when they
have ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from trainers.responses import Response, SampleKey
from trainers.tasks.causal_lm.batches import group_bounds

# Tokens of prompts and answers whose keys and values are kept at once, by type of device.
MAX_CACHED_TOKENS = {"cpu": 32768, "cuda": 262144}
# Finished rows leave the batch when they are this share of it: leaving costs a copy of the cache.
LEAVE_SHARE = 0.25
Key = TypeVar("Key", int, SampleKey)


@dataclass(frozen=True)
class Asked(Generic[Key]):
    """A prompt: the key of its response, its token ids, how many new tokens there is room for, and
    numbers in [0, 1) for at least as many."""

    key: Key
    ids: Sequence[int]
    room: int
    luck: Tensor


class Writer(Protocol):
    """Draws the next tokens of a group's rows."""

    def draw(self, ids: Tensor, mask: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns a token [B] for each row and, where they are wanted, the logarithms of the
        probabilities [B] with which they were drawn. `ids`, `mask`: [B, T], all columns so far;
        `uniform`: [B], the number of each row."""

    def keep(self, rows: Tensor) -> None:
        """Keeps only the rows with these indices."""


def in_groups(asked: Sequence[Asked[Key]], max_tokens: int) -> list[list[Asked[Key]]]:
    """Returns the prompts in groups of like length, the longest first: each with at most
    `max_tokens` tokens, those to come included, or of one prompt."""
    ordered = sorted(asked, key=lambda one: (-len(one.ids), one.key))
    lengths = [len(one.ids) + len(one.luck) + 1 for one in ordered]
    return [ordered[start:stop] for start, stop in group_bounds(lengths, max_tokens)]


@dataclass
class _Row:
    """What a prompt has got so far."""

    room: int
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    ended: bool = False

    @property
    def is_done(self) -> bool:
        return self.ended or len(self.ids) >= self.room


class Group(Generic[Key]):
    """Prompts that are answered together."""

    def __init__(
        self, asked: Sequence[Asked[Key]], writer: Writer, *, ends: frozenset[int], pad: int
    ):
        """`ends`: tokens that end a response; `pad`: stands in front of shorter prompts. The luck
        is on the writer's device."""
        self._asked: Sequence[Asked[Key]] = asked
        self._writer, self._ends = writer, ends
        self._luck = torch.stack([one.luck for one in asked])
        width = max(len(one.ids) for one in asked)
        padded = [[pad] * (width - len(one.ids)) + list(one.ids) for one in asked]
        self._ids = torch.tensor(padded, device=self._luck.device)
        lengths = torch.tensor([[len(one.ids)] for one in asked])
        # Padded on the left, so that every row's next token is written in the same column; the mask
        # keeps attention from the padding in front.
        self._mask = (torch.arange(width) >= width - lengths).long().to(self._luck.device)
        self._rows = [_Row(one.room) for one in asked]
        self._alive = list(range(len(asked)))  # rows still in the batch, by their first place

    def run(self) -> dict[Key, Response]:
        """Returns the responses by the prompts' keys."""
        for step in range(max(row.room for row in self._rows)):
            uniform = self._luck[self._alive, step]
            tokens, log_probs = self._writer.draw(self._ids, self._mask, uniform)
            running = self._take(tokens.tolist(), [] if log_probs is None else log_probs.tolist())
            if not running:
                break
            self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
            self._mask = torch.cat([self._mask, torch.ones_like(tokens[:, None])], dim=1)
            if len(self._alive) - len(running) >= LEAVE_SHARE * len(self._alive):
                self._leave(torch.tensor(running, device=self._ids.device))
        return {
            one.key: Response(row.ids, row.log_probs, row.ended)
            for one, row in zip(self._asked, self._rows, strict=True)
        }

    def _take(self, tokens: list[int], log_probs: list[float]) -> list[int]:
        """Notes what each row drew; returns the places of the rows that go on."""
        running = []
        for place, token in enumerate(tokens):
            row = self._rows[self._alive[place]]
            if row.is_done:
                continue
            row.ids.append(token)
            row.log_probs += log_probs[place : place + 1]
            row.ended = token in self._ends
            if not row.is_done:
                running.append(place)
        return running

    def _leave(self, running: Tensor) -> None:
        """Keeps only the rows `running`, in everything that has a row for each."""
        self._writer.keep(running)
        self._ids, self._mask = self._ids[running], self._mask[running]
        self._alive = [self._alive[place] for place in running.tolist()]
