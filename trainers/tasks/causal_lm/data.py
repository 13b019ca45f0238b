"""Tokenised instruction data, read by memory map."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from trainers.files import fingerprints
from trainers.parts import SPLIT_NAMES
from trainers.tasks.balanced import balanced
from trainers.tasks.causal_lm import batches, tokenizer_files
from trainers.tasks.causal_lm.batches import BucketedOrder, TokenBatch
from trainers.tasks.causal_lm.facts import TOKENIZER_FOLDER, DataFacts, damaged
from trainers.trial.subset import Subset

# By whose length examples are put in order, where that is not their own: others answer the prompts
# of the data, and trials that are compared read these in one order.
ORDER_COLUMN = "order_length"


class TokenSplit:
    """One split, memory-mapped: opening costs the same whatever its size, and the workers of a node
    share its pages. Examples are numbered as in the file. See `trainers.parts.Split`."""

    def __init__(
        self, name: str, dataset: Any, pad_token_id: int = 0, subset: Subset | None = None
    ):
        """`dataset` is what `write_split` wrote, opened by `datasets`; `pad_token_id` fills batches
        up (its value reaches no result). Raises `ValueError` for a `subset` of more examples."""
        self.name = name
        self.pad_token_id = pad_token_id
        self._dataset = dataset
        table = dataset.data
        self._tokens = _ListColumn(table.column("input_ids"), np.int32)
        self._learned = _ListColumn(table.column("learned"), np.bool_)
        self._rows = rows = _rows(len(self._tokens.lengths), subset)
        self.num_prompt_tokens = _numbers(table.column("num_prompt_tokens"))[rows]
        self.num_tokens: NDArray[np.int64] = self._tokens.lengths[rows]
        self.num_learned = _numbers(table.column("num_learned"))[rows]
        self.example_ids = _numbers(table.column("example_id"))[rows]
        self.is_reordered = ORDER_COLUMN in table.column_names
        self.order_lengths = (
            _numbers(table.column(ORDER_COLUMN))[rows] if self.is_reordered else self.num_tokens
        )

    @classmethod
    def open(
        cls, folder: Path, name: str, *, pad_token_id: int = 0, subset: Subset | None = None
    ) -> "TokenSplit":
        """Returns split `name` of the prepared data in `folder`, or a subset of it. Raises
        `ValueError` for one that is damaged, or has fewer examples."""
        split = cls._whole(folder, name, pad_token_id)
        return split if subset is None else cls(name, split._dataset, pad_token_id, subset)

    @classmethod
    def _whole(cls, folder: Path, name: str, pad_token_id: int) -> "TokenSplit":
        try:
            return cls(name, datasets.load_from_disk(str(folder / name)), pad_token_id)
        except Exception as error:  # Arrow and `datasets` raise many kinds
            raise damaged(folder / name, folder, error) from error

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.num_tokens)

    @property
    def examples_per_epoch(self) -> int:
        """All."""
        return len(self)

    def num_positions(self, examples: NDArray[np.int64]) -> int:
        """See `trainers.parts.Split`."""
        return int(self.num_learned[examples].sum())

    def tokens(self, example: int) -> NDArray[np.int32]:
        """Token ids of one example."""
        return self._tokens[self._rows[example]]

    def prompt(self, example: int) -> NDArray[np.int32]:
        """Token ids of one example before its response."""
        return self.tokens(example)[: self.num_prompt_tokens[example]]

    def learned(self, example: int) -> NDArray[np.bool_]:
        """For each token of one example, whether the loss asks for it."""
        return self._learned[self._rows[example]]

    def references(self, example: int) -> list[str]:
        """All accepted answers of one example."""
        return list(self._dataset[int(self._rows[example])]["references"])

    def order(self, *, batch_size: int, seed: int) -> BucketedOrder:
        """See `trainers.parts.Split`."""
        return BucketedOrder(self.order_lengths, batch_size=batch_size, seed=seed)

    def groups(self, examples: NDArray[np.int64], device_type: str) -> list[NDArray[np.int64]]:
        """See `trainers.parts.Split`; a group holds a bounded number of padded tokens."""
        most = batches.MAX_BATCH_TOKENS[device_type]
        return batches.groups_by_length(examples, self.num_tokens, max_tokens=most)

    def collate(self, examples: NDArray[np.int64]) -> TokenBatch:
        """See `trainers.parts.Split`."""
        rows = [(self.tokens(i), self.learned(i)) for i in examples.tolist()]
        return batches.collate(self.name, examples, rows, pad_token_id=self.pad_token_id)


@dataclass(frozen=True)
class TokenData:
    """The prepared data in a folder. See `trainers.parts.Data`."""

    folder: Path
    facts: DataFacts
    splits: Mapping[str, TokenSplit]
    trust: bool = False  # whether code that the tokenizer brings along may run

    @classmethod
    def open(
        cls, folder: Path, *, trust: bool = False, subset: Subset | None = None
    ) -> "TokenData":
        """Returns the data in `folder`, of those to train on a subset. Raises `ValueError` when it
        holds none, or too few for the subset."""
        facts = DataFacts.read(folder)
        of_split = {"train": subset, "validation": None}
        splits = {
            name: TokenSplit.open(
                folder, name, pad_token_id=facts.pad_token_id, subset=of_split[name]
            )
            for name in SPLIT_NAMES
        }
        return cls(folder, facts, splits, trust)

    @property
    def num_classes(self) -> int:
        """Entries of the tokenizer: the real vocabulary."""
        return self.facts.vocab_size

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, loaded when it is first needed: a cache is built without it."""
        return tokenizer_files.load(self.folder / TOKENIZER_FOLDER, "data", trust=self.trust)

    def cache_key(self) -> dict[str, Any]:
        """See `trainers.parts.Data`."""
        return {
            "vocab_size": self.facts.vocab_size,
            "tokenizer": fingerprints.of_tokenizer(self.folder / TOKENIZER_FOLDER),
        }


