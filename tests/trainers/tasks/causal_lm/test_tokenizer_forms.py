"""Tokenizers as older models have them, without a tokenizer.json: planned and prepared with, or
refused with what is missing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from training_support import gpt2, records, request

from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.tasks.causal_lm import tokenizer_files
from trainers.trial.sources import ModelSource, PrepareRequest
from trainers.trial.sources import TokenizerSource as Source

TEXTS = [f"{row['instruction']} {row['output']}" for row in records(60)]
END = "<|endoftext|>"


def merges(folder: Path) -> int:
    """vocab.json and merges.txt, as GPT-2's."""
    from tokenizers import ByteLevelBPETokenizer

    made = ByteLevelBPETokenizer()
    made.train_from_iterator(TEXTS, vocab_size=300, special_tokens=[END], show_progress=False)
    made.save_model(str(folder))
    described = {"tokenizer_class": "GPT2Tokenizer", "eos_token": END, "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    return 300


def bare_merges(folder: Path) -> int:
    """The same with the model's config alone to say what it is."""
    count = merges(folder)
    (folder / "tokenizer_config.json").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    return count


def words(folder: Path) -> int:
    """vocab.txt, as BERT's."""
    known = {word.lower() for text in TEXTS for word in text.replace("?", " ?").split()}
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(known)]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n")
    described = {"tokenizer_class": "BertTokenizer", "eos_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    return len(lines)


def asked(folder: Path, tokens: Path) -> PrepareRequest:
    small = ModelSource(config=gpt2(1, 16))
    return request(folder, tokenizer=Source(model=str(tokens)), teacher=small, student=small)


@pytest.mark.parametrize("make", [merges, bare_merges, words])
def test_older_forms_are_planned_and_prepared_with(
    tmp_path: Path, make: Callable[[Path], int]
) -> None:
    (tmp_path / "tokens").mkdir()
    count = make(tmp_path / "tokens")
    one = asked(tmp_path, tmp_path / "tokens")
    assert inspect(one, tmp_path / "home").vocab_size == count
    assert prepare(one, tmp_path / "home").vocab_size == count


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.model", "mine.tiktoken"])
def test_a_form_whose_reader_is_missing_names_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_files, "find_spec", lambda name: None)
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / name).write_bytes(b"\n\x0e")
    one = asked(tmp_path, tmp_path / "tokens")
    for act in (inspect, prepare):
        with pytest.raises(ValueError, match=rf"{name} must be read by the package sentencepiece"):
            act(one, tmp_path / "home")


def test_a_damaged_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    words(tmp_path / "tokens")
    (tmp_path / "tokens" / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="tokenizer: .*tokens: its tokenizer must be one that tra"):
        inspect(asked(tmp_path, tmp_path / "tokens"), tmp_path / "home")


def test_a_folder_without_any_form_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has no tokenizer: .*\(or vocab\.json, vocab\.txt, spi"):
        inspect(asked(tmp_path, tmp_path / "tokens"), tmp_path / "home")
