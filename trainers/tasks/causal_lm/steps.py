"""Runs a language model token by token: through the cache that its config asks for, or, where that
gives other logits than the model itself, over all tokens at every step."""

import inspect
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from trainers.tasks.causal_lm import models

# Relative to the largest logit. A wrong cache is off by as much as the logits are large; TF32 and
# half precision stay below this.
CACHE_TOLERANCE = 0.05
CHECKED_TOKENS = 6
# Columns that a cache has memory for, beyond those that it holds.
SPARE_COLUMNS = 64
_CHECKED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


class Steps:
    """Rows of token ids, padded on the left, that grow by one column at each step."""

    def __init__(self, model: Any, *, cached: bool):
        """`cached`: whether a step runs over the new column alone."""
        self._body, self._num_positions = models.body_of(model), num_positions(model)
        self._arguments = inspect.signature(self._body.forward).parameters
        self._cache = _cache(model) if cached else None
        self._seen = 0

    def last_hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Returns the hidden states [B, D] of the last column. `ids` and `mask` [B, T] are all
        columns so far; with a cache, those of the last call must be among them."""
        # rows that have ended, and wait to leave, would run beyond the last position
        places = (mask.cumsum(1) - 1).clamp(0, self._num_positions - 1)
        options = {
            "attention_mask": mask,
            "position_ids": places[:, self._seen :],
            "use_cache": self._cache is not None,
            # one of the two, by the family
            "past_key_values": self._cache,
            "cache_params": self._cache,
        }
        known = {name: value for name, value in options.items() if name in self._arguments}
        hidden: Tensor = self._body(input_ids=ids[:, self._seen :], **known).last_hidden_state
        if self._cache is not None:
            self._seen = ids.shape[1]
        return hidden[:, -1]

    def keep(self, rows: Tensor) -> None:
        """Keeps only the rows with these indices."""
        if self._cache is not None:
            # not `batch_select_indices`, which the states of recurrent layers do not have
            self._cache.reorder_cache(rows)


def num_positions(model: Any) -> int:
    """Returns how many tokens the model's positions hold; a million for a model without a limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return 1_000_000 if limit is None else int(limit)


def cache_is_right(model: Any, tokens: Sequence[int]) -> bool:
    """Returns whether steps through the cache, with padding on the left, give the logits of the
    whole text without either; tried once a model, on some `tokens`. `model` is in evaluation
    mode."""
    if model not in _CHECKED:
        text = (list(tokens) * CHECKED_TOKENS)[: min(CHECKED_TOKENS, num_positions(model))]
        _CHECKED[model] = len(text) > 2 and _try(model, text)
    return _CHECKED[model]


@torch.no_grad()
def _try(model: Any, text: list[int]) -> bool:
    try:
        with torch.autocast(model.device.type, enabled=False):
            return _agrees(model, torch.tensor([text], device=model.device))
    except Exception:  # code of any model: whatever it raises, its cache is not to be used
        return False


def _agrees(model: Any, text: Tensor) -> bool:
    """Two rows: the text, and without its first token. The last two columns are steps."""
    mask = torch.ones_like(text).repeat(2, 1)
    mask[1, 0] = 0
    steps = Steps(model, cached=True)
    for stop in range(text.shape[1] - 2, text.shape[1] + 1):
        ours = steps.last_hidden(text.repeat(2, 1)[:, :stop], mask[:, :stop])
        for row in (0, 1):
            whole = model(input_ids=text[:, row:stop], use_cache=False).logits[:, -1].float()
            logits = models.head_of(model, whole.shape[1]).logits(ours[row : row + 1]).float()
            error = (whole - logits).abs().max() / whole.abs().max().clamp_min(1e-30)
            if not error <= CACHE_TOLERANCE:  # written so that NaN is an error too
                return False
    return True


def _cache(model: Any) -> Any:
    """Full, sliding or recurrent states a layer, as the config says."""
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    # only these: layers of other kinds keep something else, or not all columns
    cache.layers = [_Spacious() if type(one) is DynamicLayer else one for one in cache.layers]
    return cache


class _Spacious(DynamicLayer):  # type: ignore[misc]
    """Keys and values with spare memory behind them, so that a step writes its own columns and
    copies none of the others."""

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._memory: list[Tensor] = []  # of keys and values [B, H, columns, D]

    def update(self, key_states: Tensor, value_states: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new, start = (key_states, value_states), self.get_seq_length()
        stop = start + key_states.shape[2]
        if not self._holds_all(stop):
            held = (self.keys, self.values) if start else (None, None)
            self._memory = [_moved(*pair, stop) for pair in zip(held, new, strict=True)]
        for memory, states in zip(self._memory, new, strict=True):
            memory[:, :, start:stop] = states
        self.keys, self.values = (memory[:, :, :stop] for memory in self._memory)
        return self.keys, self.values

    def _holds_all(self, columns: int) -> bool:
        """Whether the memory is still that of the keys, which a choice of rows moves elsewhere, and
        has so many columns."""
        if not self._memory or self._memory[0].data_ptr() != self.keys.data_ptr():
            return False
        return columns <= self._memory[0].shape[2]


def _moved(held: Tensor | None, new: Tensor, columns: int) -> Tensor:
    """What is held, in memory with spare columns; `new`: states to come."""
    rows, heads, _, width = new.shape
    memory = new.new_empty(rows, heads, columns + SPARE_COLUMNS, width)
    if held is not None:
        memory[:, :, : held.shape[2]] = held
    return memory
