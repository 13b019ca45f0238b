"""Small things to train with: a few sentences as data, tiny models, a trial over them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainers.trial.config import TrialConfig
from trainers.trial.probe import is_diagnostic
from trainers.trial.reporting import Leave
from trainers.trial.sources import (
    DataSource,
    FitConfig,
    ModelSource,
    Prepared,
    PrepareRequest,
    TokenizerSource,
)
from trainers.trial.trial_file import TrialFile, TrialPaths

ANIMALS = ("cat", "dog", "owl", "fox", "hen", "cow", "bee", "ant", "bat", "elk")
DEEDS = ("sleeps", "runs", "sings", "eats", "hides", "jumps", "waits", "digs")
VOCAB_SIZE = 300
LENGTHS = {"max_tokens": 96, "max_prompt_tokens": 72}
# short, so that tiny models train in milliseconds
TEMPLATE = "Q: {instruction} {input}\nA: "


def records(count: int, start: int = 0) -> list[dict[str, Any]]:
    """`count` different questions and answers of varying length."""
    rows = []
    for i in range(start, start + count):
        animal, deed = ANIMALS[i % 10], DEEDS[(i // 10) % 8]
        answer = f"The {animal} {deed} " + " ".join(DEEDS[: i % 5])
        rows.append(
            {"instruction": f"What does the {animal} do {i}?", "input": "", "output": answer}
        )
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes `rows` as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def gpt2(layers: int, width: int, **other: Any) -> dict[str, Any]:
    """A config of GPT-2 without dropout, so that a step does not depend on how it is cut up."""
    return {
        "model_type": "gpt2",
        "n_layer": layers,
        "n_embd": width,
        "n_head": 2,
        "n_positions": 128,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        **other,
    }


def request(folder: Path, **changed: Any) -> PrepareRequest:
    """A request over data written into `folder`, with a fitted teacher and an unfitted student."""
    train = write_lines(folder / "train.jsonl", records(60))
    validation = write_lines(folder / "validation.jsonl", records(12, start=60))
    values: dict[str, Any] = {
        "teacher": ModelSource(
            config=gpt2(2, 32), fit=FitConfig(steps=12, batch_size=8, learning_rate=3e-3)
        ),
        "student": ModelSource(config=gpt2(1, 16)),
        "tokenizer": TokenizerSource.model_validate({"train": {"vocab_size": VOCAB_SIZE}}),
        "data": DataSource(train=str(train), validation=str(validation), template=TEMPLATE),
        **LENGTHS,
    }
    return PrepareRequest.model_validate(values | changed)


def trial(prepared: Prepared, **config: Any) -> TrialFile:
    """A trial of 6 steps with two evaluations and a little generated text."""
    values: dict[str, Any] = {
        "steps": 6,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "evaluations": 2,
        "generation_prompts": 4,
        "max_new_tokens": 6,
        **LENGTHS,
    }
    return TrialFile(
        config=TrialConfig.model_validate(values | config),
        fingerprints=prepared.fingerprints,
        teacher_dtype=prepared.teacher_dtype,
        paths=TrialPaths(teacher=prepared.teacher, student=prepared.student, data=prepared.data),
    )


def on_teacher_text(file: TrialFile, prepared: Prepared) -> TrialFile:
    """The trial, learning the teacher's text in place of the data's."""
    text = prepared.teacher_text
    assert text is not None
    fingerprints = file.fingerprints | {"data": text.fingerprint}
    paths = file.paths.model_copy(update={"data": text.data})
    return file.model_copy(update={"fingerprints": fingerprints, "paths": paths})


@dataclass
class Recorder:
    """A reporter that keeps everything, and makes the trial leave after step `stop_after`."""

    stop_after: int | None = None
    reason: Leave = Leave.VERDICT
    steps: dict[int, dict[str, float]] = field(default_factory=dict)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    advances: list[tuple[int, int]] = field(default_factory=list)
    diagnostics: dict[int, dict[str, float]] = field(default_factory=dict)

    def notice(self, text: str) -> None:
        """Keeps a notice."""
        self.notices.append(text)

    def advanced(self, step: int, num_steps: int) -> None:
        """Keeps how far the trial is."""
        self.advances.append((step, num_steps))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keeps a step, or what was seen of the loss after it."""
        (self.diagnostics if all(map(is_diagnostic, metrics)) else self.steps)[step] = dict(metrics)

    def evaluated(self, step: int, evaluation: int, metrics: Mapping[str, float]) -> None:
        """Keeps an evaluation."""
        self.evaluations[evaluation] = dict(metrics)

    def reason_to_leave(self) -> Leave:
        """Gives `reason` once `stop_after` steps are done."""
        is_due = self.stop_after is not None and len(self.steps) >= self.stop_after
        return self.reason if is_due else Leave.NO
