"""Looks at what a sweep names without spending anything on it: what is there, what is missing; no
torch."""

import json
import math
import struct
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from trainers.files import fingerprints
from trainers.preparing import locate
from trainers.preparing.keys import Keys
from trainers.tasks.causal_lm import records, templates
from trainers.tasks.causal_lm.vocabulary import check_vocabulary
from trainers.trial.sources import ModelSource, PrepareRequest

CHARACTERS_PER_TOKEN = 3.5


class Facts(BaseModel):
    """What is known of teacher, student and data; None: not before they are prepared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_train_examples: int | None = None
    num_train_tokens: int | None = Field(
        default=None, description="response tokens of one epoch, or about so many"
    )
    num_validation_examples: int | None = None
    vocab_size: int | None = None
    teacher_parameters: int | None = None
    student_parameters: int | None = None
    teacher_hidden_size: int | None = None
    teacher_entropy_share: float | None = Field(
        default=None, description="mean entropy at tau = 1 over ln V"
    )
    fingerprints: dict[str, str] = Field(default_factory=dict)
    found: dict[str, str] = Field(default_factory=dict, description="input → where it comes from")


def inspect(request: PrepareRequest, home: Path) -> Facts:
    """Returns what is known of `request`'s inputs. Numbers of examples and tokens are exact once
    the data was prepared under `home`. Raises `ValueError` that says exactly what is missing or
    does not fit."""
    templates.check(request.data.template)
    tokenizer = _tokenizer(request)
    keys = Keys(request, home)
    teacher = _Model(request.teacher, "teacher", keys)
    student = _Model(request.student, "student", keys)
    vocab_size = _vocab_size(request, keys, teacher)
    check_vocabulary(teacher.vocab_size, student.vocab_size, vocab_size)
    for model in (teacher, student):
        model.check_length(request.max_tokens)
    train, validation, data = _data(request, keys, home)
    return Facts(
        num_train_examples=train[0],
        num_train_tokens=train[1],
        num_validation_examples=validation[0],
        vocab_size=vocab_size,
        teacher_parameters=teacher.num_parameters,
        student_parameters=student.num_parameters,
        teacher_hidden_size=teacher.hidden_size,
        teacher_entropy_share=_entropy_share(keys, teacher, student),
        fingerprints={"text": fingerprints.of_document(keys.text)},
        found={
            "teacher": teacher.origin,
            "student": student.origin,
            "tokenizer": tokenizer,
            "data": data,
        },
    )


class _Model:
    """A teacher or student as far as its description goes."""

    def __init__(self, source: ModelSource, role: str, keys: Keys):
        self.role = role
        self.made = source.config is not None or source.fit is not None
        self.folder: Path | None = None
        if source.model is not None:
            self.folder = locate.model_folder(source, role, with_weights=_is_folder(source.model))
            self.config: dict[str, Any] = locate.read_config(self.folder)
        else:
            assert source.config is not None
            self.config = source.config
        if self.made:
            self.folder = keys.model_folder(source, role)
        self.origin = self._origin(source)

    def _origin(self, source: ModelSource) -> str:
        assert self.folder is not None
        start = source.model or f"a {self.config['model_type']} made from its config"
        if not self.made:
            return f"{start} ({self.folder})"
        stage = "" if source.fit is None else ", fitted"
        where = f"ready in {self.folder}" if self.folder.is_dir() else "to be prepared"
        return f"{start}{stage} ({where})"

    @property
    def vocab_size(self) -> int | None:
        return locate.vocab_size_of(self.config)

    @property
    def hidden_size(self) -> int | None:
        return _first(self.config, "hidden_size", "n_embd", "d_model")

    @property
    def num_parameters(self) -> int | None:
        if self.folder is not None and self.folder.is_dir():
            return _count(self.folder)
        return None

    def check_length(self, max_tokens: int) -> None:
        limit = _first(self.config, "max_position_embeddings", "n_positions")
        if limit is not None and max_tokens > limit:
            raise ValueError(
                f"data.max_tokens: it must be at most the {self.role}'s {limit} positions, "
                f"but got {max_tokens}. Lower it, or take a longer model."
            )


def _is_folder(name: str) -> bool:
    return Path(name).expanduser().is_dir()


def _first(config: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name, config.get("text_config", {}).get(name))
        if value is not None:
            return int(value)
    return None


def _count(folder: Path) -> int | None:
    """Number of parameters from the headers of the weight files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        total += sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    return total or None


def _tokenizer(request: PrepareRequest) -> str:
    folder = locate.tokenizer_folder(request)
    if request.tokenizer is None:
        return f"the teacher's ({folder})"
    if request.tokenizer.train is not None:
        return f"trained on the data, {request.tokenizer.train.vocab_size} entries"
    return f"{request.tokenizer.model} ({folder})"


def _vocab_size(request: PrepareRequest, keys: Keys, teacher: _Model) -> int | None:
    """The real vocabulary: exact when the data is prepared or the tokenizer is trained here."""
    if keys.data_folder.is_dir():
        return int(_prepared(keys)["vocab_size"])
    if request.tokenizer is not None and request.tokenizer.train is not None:
        return request.tokenizer.train.vocab_size
    return teacher.vocab_size


def _prepared(keys: Keys) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((keys.data_folder / "prepared.json").read_text())
    return content


def _data(
    request: PrepareRequest, keys: Keys, home: Path
) -> tuple[tuple[int | None, int | None], tuple[int | None, int | None], str]:
    """Examples and response tokens of both splits, and where they come from."""
    place = f"{request.data.train}, {request.data.validation}"
    if keys.data_folder.is_dir():
        facts = _prepared(keys)
        train, validation = (
            (facts[split]["num_examples"], facts[split]["num_response_tokens"])
            for split in ("train", "validation")
        )
        return train, validation, f"{place} (ready in {keys.data_folder})"
    train, validation = (_estimate(request, split, home) for split in ("train", "validation"))
    return train, validation, place


def _estimate(request: PrepareRequest, split: str, home: Path) -> tuple[int | None, int | None]:
    place = request.data.train if split == "train" else request.data.validation
    if not place.startswith("builtin:") and not records.is_file(place):
        return None, None  # reading a hub data set would mean downloading it
    rows = records.read(request.data, split, home)
    characters = sum(len(row.response) for row in rows)
    return len(rows), round(characters / CHARACTERS_PER_TOKEN) + len(rows)


def _entropy_share(keys: Keys, teacher: _Model, student: _Model) -> float | None:
    """The teacher's entropy, when it was measured in an earlier preparation."""
    folders = (teacher.folder, student.folder, keys.data_folder)
    if not all(folder is not None and folder.is_dir() for folder in folders):
        return None
    assert teacher.folder is not None and student.folder is not None
    found = {
        "teacher": fingerprints.of_model(teacher.folder),
        "student": fingerprints.of_model(student.folder),
        "tokenizer": fingerprints.of_tokenizer(keys.data_folder / "tokenizer"),
        "data": _prepared(keys)["fingerprint"],
    }
    path = keys.metrics_folder(found) / "metrics.json"
    if not path.is_file():
        return None
    return float(json.loads(path.read_text())["teacher"]["entropy_share"])
