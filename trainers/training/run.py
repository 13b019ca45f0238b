"""One complete trial in this process: reset, build, train, evaluate, save."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from trainers import numerics as numerics_of
from trainers.batch_source import BatchSource, WritesText
from trainers.files.columns import write_columns
from trainers.files.fingerprints import of_model, of_modules, of_recorded_model, of_weights
from trainers.losses.own.load import import_from
from trainers.parts import Evaluator, Network, SignalMaker
from trainers.students.folders import write_base
from trainers.tasks import table
from trainers.teachers import cache_copy
from trainers.teachers.cached import CachedTeacher
from trainers.teachers.online import OnlineTeacher
from trainers.teachers.prompted import PromptedTeacher, TakesPrompts
from trainers.training.checkpoints import Checkpoints
from trainers.training.diagnostics import Diagnostics, Probe
from trainers.training.feed import Feed
from trainers.training.loop import Loop, TrainingEnd, train
from trainers.training.shares import Shares
from trainers.training.soft_prompt import PromptTraining
from trainers.training.start import Inputs, KeptBetweenTrials, make_student, open_inputs
from trainers.training.wrapping import Wrapped, wrapped
from trainers.training.written import WritingSource
from trainers.trial.adapters import adapter_of
from trainers.trial.budget import evaluation_steps, num_steps_of, smallest_micro_batch
from trainers.trial.probe import plan_probe, work_of
from trainers.trial.reporting import EXAMPLES, SAMPLES, Evaluation, Outcome, Reporter, TrialResult
from trainers.trial.seen import Seen
from trainers.trial.sharding import Sharding
from trainers.trial.trial_file import TrialFile
from trainers.world import World, check_device

log = logging.getLogger(__name__)


def run_trial(  # noqa: PLR0913 (a worker's place in its group is four facts)
    trial: TrialFile,
    output: Path,
    *,
    reporter: Reporter,
    rank: int = 0,
    local_rank: int = 0,
    process_group: dist.ProcessGroup | None = None,
    kept: KeptBetweenTrials | None = None,
    checkpoint_every_s: float | None = None,
    checkpoints: str | None = None,
) -> TrialResult:
    """Trains `trial` and returns its result; every worker of the trial calls this with the same
    arguments but its own rank. Writes `output/student` (Hugging Face folder), answers and scores
    of examples (`write_evaluation`), diagnostics and, while training, checkpoints, from which an
    interrupted trial resumes: in `output/checkpoints`, or below the fsspec URL `checkpoints` under
    the trial's number. The result's bits depend on `trial` alone. Raises `ValueError` when inputs
    are missing or do not fit together."""
    kept = kept or KeptBetweenTrials()
    # First of all: what the trial before left changed in this process must not reach this one.
    kept.globals.restore()
    if trial.paths.own_modules is not None:
        import_from(Path(trial.paths.own_modules))
    world = _world(trial, rank, local_rank, process_group)
    numerics = numerics_of.completed(trial.numerics, trial.device, trial.config.precision)
    numerics_of.apply(numerics)
    # By rank too, so that workers drop different activations; the data's order knows only the seed.
    numerics_of.seed_all(trial.config.seed, rank)
    inputs = open_inputs(trial, kept, numerics, world)
    student = make_student(trial, kept, _where_it_is_made(trial, inputs))
    teacher = _teacher(trial, kept, inputs)
    _check_smallest_batch(trial, inputs, student.model)
    evaluator = inputs.runtime.evaluator(
        trial.config, inputs.data, teacher=teacher, world=world, numerics=numerics
    )
    shared = wrapped(student, trial.sharding, world)
    soft_prompt = _soft_prompt(trial, inputs, shared, teacher)
    loop = Loop(
        config=trial.config,
        student=student,
        wrapped=shared,
        # what is learned from; evaluations and diagnostics ask the teacher as it is
        teacher=teacher if soft_prompt is None else soft_prompt.teacher,
        source=_source(trial, inputs, shared, teacher),
        num_steps=num_steps_of(trial.config, inputs.data.splits["train"].examples_per_epoch),
        world=world,
        reporter=reporter,
        evaluate=partial(_evaluate, evaluator, shared, output, world),
        checkpoints=Checkpoints(
            f"{checkpoints}/{trial.trial}" if checkpoints else output / "checkpoints",
            reporter.notice if world.is_first else log.warning,
        ),
        checkpoint_every_s=checkpoint_every_s,
        soft_prompt=soft_prompt,
    )
    loop = replace(loop, diagnostics=_diagnostics(loop, teacher, inputs, output))
    return _finish(train(loop), loop, inputs, _Result(trial, output))


def check_fingerprints(trial: TrialFile) -> None:
    """Raises `ValueError` naming the first input (data, teacher, student, own modules) that is
    not what the trial was made with. Reads every weight and every example once, so it is for a
    trial that runs alone, not for each one of a sweep."""
    paths = trial.paths
    runtime = table.task_named(trial.config.task).runtime()
    actual: dict[str, Callable[[str], str]] = {
        "data": lambda _: runtime.fingerprint(Path(paths.data)),
        "student": partial(of_recorded_model, Path(paths.student)),
    }
    if paths.teacher is not None:
        actual["teacher"] = partial(of_recorded_model, Path(paths.teacher))
    if paths.own_modules is not None:
        own = Path(paths.own_modules)
        actual["own_modules"] = lambda _: of_modules(own)
    for name, expected in trial.fingerprints.items():
        found = actual[name](expected) if name in actual else expected
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
    check_device(trial.device)
    device = torch.device("cpu")
    if trial.device == "cuda":
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    return World(rank=rank, size=size, device=device, group=process_group)


def _where_it_is_made(trial: TrialFile, inputs: Inputs) -> Inputs:
    """A student that is sharded goes from the CPU to the device layer by layer: there the whole
    need not fit."""
    return replace(inputs, world=World()) if trial.sharding == Sharding.FSDP else inputs


def _check_smallest_batch(trial: TrialFile, inputs: Inputs, model: Any) -> None:
    num_examples = inputs.data.splits["train"].examples_per_epoch
    smallest = smallest_micro_batch(trial.config, num_examples, inputs.world.size)
    inputs.runtime.check_smallest_batch(model, inputs.data, smallest)


def _source(
    trial: TrialFile, inputs: Inputs, shared: Wrapped, teacher: SignalMaker | None
) -> BatchSource:
    feed, config = _feed(trial, inputs, teacher), trial.config
    if config.student_share == 0:
        return feed
    # the config was refused for any other task
    assert isinstance(inputs.runtime, WritesText)
    writer = inputs.runtime.writer(
        config,
        inputs.data,
        student=shared.whole,  # bare: its wrapper would wait for workers that write other text
        teacher=teacher.network if isinstance(teacher, OnlineTeacher) else None,
        numerics=inputs.numerics,
    )
    num_steps = num_steps_of(config, feed.split.examples_per_epoch)
    shares = Shares(config, config.seed, num_steps)
    return WritingSource(feed, writer, shares, shared.gathered)


def _feed(trial: TrialFile, inputs: Inputs, teacher: SignalMaker | None) -> Feed:
    split = inputs.data.splits["train"]
    return Feed(
        split=split,
        order=split.order(batch_size=trial.config.batch_size, seed=trial.config.seed),
        world=inputs.world,
        parts=trial.config.gradient_accumulation,
        teacher=teacher,
    )


def _teacher(trial: TrialFile, kept: KeptBetweenTrials, inputs: Inputs) -> SignalMaker | None:
    path = trial.paths.teacher
    if path is None:
        return None
    if trial.teacher_source != "online":
        return _cached_teacher(trial, kept, inputs)
    # One that writes a share of each token is asked about unlike texts by each worker, and a soft
    # prompt learns through its layers.
    has_to_be_whole = trial.config.teacher_mix or trial.config.soft_prompt_tokens
    if trial.sharding == Sharding.FSDP and not has_to_be_whole:
        return _sharded_teacher(trial, kept, inputs)
    network = _teacher_network(trial, kept, inputs)
    return OnlineTeacher(network)


def _teacher_network(trial: TrialFile, kept: KeptBetweenTrials, inputs: Inputs) -> Network:
    """The teacher on its device, which stays there for the next trial."""
    assert trial.paths.teacher is not None
    runtime, device, folder = inputs.runtime, inputs.world.device, Path(trial.paths.teacher)
    attention = trial.config.attention_implementation
    dtype = numerics_of.weights_dtype(inputs.numerics, trial.teacher_dtype)

    def load() -> Network:
        model = runtime.load_model(
            folder, device, attention=attention, dtype=dtype, trust=trial.trusts("teacher")
        )
        runtime.check_model(model, inputs.data)
        return runtime.network(model, inputs.data.num_classes)

    return kept.get("teacher", (str(folder), attention, dtype, str(device)), load)


def _sharded_teacher(trial: TrialFile, kept: KeptBetweenTrials, inputs: Inputs) -> SignalMaker:
    """The teacher in parts; the whole of it stays in the CPU's memory for the next trial."""
    from trainers.students.sharing import sharing_weights
    from trainers.training.sharded_teacher import ShardedTeacher

    whole = _teacher_network(trial, kept, replace(inputs, world=World()))
    network = inputs.runtime.network(sharing_weights(whole.model), inputs.data.num_classes)
    some = inputs.data.splits["validation"].collate(np.arange(1)).to(inputs.world.device)
    return ShardedTeacher(network, inputs.world, some)


