"""Samples responses to train on, with the probabilities that they were drawn with."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from trainers import numerics as numerics_of
from trainers.parts import Network
from trainers.responses import Response, SampleKey, Sampling
from trainers.tasks.causal_lm.generation import inverted, room, softened, uniform
from trainers.tasks.causal_lm.groups import MAX_CACHED_TOKENS, Asked, Group, in_groups
from trainers.tasks.causal_lm.steps import Steps, cache_is_right

# How many of the largest probabilities are looked at for top-p before all are: sorting a large
# vocabulary takes longer than a small model.
LARGEST = (64, 1024)


@dataclass(frozen=True)
class ModelSampler:
    """Samples from models in this process; see `trainers.responses.Sampler`. writer: the bare
    model, not its DDP wrapper, since workers answer different prompts; teacher: the other model of
    a mixture; numerics: resolved ones."""

    writer: Network
    sampling: Sampling
    numerics: dict[str, Any]
    teacher: Network | None = None

    def __post_init__(self) -> None:
        if self.sampling.teacher_mix and self.teacher is None:
            raise ValueError(
                f"teacher_mix needs a teacher, but got {self.sampling.teacher_mix} and none. "
                "Name a teacher, or use teacher_mix: 0."
            )

    @torch.no_grad()
    def sample(
        self, prompts: Mapping[SampleKey, Sequence[int]], *, seed: tuple[int, ...]
    ) -> dict[SampleKey, Response]:
        """Returns a response to each prompt; an empty one where no position is left. Models run
        without dropout, and their modes and the random state stay as they were. Where a model's
        cache or padding would change its logits, prompts are answered one by one and without a
        cache, which is slow and right."""
        with ExitStack() as stack:
            for network in self._networks:
                stack.enter_context(_evaluating(network.model))
            stack.enter_context(numerics_of.autocast(self.numerics))
            return self._sample(prompts, seed)

    def _sample(
        self, prompts: Mapping[SampleKey, Sequence[int]], seed: tuple[int, ...]
    ) -> dict[SampleKey, Response]:
        asked = [self._asked(key, ids, seed) for key, ids in prompts.items()]
        longest = max(prompts.values(), key=len, default=())
        cached = [cache_is_right(network.model, longest) for network in self._networks]
        groups = [[one] for one in asked]
        if all(cached):
            limit = MAX_CACHED_TOKENS[self.writer.model.device.type]
            groups = in_groups(asked, limit // len(cached))
        found: dict[SampleKey, Response] = {}
        for group in groups:
            found |= Group(
                group,
                self._writer(cached),
                ends=self.sampling.end_token_ids,
                pad=self.sampling.pad_token_id,
            ).run()
        return found

    def _asked(self, key: SampleKey, ids: Sequence[int], seed: tuple[int, ...]) -> Asked[SampleKey]:
        count = self.sampling.max_new_tokens
        # a spawn key, so that no evaluation seed and prompt give the same numbers
        entropy = np.random.SeedSequence(seed[0], spawn_key=(*seed[1:], *key))
        return Asked(
            key,
            ids,
            min(room(network.model, ids, count) for network in self._networks),
            uniform(entropy, count).to(self.writer.model.device),
        )

    def _writer(self, cached: list[bool]) -> "_Mixture":
        voices = [_Voice(n, cached=c) for n, c in zip(self._networks, cached, strict=True)]
        return _Mixture(voices, self.sampling)

    @property
    def _networks(self) -> list[Network]:
        """The models that have a share in each token."""
        if self.teacher is None or self.sampling.teacher_mix == 0:
            return [self.writer]
        return [self.teacher] if self.sampling.teacher_mix == 1 else [self.writer, self.teacher]


class _Voice:
    """One of the models that write."""

    def __init__(self, network: Network, *, cached: bool):
        self._head, self.steps = network.head(), Steps(network.model, cached=cached)
        # weights in their compute dtype already: autocast would round in other places
        self._is_cast = network.model.dtype == torch.float32

    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        device = ids.device.type
        enabled = self._is_cast and torch.is_autocast_enabled(device)
        with torch.autocast(device, torch.get_autocast_dtype(device), enabled=enabled):
            return self._head.logits(self.steps.last_hidden(ids, mask)).float()


class _Mixture:
    """Draws from one model, or from both. See `groups.Writer`."""

    def __init__(self, voices: Sequence[_Voice], sampling: Sampling):
        self._voices, self._sampling = voices, sampling

    def draw(self, ids: Tensor, mask: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = self._probabilities(ids, mask)
        tokens = inverted(probabilities.cumsum(-1), uniform)
        return tokens, probabilities.gather(1, tokens[:, None])[:, 0].log()

    def keep(self, rows: Tensor) -> None:
        for voice in self._voices:
            voice.steps.keep(rows)

    def _probabilities(self, ids: Tensor, mask: Tensor) -> Tensor:
        asked = self._sampling
        first, *teacher = (
            warped(voice.logits(ids, mask), asked.temperature, asked.top_p)
            for voice in self._voices
        )
        if not teacher:
            return first
        return (1 - asked.teacher_mix) * first + asked.teacher_mix * teacher[0]


def warped(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """Returns the probabilities [N, V] of `logits` at `temperature`, cut to `top_p` and scaled to
    1; at temperature 0 all is on the likeliest token, of equal ones the first."""
    if temperature == 0:
        return one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    probabilities = softened(logits, temperature)
    if top_p == 1:
        return probabilities
    kept = probabilities * nucleus(probabilities, top_p)
    return kept / kept.sum(-1, keepdim=True)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Returns which tokens [N, V] are in the smallest set whose probabilities reach `top_p`
    (Holtzman et al. 2020); of equal ones at its edge the first."""
    largest, reached = _largest(probabilities, top_p)
    size = (reached < top_p).sum(-1, keepdim=True).clamp_max(largest.shape[1] - 1) + 1
    edge = largest.gather(1, size - 1)
    above, equal = probabilities > edge, probabilities == edge
    return above | (equal & (equal.cumsum(-1) <= size - above.sum(-1, keepdim=True)))


def _largest(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The largest probabilities of each row, falling, and their sums up to each: so many that every
    row's reach `top_p`, or all."""
    size = probabilities.shape[1]
    for count in (*(few for few in LARGEST if few < size), size):
        largest = probabilities.topk(count).values
        reached = largest.cumsum(-1)
        if count == size or bool((reached[:, -1] >= top_p).all()):
            break
    return largest, reached


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and each part's own mode again after it."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
