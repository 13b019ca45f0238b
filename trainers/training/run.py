"""The whole of one trial in this process: reset, build, train, evaluate, save."""

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed as dist
from torch import nn

from trainers import numerics as numerics_of
from trainers.files.fingerprints import of_model, of_modules, of_weights
from trainers.losses import DistillationLoss
from trainers.losses.own.load import import_from
from trainers.numerics import GlobalState
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.batches import collate
from trainers.tasks.causal_lm.data import DataFacts, Split, fingerprint
from trainers.tasks.causal_lm.evaluation import Evaluation, Evaluator
from trainers.teachers import cache_copy
from trainers.teachers.cached import CachedTeacher
from trainers.teachers.online import OnlineTeacher, SignalMaker
from trainers.training.checkpoints import Checkpoints
from trainers.training.loop import Ended, Loop, train
from trainers.training.student import StudentWithLoss
from trainers.trial.reporting import Outcome, Reporter, TrialResult
from trainers.trial.trial_file import TrialFile
from trainers.world import World

log = logging.getLogger(__name__)
Kept = TypeVar("Kept")
CHECKED_EXAMPLES = 2


@dataclass
class Shared:
    """What a slot keeps between trials: mapped data, tokenizer, teacher, the students' start; one
    of each kind. Made before the first trial: it also remembers the global state that each trial
    starts from."""

    globals: GlobalState = field(default_factory=GlobalState.capture)
    kept: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def get(self, kind: str, key: Any, make: Callable[[], Kept]) -> Kept:
        """Returns the thing of `kind` for `key`, made anew when the last one was for another
        key."""
        if kind not in self.kept or self.kept[kind][0] != key:
            self.kept.pop(kind, None)  # frees the old one before the new one is made
            self.kept[kind] = (key, make())
        value: Kept = self.kept[kind][1]
        return value


@dataclass(frozen=True)
class _Inputs:
    """A trial's data and surroundings, loaded."""

    facts: DataFacts
    tokenizer: Any
    train: Split
    validation: Split
    numerics: dict[str, Any]
    world: World


def run_trial(  # noqa: PLR0913 (a worker's place in its group is four facts)
    trial: TrialFile,
    output: Path,
    *,
    reporter: Reporter,
    rank: int = 0,
    local_rank: int = 0,
    process_group: dist.ProcessGroup | None = None,
    shared: Shared | None = None,
    checkpoint_every_s: float | None = None,
    checkpoints: str | None = None,
) -> TrialResult:
    """Trains `trial` and returns its result; every worker of the trial calls this with the same
    arguments but its own rank. Writes `output/student` (Hugging Face folder), `output/samples.json`
    and, while training, checkpoints, from which an interrupted trial is taken up: in
    `output/checkpoints`, or below the fsspec URL `checkpoints` under the trial's number. Bits
    depend on `trial` alone. Raises `ValueError` when inputs are missing or do not fit together."""
    shared = shared or Shared()
    shared.globals.restore()
    if trial.paths.own_modules is not None:
        import_from(Path(trial.paths.own_modules))
    world = _world(trial, rank, local_rank, process_group)
    numerics = trial.numerics or numerics_of.resolve(trial.device, trial.config.precision, 1)
    numerics_of.apply(numerics)
    numerics_of.seed_all(trial.config.seed, rank)
    inputs = _inputs(trial, shared, numerics, world)
    student = _student(trial, shared, inputs)
    teacher = _teacher(trial, shared, inputs)
    loop = Loop(
        config=trial.config,
        student=student,
        module=_wrapped(student, world),
        teacher=teacher,
        split=inputs.train,
        pad_token_id=inputs.facts.pad_token_id,
        world=world,
        reporter=reporter,
        evaluate=lambda loop: _evaluate(trial, output, inputs, loop),
        checkpoints=Checkpoints(
            f"{checkpoints}/{trial.trial}" if checkpoints else output / "checkpoints",
            reporter.notice if world.is_first else log.warning,
        ),
        checkpoint_every_s=checkpoint_every_s,
    )
    ended = train(loop)
    return _finish(ended, loop, inputs.tokenizer, output)


def check_fingerprints(trial: TrialFile) -> None:
    """Raises `ValueError` naming the first input (data, teacher, student, own modules) that is
    not what the trial was made with. Reads every weight and every example once, so it is for a
    trial that runs alone, not for each one of a sweep."""
    paths = trial.paths
    actual: dict[str, Callable[[], str]] = {
        "data": lambda: fingerprint(Path(paths.data)),
        "student": lambda: of_model(Path(paths.student)),
    }
    if paths.teacher is not None:
        teacher = Path(paths.teacher)
        actual["teacher"] = lambda: of_model(teacher)
    if paths.own_modules is not None:
        own = Path(paths.own_modules)
        actual["own_modules"] = lambda: of_modules(own)
    for name, expected in trial.fingerprints.items():
        found = actual[name]() if name in actual else expected
        if found != expected:
            raise ValueError(
                f"paths.{name}: it must hold what the trial was made with ({expected[:12]}…), "
                f"but got {found[:12]}… in {getattr(paths, name)}. Point it at the right folder."
            )


