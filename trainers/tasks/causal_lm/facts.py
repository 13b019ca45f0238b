"""What is written down beside tokenised data; no torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from trainers.files import fingerprints
from trainers.parts import SPLIT_NAMES, PreparedFacts

FACTS_FILE, TOKENIZER_FOLDER = "prepared.json", "tokenizer"


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
    """The content of `prepared.json` beside the splits."""

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
        content |= {name: SplitFacts(**content[name]) for name in SPLIT_NAMES}
        return cls(**content)

    def write(self, folder: Path) -> None:
        """Writes the facts into `folder`."""
        (folder / FACTS_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")


def read_prepared(folder: Path) -> PreparedFacts:
    """See `trainers.parts.Task.read_prepared`."""
    facts = DataFacts.read(folder)
    return PreparedFacts(
        num_classes=facts.vocab_size,
        num_train_examples=facts.train.num_examples,
        num_train_learned=facts.train.num_response_tokens,
        num_validation_examples=facts.validation.num_examples,
        fingerprints={
            "tokenizer": fingerprints.of_tokenizer(folder / TOKENIZER_FOLDER),
            "data": facts.fingerprint,
        },
    )