class _ListColumn:
    """A column of lists as views into the memory map: no copy, whatever the size.

    Arrow keeps such a column in chunks. Each chunk has all lists' values in one array, and offsets
    into it: list i is `values[offsets[i] : offsets[i + 1]]`.
    """

    def __init__(self, column: Any, dtype: type):
        self._values: list[NDArray[Any]] = []
        chunk_of, start_of, lengths = [], [], []
        for number, chunk in enumerate(column.chunks):
            offsets = chunk.offsets.to_numpy()
            # `values` and not `flatten()`: offsets count from the start of all values, also where
            # the chunk is a slice that begins further on.
            self._values.append(_flat(chunk.values, dtype))
            chunk_of.append(np.full(len(chunk), number))
            start_of.append(offsets[:-1])
            lengths.append(np.diff(offsets))
        self._chunk_of = np.concatenate(chunk_of)
        self._start_of = np.concatenate(start_of).astype(np.int64)
        self.lengths: NDArray[np.int64] = np.concatenate(lengths).astype(np.int64)

    def __getitem__(self, row: int) -> NDArray[Any]:
        start = self._start_of[row]
        values: NDArray[Any] = self._values[self._chunk_of[row]]
        return values[start : start + self.lengths[row]]


def _flat(values: Any, dtype: type) -> NDArray[Any]:
    # booleans are bits in Arrow, so they cannot be viewed; one byte a token is small beside the
    # tokens
    zero_copy = dtype is not np.bool_
    flat: NDArray[Any] = values.to_numpy(zero_copy_only=zero_copy)
    return flat.astype(dtype, copy=False)


def _rows(count: int, subset: Subset | None) -> NDArray[np.int64]:
    """The rows of a split's examples, of `count` in its file."""
    if subset is None:
        return np.arange(count)
    subset.check(count)
    # Texts have no classes: all of them are of one.
    return balanced(np.zeros(count, np.int64), subset.num_examples, subset.seed)


def _numbers(column: Any) -> NDArray[np.int64]:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def fingerprint(folder: Path) -> str:
    """Returns the SHA-256 over the content of both splits: token ids, what is learned, accepted
    answers."""
    digest = hashlib.sha256()
    for name in SPLIT_NAMES:
        split = TokenSplit.open(folder, name)
        for numbers in (split.num_prompt_tokens, split.num_learned, split.example_ids):
            digest.update(numbers.tobytes())
        if split.is_reordered:
            digest.update(split.order_lengths.tobytes())
        # not the files' bytes: those hold paddings and metadata that the same data need not share
        for example in range(len(split)):
            digest.update(split.tokens(example).tobytes())
            digest.update(split.learned(example).tobytes())
        if name == "validation":
            answers = [split.references(example) for example in range(len(split))]
            digest.update(json.dumps(answers).encode())
    return digest.hexdigest()