def _cached_teacher(trial: TrialFile, kept: KeptBetweenTrials, inputs: Inputs) -> SignalMaker:
    """The teacher from its cache: its head stays in memory, its body is never loaded."""
    folder = trial.paths.teacher_cache
    why_not = table.task_named(trial.config.task).why_not_cached(trial.config)
    if why_not:
        raise ValueError(
            f"teacher_source: it must be online where {why_not}, but got "
            f"{trial.teacher_source}. Use teacher_source online."
        )
    if folder is None:
        raise ValueError(
            f"paths.teacher_cache: it must name a cache when teacher_source is "
            f"{trial.teacher_source}, but got none. Build one, or use teacher_source online."
        )
    device = inputs.world.device
    return kept.get(
        "teacher",
        (folder, trial.paths.data, Seen.by(trial.config), str(device)),
        lambda: CachedTeacher(cache_copy.local(folder), inputs.data.splits, device),
    )


def _soft_prompt(
    trial: TrialFile, inputs: Inputs, shared: Wrapped, teacher: SignalMaker | None
) -> PromptTraining | None:
    """What trains the soft prompt that the teacher reads; None where it reads none."""
    config = trial.config
    if config.soft_prompt_tokens == 0:
        return None
    if not isinstance(teacher, OnlineTeacher):
        raise ValueError(
            "paths.teacher: it must name a teacher to read the soft prompt, but got none with "
            f"soft_prompt_tokens={config.soft_prompt_tokens}. Name one, or use "
            "soft_prompt_tokens: 0."
        )
    # the config was refused for any other task
    assert isinstance(inputs.runtime, TakesPrompts)
    network = inputs.runtime.behind_prompt(config, inputs.data, teacher=teacher.network)
    prompted = PromptedTeacher(teacher, network)
    return PromptTraining(prompted, shared, config, world=inputs.world, numerics=inputs.numerics)


