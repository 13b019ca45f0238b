"""Makes a tokenizer from the training text when a sweep asks for one."""

from collections.abc import Iterable
from pathlib import Path

from trainers.tasks.causal_lm import templates
from trainers.tasks.causal_lm.records import Record

END_OF_TEXT = "<|endoftext|>"


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


def _texts(records: list[Record], template: str) -> Iterable[str]:
    for record in records:
        if template == "chat":
            yield "\n".join(m["content"] for m in record.messages or ())
        else:
            yield templates.prompt(template, record)
            yield record.response
