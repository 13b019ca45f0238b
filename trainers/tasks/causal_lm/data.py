"""Tokenised instruction data: written once as Arrow, then read by memory map by every trial."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.tasks.causal_lm import templates
from trainers.tasks.causal_lm.records import Record

SPLITS = ("train", "validation")
FACTS_FILE = "prepared.json"


@dataclass(frozen=True)
class SplitFacts:
    """What became of a split's records: kept, dropped for a long prompt, cut at the end; learned
    tokens."""

    num_examples: int
    num_dropped: int
    num_cut: int
    num_tokens: int
    num_response_tokens: int


@dataclass(frozen=True)
class DataFacts:
    """What `prepared.json` beside the splits holds."""

    vocab_size: int
    eos_token_id: int
    pad_token_id: int
    fingerprint: str
    train: SplitFacts
    validation: SplitFacts

    @classmethod
    def read(cls, folder: Path) -> "DataFacts":
        """Returns the facts in `folder`. Raises `ValueError` when it holds no prepared data."""
        path = folder / FACTS_FILE
        if not path.is_file():
            raise ValueError(f"{folder} must hold prepared data, but {FACTS_FILE} is missing.")
        content = json.loads(path.read_text())
        content |= {name: SplitFacts(**content[name]) for name in SPLITS}
        return cls(**content)

    def write(self, folder: Path) -> None:
        """Writes the facts into `folder`."""
        (folder / FACTS_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class Lengths:
    """The longest prompt and the longest whole example, in tokens."""

    max_prompt_tokens: int
    max_tokens: int


def write_split(
    records: list[Record], folder: Path, *, template: str, tokenizer: Any, lengths: Lengths
) -> SplitFacts:
    """Tokenises `records` into `folder` (Arrow) and returns what became of them. Prompts that are
    too long drop their record, responses are cut. Raises `ValueError` when nothing is left."""
    import datasets

    rows: list[dict[str, Any]] = []
    num_cut = 0
    for record in records:
        ids, learned, prompt = templates.encode(template, record, tokenizer)
        if prompt > lengths.max_prompt_tokens:
            continue
        num_cut += len(ids) > lengths.max_tokens
        rows.append(_row(record, ids[: lengths.max_tokens], learned, prompt))
    if not rows:
        raise ValueError(
            "data: at least one prompt must have at most "
            f"max_prompt_tokens={lengths.max_prompt_tokens} tokens, but got none "
            f"among {len(records)}. Raise max_prompt_tokens and max_tokens."
        )
    datasets.Dataset.from_list(rows, features=features()).save_to_disk(folder)
    return SplitFacts(
        num_examples=len(rows),
        num_dropped=len(records) - len(rows),
        num_cut=num_cut,
        num_tokens=sum(len(row["input_ids"]) for row in rows),
        num_response_tokens=sum(row["num_learned"] for row in rows),
    )


def features() -> Any:
    """Returns the columns of a split, as `datasets` describes them."""
    import datasets

    return datasets.Features(
        {
            "input_ids": datasets.List(datasets.Value("int32")),
            "learned": datasets.List(datasets.Value("bool")),
            "num_prompt_tokens": datasets.Value("int32"),
            "num_learned": datasets.Value("int32"),
            "example_id": datasets.Value("int64"),
            "references": datasets.List(datasets.Value("string")),
        }
    )


def _row(record: Record, ids: list[int], learned: list[bool], prompt: int) -> dict[str, Any]:
    # the first token has nothing before it that could predict it
    learned = [False, *learned[1 : len(ids)]]
    return {
        "input_ids": ids,
        "learned": learned,
        "num_prompt_tokens": prompt,
        "num_learned": sum(learned),
        "example_id": _example_id(ids, learned),
        "references": list(record.answers),
    }


def _example_id(ids: list[int], learned: list[bool]) -> int:
    """A number for what an example is, wherever it stands: equal tokens, equal number."""
    content = np.asarray(ids, dtype=np.int32).tobytes() + np.asarray(learned).tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)


class Split:
    """One split, memory-mapped. Examples are numbered as in the file."""

    def __init__(self, name: str, dataset: Any):
        """`dataset` is what `write_split` wrote, opened by `datasets`."""
        self.name = name
        self._dataset = dataset
        table = dataset.data
        self._tokens = _ListColumn(table.column("input_ids"), np.int32)
        self._learned = _ListColumn(table.column("learned"), np.bool_)
        self.num_prompt_tokens: NDArray[np.int64] = _numbers(table.column("num_prompt_tokens"))
        self.num_tokens: NDArray[np.int64] = self._tokens.lengths
        self.num_learned: NDArray[np.int64] = _numbers(table.column("num_learned"))
        self.example_ids: NDArray[np.int64] = _numbers(table.column("example_id"))

    @classmethod
    def open(cls, folder: Path, name: str) -> "Split":
        """Returns split `name` of the prepared data in `folder`."""
        import datasets

        return cls(name, datasets.load_from_disk(str(folder / name)))

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.num_tokens)

    def tokens(self, example: int) -> NDArray[np.int32]:
        """Token ids of one example."""
        return self._tokens[example]

    def learned(self, example: int) -> NDArray[np.bool_]:
        """For each token of one example, whether the loss asks for it."""
        return self._learned[example]

    def references(self, example: int) -> list[str]:
        """All accepted answers of one example."""
        return list(self._dataset[int(example)]["references"])


class _ListColumn:
    """A column of lists as views into the memory map: no copy, whatever the size."""

    def __init__(self, column: Any, dtype: type):
        self._values: list[NDArray[Any]] = []
        chunk_of, start_of, lengths = [], [], []
        for number, chunk in enumerate(column.chunks):
            offsets = chunk.offsets.to_numpy()
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


def _numbers(column: Any) -> NDArray[np.int64]:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def fingerprint(folder: Path) -> str:
    """Returns the SHA-256 over the content of both splits: token ids, what is learned, accepted
    answers."""
    digest = hashlib.sha256()
    for name in SPLITS:
        split = Split.open(folder, name)
        for numbers in (split.num_prompt_tokens, split.num_learned, split.example_ids):
            digest.update(numbers.tobytes())
        for example in range(len(split)):
            digest.update(split.tokens(example).tobytes())
            digest.update(split.learned(example).tobytes())
        if name == "validation":
            answers = [split.references(example) for example in range(len(split))]
            digest.update(json.dumps(answers).encode())
    return digest.hexdigest()