def _diagnostics(
    loop: Loop, teacher: SignalMaker | None, inputs: Inputs, output: Path
) -> Diagnostics | None:
    """What looks at the trial's loss; None where there is none to look at, too little time for it,
    or on all workers but the first."""
    if teacher is None or not loop.world.is_first:
        return None
    config, splits = loop.config, inputs.data.splits
    steps = evaluation_steps(loop.num_steps, config.evaluations)
    work = work_of(
        trained=loop.num_steps * config.batch_size * float(splits["train"].num_learned.mean()),
        evaluated=len(steps) * int(splits["validation"].num_learned.sum()),
    )
    plan = plan_probe(
        config.diagnostics_share,
        num_steps=loop.num_steps,
        work=work / loop.world.size,  # the workers share the steps, and one of them looks
        vocab_size=inputs.data.num_classes,
    )
    if plan is None:
        return None
    probe = Probe(
        student=loop.wrapped.whole,
        teacher=teacher,
        split=splits["validation"],
        num_positions=plan.num_positions,
        device=loop.world.device,
        numerics=inputs.numerics,
    )
    return Diagnostics(
        plan=plan,
        probe=probe,
        num_steps=loop.num_steps,
        share=config.diagnostics_share,
        reporter=loop.reporter,
        output=output,
    )


