"""Writes instruction data as token ids (Arrow), once, for every trial to read by memory map."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from trainers.files import fingerprints, store
from trainers.parts import SPLIT_NAMES
from trainers.sampled import Sample
from trainers.tasks.causal_lm import data, records, templates, tokenizer, tokenizer_files
from trainers.tasks.causal_lm.data import TokenData, TokenSplit
from trainers.tasks.causal_lm.facts import TOKENIZER_FOLDER, DataFacts, SplitFacts
from trainers.tasks.causal_lm.inputs import TextKeys
from trainers.tasks.causal_lm.models import quieten
from trainers.tasks.causal_lm.record import Record
from trainers.tasks.causal_lm.vocabulary import num_entries
from trainers.trial.config import TrialConfig
from trainers.trial.facts import SetFacts
from trainers.trial.sources import DataSource, PrepareRequest

EVALUATED = "validation"  # the split that students are measured on


@dataclass(frozen=True)
class Lengths:
    """The longest prompt and the longest example (prompt and response), in tokens."""

    max_prompt_tokens: int
    max_tokens: int


@dataclass
class DataWriter:
    """Writes the data of one request; what it needs beside the records is made under `home`."""

    request: PrepareRequest
    home: Path

    @cached_property
    def _train_records(self) -> list[Record]:
        return records.read(self.request.data, "train", self.home)

    def write(self, folder: Path) -> None:
        """Writes splits, tokenizer and facts into `folder`. Raises `ValueError` when an input is
        missing or wrong."""
        quieten()
        trust = self.request.trusts("tokenizer")
        loaded = tokenizer_files.load(self._tokenizer(), "tokenizer", trust=trust)
        written = {name: self._write_split(name, loaded, folder) for name in SPLIT_NAMES}
        loaded.save_pretrained(folder / TOKENIZER_FOLDER)
        DataFacts(
            vocab_size=num_entries(loaded),
            eos_token_id=_end_token(loaded),
            pad_token_id=_padding_token(loaded),
            fingerprint=data.fingerprint(folder),
            end_of_turn=self._end_of_turn(loaded),
            **written,
        ).write(folder)

    def _end_of_turn(self, loaded: Any) -> str:
        """That of the first record which has one."""
        template = self.request.data.template
        ends = (templates.end_of_turn(template, one, loaded) for one in self._train_records)
        return next((end for end in ends if end), "") if template == "chat" else ""

    def _tokenizer(self) -> Path:
        folder = tokenizer.find(self.request)
        if folder is not None:
            return folder
        source, template = self.request.tokenizer, self.request.data.template
        assert source is not None and source.train is not None
        size = source.train.vocab_size

        def make(folder: Path) -> None:
            tokenizer.train(self._train_records, template, size, folder)

        return store.once(TextKeys(self.request).tokenizer_folder(self.home), make)

    def _write_split(self, name: str, loaded: Any, folder: Path) -> SplitFacts:
        rows = (
            self._train_records
            if name == "train"
            else records.read(self.request.data, name, self.home)
        )
        return write_split(
            rows,
            folder / name,
            template=self.request.data.template,
            tokenizer=loaded,
            lengths=Lengths(self.request.max_prompt_tokens, self.request.max_tokens),
        )


def evaluation_set(
    source: DataSource, like: TokenData, config: TrialConfig, folder: Path
) -> tuple[TokenData, SetFacts]:
    """See `trainers.parts.TaskRuntime.evaluation_set`."""
    quieten()
    written = write_split(
        records.read(source, EVALUATED, folder),
        folder / EVALUATED,
        template=source.template,
        tokenizer=like.tokenizer,
        lengths=Lengths(config.max_prompt_tokens, config.max_tokens),
    )
    split = TokenSplit.open(folder, EVALUATED, pad_token_id=like.facts.pad_token_id)
    answers = [split.references(example) for example in range(len(split))]
    facts = SetFacts(
        num_examples=written.num_examples,
        num_dropped=written.num_dropped,
        fingerprint=fingerprints.of_document([split.example_ids.tolist(), answers]),
        **{f"in_{name}": _shared(split, one) for name, one in like.splits.items()},
    )
    return replace(like, splits={EVALUATED: split}), facts


def _shared(split: TokenSplit, other: TokenSplit) -> int:
    return int(np.isin(split.example_ids, other.example_ids).sum())


def write_split(
    records: list[Record], folder: Path, *, template: str, tokenizer: Any, lengths: Lengths
) -> SplitFacts:
    """Tokenises `records` into `folder` (Arrow) and returns what became of them. Prompts that are
    too long drop their record, responses are cut. Raises `ValueError` when nothing is left."""
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


def write_all_learned(source: Path, folder: Path) -> None:
    """Writes the prepared data in `source` into `folder`, with every token of the training split
    learned: of its prompts too. The validation split stays what trials are measured on."""
    shutil.copytree(source, folder, ignore=_train_of(source))
    rows = [_all_learned(row) for row in datasets.load_from_disk(str(source / "train"))]
    datasets.Dataset.from_list(rows, features=features()).save_to_disk(folder / "train")
    facts = DataFacts.read(source)
    train = replace(facts.train, num_response_tokens=sum(row["num_learned"] for row in rows))
    replace(facts, train=train, fingerprint=data.fingerprint(folder)).write(folder)


def _all_learned(row: dict[str, Any]) -> dict[str, Any]:
    ids = row["input_ids"]
    learned = [False] + [True] * (len(ids) - 1)  # nothing before the first could predict it
    changed = {"learned": learned, "num_learned": len(ids) - 1}
    return {**row, **changed, "example_id": _example_id(ids, learned)}


def write_responses(source: Path, samples: Sequence[Sample], folder: Path) -> None:
    """Writes the prepared data in `source` into `folder` with `samples` behind their prompts to
    train on, all of their tokens learned. The validation split stays what trials are measured
    on."""
    shutil.copytree(source, folder, ignore=_train_of(source), dirs_exist_ok=True)
    old = datasets.load_from_disk(str(source / "train"))
    rows = [_answered(old[one.example], one.response.ids) for one in samples]
    columns = datasets.Features({**features(), data.ORDER_COLUMN: datasets.Value("int32")})
    datasets.Dataset.from_list(rows, features=columns).save_to_disk(folder / "train")
    train = SplitFacts(
        num_examples=len(rows),
        num_dropped=0,
        num_cut=sum(not one.response.ended for one in samples),
        num_tokens=sum(len(row["input_ids"]) for row in rows),
        num_response_tokens=sum(row["num_learned"] for row in rows),
    )
    facts = DataFacts.read(source)
    replace(facts, train=train, fingerprint=data.fingerprint(folder)).write(folder)


def _answered(row: dict[str, Any], response: list[int]) -> dict[str, Any]:
    prompt, length = row["num_prompt_tokens"], len(row["input_ids"])
    ids = row["input_ids"][:prompt] + response
    # as of the student's samples: earlier answers of a conversation are read, and not learned
    learned = [False] * prompt + [True] * len(response)
    changed: dict[str, Any] = {"learned": learned, "num_learned": len(response)}
    changed |= {"example_id": _example_id(ids, learned), data.ORDER_COLUMN: length}
    return {**row, "input_ids": ids, **changed}


def _train_of(source: Path) -> Callable[[str, list[str]], list[str]]:
    return lambda place, _: ["train"] * (Path(place) == source)


def features() -> Any:
    """Returns the columns of a split, as `datasets` describes them."""
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


def _end_token(loaded: Any) -> int:
    if loaded.eos_token_id is None:
        raise ValueError(
            "tokenizer: it must have an end-of-sequence token, but this one has none. "
            "Use another one."
        )
    return int(loaded.eos_token_id)


def _padding_token(loaded: Any) -> int:
    return int(loaded.eos_token_id if loaded.pad_token_id is None else loaded.pad_token_id)
