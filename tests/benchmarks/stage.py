"""A teacher, a student and data of the size that the benchmarks of training measure: random weights
and tokens, because only shapes decide what a step costs."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers import numerics
from trainers.losses import DistillationLoss
from trainers.tasks.causal_lm import data as tokenised
from trainers.tasks.causal_lm import models, writing
from trainers.tasks.causal_lm.facts import DataFacts, SplitFacts
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.training.student import StudentWithLoss
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.trial_file import TrialFile, TrialPaths

VOCAB_SIZE = 50257
RESPONSE = 256
BATCH = 4
TEACHER = {"n_layer": 12, "n_embd": 512, "n_head": 8}
STUDENT = {"n_layer": 3, "n_embd": 256, "n_head": 4}


@dataclass(frozen=True)
class Stage:
    """Where everything lies."""

    folder: Path

    @property
    def teacher(self) -> Path:
        """The teacher's folder."""
        return self.folder / "teacher"

    @property
    def student(self) -> Path:
        """The student's folder."""
        return self.folder / "student"

    @property
    def data(self) -> Path:
        """The prepared data."""
        return self.folder / "data"

    def trial(self, *, steps: int, source: str = "online", cache: Path | None = None) -> TrialFile:
        """A trial over the stage, one evaluation, no generated text."""
        return TrialFile(
            config=TrialConfig(
                steps=steps,
                batch_size=BATCH,
                evaluations=1,
                generation_prompts=0,
                max_tokens=RESPONSE + 1,
                max_prompt_tokens=1,
            ),
            numerics=resolved(),
            teacher_source=source,
            paths=TrialPaths(
                teacher=str(self.teacher),
                student=str(self.student),
                data=str(self.data),
                teacher_cache=None if cache is None else str(cache),
            ),
        )


def resolved() -> dict[str, Any]:
    """Numerics of one CPU thread."""
    return numerics.resolve("cpu", Precision.FLOAT32, 1)


def build(
    folder: Path,
    *,
    examples: int,
    teacher: Mapping[str, int] = TEACHER,
    student: Mapping[str, int] = STUDENT,
    response: int = RESPONSE,
    made_on: torch.device | None = None,
) -> Stage:
    """Makes models and data under `folder`. On a GPU, `made_on`, the teacher is in bfloat16, as it
    computes there."""
    stage = Stage(folder)
    models.quieten()
    on_gpu = made_on is not None and made_on.type == "cuda"
    with made_on or torch.device("cpu"):
        _model(stage.teacher, teacher, response, torch.bfloat16 if on_gpu else torch.float32, 1)
        _model(stage.student, student, response, torch.float32, 2)
    _data(stage.data, examples, response)
    return stage


def student(stage: Stage, *, fused: bool = True) -> StudentWithLoss:
    """The student with its loss, in training mode; `fused` False is the plain loss over whole
    logits."""
    model = models.load(stage.student, attention=None, dtype=torch.float32)
    loss = DistillationLoss(TrialConfig(), VOCAB_SIZE, fused=fused)
    made = StudentWithLoss(LanguageModel.of(model, VOCAB_SIZE), loss, numerics=resolved())
    return made.train()


def interleaved(variants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each variant in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            started = time.process_time()
            run()
            if number:
                seconds[name].append(time.process_time() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], one: str, other: str) -> str:
    """`one` ÷ `other`, round by round: median and range."""
    rounds = [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
    return f"{statistics.median(rounds):.3f} [{min(rounds):.3f}-{max(rounds):.3f}]"


def median_ratio(seconds: Mapping[str, list[float]], one: str, other: str) -> float:
    """The median of `one` ÷ `other`."""
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def step_flops() -> float:
    """Floating-point operations in the matrix products of one cached step; attention scores
    apart."""
    positions, width = BATCH * RESPONSE, STUDENT["n_embd"]
    body = 12 * STUDENT["n_layer"] * width**2
    heads = 6 * width + 2 * TEACHER["n_embd"]
    return float(6 * positions * body + positions * VOCAB_SIZE * heads)


def matmul_rate(size: int = 1024, repeats: int = 5) -> float:
    """FLOP per CPU second of a plain product of two square matrices."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats + 1):
        started = time.process_time()
        a @ b
        seconds.append(time.process_time() - started)
    return 2 * size**3 / statistics.median(seconds[1:])


def resident(field: str) -> float:
    """A memory figure of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return float(line.split()[1]) * 1024
    raise LookupError(field)


def _model(
    folder: Path, sizes: Mapping[str, int], response: int, dtype: torch.dtype, seed: int
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_positions=response + 8,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        **sizes,
    )
    GPT2LMHeadModel(config).to(dtype).save_pretrained(folder)


def _data(folder: Path, examples: int, response: int) -> None:
    """Examples of one prompt token and `response` learned ones; a tokenizer that names them."""
    import datasets
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    random = np.random.Generator(np.random.PCG64(0))
    facts = {}
    for name, count in (("train", examples), ("validation", 1)):
        rows = []
        for _ in range(count):
            ids = random.integers(0, VOCAB_SIZE, response + 1).tolist()
            learned = [False] + [True] * response
            rows.append(
                {
                    "input_ids": ids,
                    "learned": learned,
                    "num_prompt_tokens": 1,
                    "num_learned": response,
                    "example_id": writing._example_id(ids, learned),
                    "references": ["x"],
                }
            )
        datasets.Dataset.from_list(rows, features=writing.features()).save_to_disk(folder / name)
        facts[name] = SplitFacts(count, 0, 0, count * (response + 1), count * response)
    words = {f"w{i}": i for i in range(VOCAB_SIZE)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")), eos_token="w0"
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    DataFacts(VOCAB_SIZE, 0, 0, tokenised.fingerprint(folder), **facts).write(folder)
