"""What is written down beside tokenised data; no torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from trainers.files import fingerprints
from trainers.parts import SPLIT_NAMES
from trainers.trial.facts import PreparedFacts

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
    end_of_turn: str = ""  # what the chat template writes behind an answer

    @classmethod
    def read(cls, folder: Path) -> "DataFacts":
        """Returns the facts in `folder`. Raises `ValueError` when it holds no prepared data, or
        damaged ones."""
        path = folder / FACTS_FILE
        if not path.is_file():
            raise ValueError(f"{folder} must hold prepared data, but {FACTS_FILE} is missing.")
        try:
            content = json.loads(path.read_bytes())
            content |= {name: SplitFacts(**content[name]) for name in SPLIT_NAMES}
            return cls(**content)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise damaged(path, folder, error) from error

    def write(self, folder: Path) -> None:
        """Writes the facts into `folder`."""
        (folder / FACTS_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")


def damaged(path: Path, folder: Path, error: Exception) -> ValueError:
    """Returns the error for a file or folder below `folder` that is not as it was prepared."""
    reason = (str(error).splitlines() or [""])[0]
    return ValueError(
        f"{path} must be as it was prepared, but got {type(error).__name__}: {reason}. "
        f"Remove {folder}: it is prepared anew."
    )


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