def _evaluate(
    evaluator: Evaluator,
    shared: Wrapped,
    output: Path,
    world: World,
    before: Mapping[str, float],
) -> Evaluation:
    """One evaluation; its samples and the scores of its examples replace those of the last one."""
    # Each worker's batch norms have seen other examples. The first one's statistics are those that
    # are saved, so every worker's part of the validation split has to be scored with them.
    with shared.gathered():
        world.share(shared.whole.model.buffers())
        evaluation = evaluator.evaluate(shared.whole, before)
    if world.is_first:
        output.mkdir(parents=True, exist_ok=True)
        write_evaluation(evaluation, output)
    return evaluation


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Writes what there is beside an evaluation's metrics into `folder`: `SAMPLES`, `EXAMPLES`."""
    if evaluation.samples:
        (folder / SAMPLES).write_text(json.dumps(evaluation.samples, indent=2) + "\n")
    if evaluation.by_example:
        write_columns(folder / EXAMPLES, evaluation.by_example)


@dataclass(frozen=True)
class _Result:
    """What a trial leaves: its student, in a folder below `output`."""

    trial: TrialFile
    output: Path

    @property
    def student(self) -> Path:
        return self.output / "student"

    def weights_of(self, model: Any) -> dict[str, Tensor]:
        """The weights that the trial decided: of an adapter alone, where it trained one."""
        if adapter_of(self.trial.config) is None:
            return dict(model.state_dict())
        return dict(model.get_adapter_state_dict())

    def save(self, model: Any, inputs: Inputs) -> None:
        inputs.runtime.save(model, inputs.data, self.student)
        if adapter_of(self.trial.config) is None:
            return
        base = Path(self.trial.paths.student)
        fingerprint = self.trial.fingerprints.get("student") or of_model(base)
        architecture = type(model).__name__
        write_base(self.student, base, fingerprint=fingerprint, architecture=architecture)


def _finish(end: TrainingEnd, loop: Loop, inputs: Inputs, result: _Result) -> TrialResult:
    progress = end.progress
    folder: Path | None = None
    sha256: str | None = None
    # A trial that left early has a student too: its last metrics count, and it may be exported.
    if end.outcome != Outcome.DIVERGED:
        folder = result.student
        model = loop.wrapped.whole.model
        with loop.wrapped.gathered():
            sha256 = of_weights(result.weights_of(model))
            if loop.world.is_first:
                result.save(model, inputs)
        if loop.world.is_first and not end.outcome.is_resumable:
            loop.checkpoints.discard()
        # no worker returns before the student is on the disk
        loop.world.barrier()
    return TrialResult(
        outcome=end.outcome,
        metrics=progress.metrics,
        steps=progress.step,
        train_s=progress.train_s,
        student=folder,
        weights_sha256=sha256,
    )
