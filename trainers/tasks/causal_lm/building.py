"""Makes models from configs, and scores teacher and students' start before any trial."""

import math
from pathlib import Path
from typing import Any

import torch

from trainers import numerics as numerics_of
from trainers.losses import DistillationLoss
from trainers.nearest import nearest
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.data import DataFacts, Split
from trainers.tasks.causal_lm.evaluation import Evaluator
from trainers.teachers.online import OnlineTeacher, SignalMaker
from trainers.training.student import StudentWithLoss
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.sources import ModelSource
from trainers.world import World

SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def initialise(source: ModelSource, role: str, tokenizer_folder: Path, folder: Path) -> None:
    """Writes into `folder` a model with the architecture of `source.config`, weights drawn from
    `source.init_seed`. Vocabulary size and special tokens come from the tokenizer unless given.
    Raises `ValueError` for a model type or key that transformers does not know."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    assert source.config is not None
    given = {"vocab_size": len(tokenizer), **source.config}
    for name in SPECIAL_TOKENS:
        token = getattr(tokenizer, name, None)
        given.setdefault(name, tokenizer.eos_token_id if token is None else token)
    config = _config(given, role)
    numerics_of.seed_all(source.init_seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def score(
    teacher: Path, student: Path, data: Path, *, device: str, trust: bool, teacher_gpus: int = 1
) -> dict[str, dict[str, float]]:
    """Returns validation metrics of `teacher` (with its entropy at temperature 1 over ln V) and of
    `student` against it, without generated text."""
    numerics = numerics_of.resolve(device, Precision.FLOAT32, torch.get_num_threads())
    numerics_of.apply(numerics)
    facts, split = DataFacts.read(data), Split.open(data, "validation")
    model = models.load_on(
        torch.device(device),
        teacher,
        attention=None,
        dtype=torch.float32,
        trust=trust,
        gpus=teacher_gpus,
    )
    maker = OnlineTeacher(model, vocab_size=facts.vocab_size)
    of_teacher = _score(model, facts, split, None, numerics)
    entropy = of_teacher.pop("student_entropy")
    of_teacher |= {"entropy": entropy, "entropy_share": entropy / math.log(facts.vocab_size)}
    start = models.load(student, attention=None, dtype=torch.float32, trust=trust).to(device)
    return {"teacher": of_teacher, "student": _score(start, facts, split, maker, numerics)}


def _score(
    model: Any,
    facts: DataFacts,
    split: Split,
    teacher: SignalMaker | None,
    numerics: dict[str, Any],
) -> dict[str, float]:
    config = TrialConfig(generation_prompts=0)
    loss = DistillationLoss(config, facts.vocab_size)
    student = StudentWithLoss(model, loss, vocab_size=facts.vocab_size, numerics=numerics)
    world = World(device=torch.device(numerics["device"]))
    evaluator = Evaluator(config, split, facts, None, teacher, world, numerics)
    metrics = evaluator.evaluate(student).metrics
    for of_the_loss in ("teacher_entropy_mean", "teacher_entropy_std"):
        metrics.pop(of_the_loss, None)
    return metrics


def _config(given: dict[str, Any], role: str) -> Any:
    from transformers import CONFIG_MAPPING

    model_type = given["model_type"]
    if model_type not in CONFIG_MAPPING:
        known = sorted(CONFIG_MAPPING.keys())
        raise ValueError(
            f"{role}.config.model_type: it must be one that transformers knows, "
            f"but got '{model_type}'.{nearest(model_type, known)}"
        )
    kind = CONFIG_MAPPING[model_type]
    names = set(kind().to_dict()) | set(kind.attribute_map)
    unknown = sorted(set(given) - names)
    if unknown:
        raise ValueError(
            f"{role}.config: every key must be one of {model_type}'s config, "
            f"but got '{unknown[0]}'.{nearest(unknown[0], sorted(names))}"
        )
    return kind(**{name: value for name, value in given.items() if name != "model_type"})
