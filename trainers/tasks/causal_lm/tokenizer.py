"""Finds the tokenizer that a sweep names, or makes one from the training text; no torch."""

import json
from collections.abc import Iterable
from pathlib import Path

from trainers.tasks import locate
from trainers.tasks.causal_lm import templates
from trainers.tasks.causal_lm.record import Record
from trainers.tasks.causal_lm.tokenizer_files import brings_code, has_vocabulary
from trainers.trial.sources import ModelSource, PrepareRequest

END_OF_TEXT = "<|endoftext|>"
SETTINGS = "tokenizer_config.json"
# What transformers notes of how a tokenizer was loaded here; elsewhere it is wrong.
OF_PLACE = ("is_local", "local_files_only", "name_or_path", "tokenizer_file")


def find(request: PrepareRequest) -> Path | None:
    """Returns the folder of the request's tokenizer (by default the teacher's), or None when it is
    to be trained on the data. Raises `ValueError` when there is none, and as `locate` does."""
    source = request.tokenizer
    if source is None and request.teacher.model is None:
        raise ValueError(
            "tokenizer: it must be given when the teacher is made from a config, but got none. "
            "Name one (tokenizer: {model: gpt2}), or train one on the data "
            "(tokenizer: {train: {vocab_size: 2048}})."
        )
    if source is None:
        folder = locate.model_folder(request.teacher, "teacher", with_weights=False)
        if not has_vocabulary(folder):  # as an adapter, whose base has it
            folder = locate.whole_folder(request.teacher, "teacher", with_weights=False)
        return _checked(folder, "teacher.model")
    if source.model is None:
        return None
    named = ModelSource(model=source.model, trust_remote_code=source.trust_remote_code)
    folder = locate.named_folder(named, "tokenizer", with_weights=False)
    return _checked(folder, "tokenizer.model")


def train(records: list[Record], template: str, vocab_size: int, folder: Path) -> None:
    """Writes into `folder` a byte-level BPE tokenizer with exactly `vocab_size` entries, trained on
    prompts and responses. Raises `ValueError` when the text is too small for so many."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(records, template), trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(
            f"tokenizer.train.vocab_size: the text must hold that many pieces, but got "
            f"{tokenizer.get_vocab_size()} of {vocab_size}. Lower it, or give more text."
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def forget_place(folder: Path) -> None:
    """Takes out of the tokenizer's settings in `folder` where and how it was loaded."""
    path = folder / SETTINGS
    settings = json.loads(path.read_text())
    kept = {name: value for name, value in settings.items() if name not in OF_PLACE}
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


def _texts(records: list[Record], template: str) -> Iterable[str]:
    for record in records:
        if template == "chat":
            yield "\n".join(m["content"] for m in record.messages or ())
        else:
            yield templates.prompt(template, record)
            yield record.response


def _checked(folder: Path, place: str) -> Path:
    locate.check_is_there(folder, place)
    if not has_vocabulary(folder) and not brings_code(folder):
        raise ValueError(
            f"{place}: folder {folder} has no tokenizer: tokenizer.json is missing (or vocab.json, "
            "vocab.txt, spiece.model). Name one under tokenizer, or train one: "
            "tokenizer: {train: {vocab_size: 8192}}."
        )
    return folder