def _world(
    trial: TrialFile, rank: int, local_rank: int, process_group: dist.ProcessGroup | None
) -> World:
    size = 1 if process_group is None else dist.get_world_size(process_group)
    if size != trial.world_size:
        raise ValueError(
            f"the trial's world_size must be the number of workers, but got {trial.world_size} and "
            f"{size}. Start as many workers as trial.json says."
        )
    device = torch.device("cpu")
    if trial.device == "cuda":
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    return World(rank=rank, size=size, device=device, group=process_group)


def _inputs(trial: TrialFile, shared: Shared, numerics: dict[str, Any], world: World) -> _Inputs:
    folder = Path(trial.paths.data)
    facts, tokenizer, train_split, validation = shared.get(
        "data", str(folder), lambda: _open_data(folder)
    )
    return _Inputs(facts, tokenizer, train_split, validation, numerics, world)


def _open_data(folder: Path) -> tuple[DataFacts, Any, Split, Split]:
    from transformers import AutoTokenizer

    facts = DataFacts.read(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return facts, tokenizer, Split.open(folder, "train"), Split.open(folder, "validation")


def _student(trial: TrialFile, shared: Shared, inputs: _Inputs) -> StudentWithLoss:
    config, vocab_size = trial.config, inputs.facts.vocab_size
    path, attention = trial.paths.student, config.attention_implementation

    def load() -> Any:
        model = models.load(
            Path(path), attention=attention, dtype=torch.float32, trust=trial.trust_remote_code
        )
        models.check_head(model.to(inputs.world.device), _first_tokens(inputs), vocab_size)
        return model.cpu()  # a GPU has to hold only the one that is trained

    start = shared.get("student", (path, attention, vocab_size), load)
    model = copy.deepcopy(start).to(inputs.world.device)
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    loss = DistillationLoss(config, vocab_size).to(inputs.world.device)
    return StudentWithLoss(model, loss, vocab_size=vocab_size, numerics=inputs.numerics)


def _teacher(trial: TrialFile, shared: Shared, inputs: _Inputs) -> SignalMaker | None:
    path = trial.paths.teacher
    if path is None:
        return None
    device = inputs.world.device
    if trial.teacher_source != "online":
        return _cached_teacher(trial, shared, inputs)
    attention = trial.config.attention_implementation
    dtype = numerics_of.weights_dtype(inputs.numerics)

    def load() -> OnlineTeacher:
        model = models.load(
            Path(path), attention=attention, dtype=dtype, trust=trial.trust_remote_code
        )
        models.check_head(model.to(device), _first_tokens(inputs), inputs.facts.vocab_size)
        return OnlineTeacher(model, vocab_size=inputs.facts.vocab_size)

    return shared.get("teacher", (path, attention, dtype, str(device)), load)


def _cached_teacher(trial: TrialFile, shared: Shared, inputs: _Inputs) -> SignalMaker:
    """The teacher from its cache: its head stays in memory, its body is never loaded."""
    folder = trial.paths.teacher_cache
    if folder is None:
        raise ValueError(
            f"paths.teacher_cache: it must name a cache when teacher_source is "
            f"{trial.teacher_source}, but got none. Build one, or use teacher_source online."
        )
    device = inputs.world.device
    splits = {"train": inputs.train, "validation": inputs.validation}
    return shared.get(
        "teacher",
        (folder, trial.paths.data, str(device)),
        lambda: CachedTeacher(cache_copy.local(folder), splits, device),
    )


def _first_tokens(inputs: _Inputs) -> torch.Tensor:
    import numpy as np

    examples = np.arange(min(CHECKED_EXAMPLES, len(inputs.validation)))
    batch = collate(inputs.validation, examples, inputs.facts.pad_token_id)
    return batch.to(inputs.world.device).input_ids


def _evaluate(trial: TrialFile, output: Path, inputs: _Inputs, loop: Loop) -> Evaluation:
    """One evaluation; the newest answers lie in `output/samples.json`."""
    evaluator = Evaluator(
        config=trial.config,
        split=inputs.validation,
        facts=inputs.facts,
        tokenizer=inputs.tokenizer,
        teacher=loop.teacher,
        world=inputs.world,
        numerics=inputs.numerics,
    )
    evaluation = evaluator.evaluate(loop.student)
    if inputs.world.is_first and evaluation.samples:
        output.mkdir(parents=True, exist_ok=True)
        (output / "samples.json").write_text(json.dumps(evaluation.samples, indent=2) + "\n")
    return evaluation


def _wrapped(student: StudentWithLoss, world: World) -> nn.Module:
    if world.group is None:
        return student
    return nn.parallel.DistributedDataParallel(
        student, process_group=world.group, broadcast_buffers=False
    )


def _finish(ended: Ended, loop: Loop, tokenizer: Any, output: Path) -> TrialResult:
    progress = ended.progress
    folder: Path | None = None
    sha256: str | None = None
    if ended.outcome != Outcome.DIVERGED:
        folder = output / "student"
        sha256 = of_weights(loop.student.model.state_dict())
        if loop.world.is_first:
            loop.student.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            if not ended.outcome.is_resumable:
                loop.checkpoints.discard()
        loop.world.barrier()
    return TrialResult(
        outcome=ended.outcome,
        metrics=progress.metrics,
        steps=progress.step,
        train_s=progress.train_s,
        student=folder,
        weights_sha256=sha256,
    )
