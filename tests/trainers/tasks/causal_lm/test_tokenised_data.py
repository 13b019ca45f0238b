"""Tokenised data on disk: what is kept, dropped and cut, and that it is read by memory map."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_support import TEMPLATE

from trainers.tasks.causal_lm import data, templates
from trainers.tasks.causal_lm.data import TokenData, TokenSplit
from trainers.tasks.causal_lm.facts import DataFacts, SplitFacts
from trainers.tasks.causal_lm.record import Record
from trainers.tasks.causal_lm.writing import Lengths, write_split
from trainers.trial.sources import Prepared


@pytest.fixture
def tokenizer(prepared: Prepared) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(prepared.data) / "tokenizer")


def write(rows: list[Record], folder: Path, tokenizer: Any, lengths: Lengths) -> SplitFacts:
    return write_split(
        rows, folder / "train", template=TEMPLATE, tokenizer=tokenizer, lengths=lengths
    )


def test_what_is_read_is_what_was_encoded(tokenizer: Any, tmp_path: Path) -> None:
    # more than a thousand rows, so that Arrow keeps them in several chunks
    rows = [Record(instruction=f"{i}?", response="yes " * (1 + i % 7)) for i in range(2500)]
    facts = write(rows, tmp_path, tokenizer, Lengths(64, 96))
    split = TokenSplit.open(tmp_path, "train")
    assert len(split) == facts.num_examples == 2500
    for i in (0, 999, 1000, 1001, 2499):
        ids, learned, prompt = templates.encode(TEMPLATE, rows[i], tokenizer)
        assert split.tokens(i).tolist() == ids
        assert split.learned(i).tolist() == learned
        assert split.num_prompt_tokens[i] == prompt
        assert split.num_learned[i] == sum(learned)
        assert split.references(i) == [rows[i].response]
    assert facts.num_response_tokens == split.num_learned.sum()
    assert facts.num_tokens == split.num_tokens.sum()


def test_ids_beyond_65535_are_kept(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [0, 65_534, 65_535, 65_536, 151_935]
    monkeypatch.setattr(templates, "encode", lambda *_: (ids, [False, False, True, True, True], 2))
    facts = write([Record(instruction="?", response="!")], tmp_path, tokenizer, Lengths(64, 96))
    assert TokenSplit.open(tmp_path, "train").tokens(0).tolist() == ids
    assert facts.num_response_tokens == 3


def test_long_prompts_are_dropped_and_long_responses_cut(tokenizer: Any, tmp_path: Path) -> None:
    rows = [
        Record(instruction="short?", response="yes"),
        Record(instruction="long? " * 50, response="yes"),
        Record(instruction="short?", response="no " * 100),
    ]
    facts = write(rows, tmp_path, tokenizer, Lengths(30, 40))
    assert (facts.num_examples, facts.num_dropped, facts.num_cut) == (2, 1, 1)
    split = TokenSplit.open(tmp_path, "train")
    assert split.num_tokens[1] == 40
    assert split.references(1) == ["no " * 100]


def test_nothing_left_is_an_error(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_prompt_tokens=2 tokens, but got none among 1"):
        write([Record(instruction="a b c d", response="e")], tmp_path, tokenizer, Lengths(2, 9))


def test_token_ids_are_views_into_the_file(prepared: Prepared) -> None:
    split = TokenSplit.open(Path(prepared.data), "train")
    tokens = split.tokens(0)
    assert not tokens.flags.owndata and not tokens.flags.writeable
    assert tokens.dtype == np.int32


def test_facts_say_what_lies_there(prepared: Prepared) -> None:
    facts = DataFacts.read(Path(prepared.data))
    assert facts.vocab_size == prepared.vocab_size == 300
    assert facts.fingerprint == prepared.fingerprints["data"]
    assert facts.fingerprint == data.fingerprint(Path(prepared.data))
    assert (facts.train.num_examples, facts.validation.num_examples) == (60, 12)


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold prepared data, but prepared.json is missing"):
        DataFacts.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prepared.json", ""),
        ("prepared.json", "[]"),
        ("prepared.json", "{}"),
        ("prepared.json", '{"train": 3, "validation": 3}'),
        ("train/state.json", "{"),
        ("train/dataset_info.json", "[]"),
        ("validation/data-00000-of-00001.arrow", "cut"),
        ("validation/data-00000-of-00001.arrow", None),
    ],
)
def test_damaged_data_is_named_with_what_to_do(
    prepared: Prepared, tmp_path: Path, name: str, content: str | None
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(prepared.data, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    place = name if name == "prepared.json" else name.split("/")[0]
    with pytest.raises(ValueError, match=rf"{folder}/{place} must be as .* Remove {folder}"):
        TokenData.open(folder)
