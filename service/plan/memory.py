"""What a worker of the sweep holds in its device's memory at once, and whether that fits. Pure.

What the weights decide (themselves, gradients, the optimiser's state, a teacher beside them) is
known to the byte; what examples leave behind in the layers, and what the loss makes of them, is a
guess, held against real trials in `tests/benchmarks/large`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from service.errors import PlanError
from service.plan.estimates import InputFacts
from service.plan.memory_settings import CHANGES, WRITTEN_OUT, Setting
from service.plan.resources import Resources
from service.plan.teacher_choice import TeacherChoice
from service.plan.work import student_parameters, teacher_parameters, trained_parameters
from service.spec.document import SweepSpec
from service.words import GIB, size
from trainers.tasks import table
from trainers.teachers.cache import BYTES
from trainers.trial.config import TrialConfig
from trainers.trial.facts import Activations
from trainers.trial.fields import Optimizer
from trainers.trial.seen import Seen
from trainers.trial.sharding import Sharding
from trainers.trial.sources import Role
from trainers.trial.strict import Strict

FLOAT32, BFLOAT16 = BYTES["float32"], BYTES["bfloat16"]
# Numbers a weight that an optimiser keeps.
MOMENTS = {Optimizer.ADAMW: 2, Optimizer.SGD: 1}
# Bytes of an activation under autocast: products are in bfloat16, norms and sums in float32.
AUTOCAST = 2.6
# Rows and logits of a chunk of the fused loss, and numbers that are computed from a part of it.
CHUNK_ROWS, CHUNK_LOGITS = 128, {"cpu": 1 << 25, "gpu": 1 << 26}
BLOCK_NUMBERS = {"cpu": 1 << 23, "gpu": 1 << 27}
# Interpreter and libraries of a worker; of a GPU, the driver's context and what its libraries hold.
PROCESS = {"cpu": 700 << 20, "gpu": 600 << 20}

EXACT = ("weights", "gradients", "optimizer", "teacher")
GUESSED = ("activations", "logits", "gathered", "process")
# Layers of a sharded student that a worker has whole at a time: the one that computes, the next
# one, and the gradients of one.
LAYERS_GATHERED = 3
# The same of a teacher, which has no gradients.
LAYERS_ASKED = 2


class Memory(Strict):
    """Bytes that one worker holds at most in the memory of its device; null: not known yet. Of
    several settings that trials may have, those that take the most."""

    device: Literal["cpu", "gpu"]
    weights: int = Field(
        description="of the student; on a CPU also as it starts; of a sharded one the worker's "
        "part, and while it is evaluated also the whole. Exact"
    )
    gradients: int = Field(
        description="with several workers also those exchanged, of a sharded student the worker's "
        "part. Exact"
    )
    optimizer: int = Field(description="its state. Exact")
    teacher: int | None = Field(
        description="its weights, or of a cache its output head; of a sharded one the worker's "
        "part, on a CPU beside the whole. Exact"
    )
    activations: int | None = Field(description="of the longest examples. A guess")
    activations_at_least: int = Field(default=0, description="of examples of mean length. A guess")
    logits: int | None = Field(description="of a chunk, and the output head's gradient. A guess")
    gathered: int = Field(
        default=0, description="of sharded models what a worker has whole for a moment. A guess"
    )
    process: int = Field(description="interpreter and libraries. A guess")
    available: int | None = Field(default=None, description="to one worker")
    remedies: tuple[str, ...] = Field(default=(), description="what would make it fit")

    @property
    def exact(self) -> int:
        """What is known to the byte."""
        return self.weights + self.gradients + self.optimizer + (self.teacher or 0)

    @property
    def least(self) -> int:
        """What it certainly takes, in bytes."""
        return self.exact + self.activations_at_least

    @property
    def total(self) -> int:
        """About what it takes, in bytes."""
        guessed = (self.activations or 0) + (self.logits or 0) + self.gathered + self.process
        return self.exact + guessed

    @property
    def fits(self) -> bool:
        """Whether all of it is available, as far as both are known."""
        return self.available is None or self.total <= self.available


def plan_memory(
    spec: SweepSpec,
    facts: InputFacts,
    cluster: Resources,
    *,
    slots: int,
    gpus: float,
    teacher: TeacherChoice,
) -> Memory | None:
    """Returns what a worker holds, None while the student's size is not known. Raises `PlanError`
    where it certainly exceeds what the device has, and says what would make it fit."""
    # Beside a cache, a reason says why some trials ask the teacher all the same.
    is_cached = teacher.dtype is not None and not teacher.reason
    workers = spec.resources.workers_per_trial
    is_sharded = spec.resources.sharding == Sharding.FSDP
    settings = [
        Setting(config, workers, slots, gpus, is_cached, is_sharded) for config in _configs(spec)
    ]
    model = _Model(spec, facts, cluster)
    needs = [(model.need(setting), setting) for setting in settings]
    known = [(need, setting) for need, setting in needs if need is not None]
    if not known:
        return None
    most, setting = max(known, key=lambda each: each[0].total)
    if most.fits:
        return most
    most = most.model_copy(update={"remedies": tuple(model.remedies(setting))})
    if most.available is not None and most.least > most.available:
        raise PlanError(f"resources: {explain(most)}")
    return most


def explain(memory: Memory) -> str:
    """Returns a sentence on what does not fit, or may not, and what would."""
    assert memory.available is not None
    certain = memory.least > memory.available
    what = "a GPU" if memory.device == "gpu" else "the machine"
    needed = memory.least if certain else memory.total
    values = {name: getattr(memory, name) for name in (*EXACT, *GUESSED)}
    parts = ", ".join(f"{name} {size(value)}" for name, value in values.items() if value)
    remedy = "Use a smaller student."
    if memory.remedies:
        remedy = f"It would fit with {', or '.join(memory.remedies)}."
    return (
        f"a worker's memory must be at most the {size(memory.available)} that {what} has for it, "
        f"but {'needs' if certain else 'may need'} {size(needed)} ({parts}). {remedy}"
    )


def _configs(spec: SweepSpec) -> list[TrialConfig]:
    """Returns trials that differ in what decides memory."""
    names = (
        "batch_size",
        "gradient_accumulation",
        "optimizer",
        "precision",
        "gradient_checkpointing",
        "attention_implementation",
        "adapter_rank",
        "soft_prompt_tokens",
        "teacher_mix",
    )
    configs = []
    if any(name in spec.varied_names() for name in names):
        configs = [spec.trial_config(values) for values in spec.points()]
    if not configs or spec.controls != "none":
        configs.append(spec.budget())
    return list({tuple(getattr(each, name) for name in names): each for each in configs}.values())


@dataclass(frozen=True)
class _Model:
    """Teacher and student as far as they are known, and the machine."""

    spec: SweepSpec
    facts: InputFacts
    cluster: Resources

    def need(self, setting: Setting) -> Memory | None:
        """Returns what a worker with that setting holds."""
        student = student_parameters(self.spec, self.facts)
        if student is None:
            return None
        device: Literal["cpu", "gpu"] = "gpu" if setting.gpus else "cpu"
        # On a CPU the start of the next trial is kept beside the student that is trained.
        copies = 1 if device == "gpu" else 2
        weights = trained = student * FLOAT32
        beside = weights * (copies - 1)
        if setting.config.adapter_rank is not None:
            trained = self._adapter(setting)
            frozen = student * self._bytes_of_student(setting)
            weights = frozen + trained
            # Trials share what is frozen; of a sharded one they share the whole beside the parts.
            beside = frozen if copies > 1 and setting.is_sharded else 0
        kept, at_least = self._activations(setting)
        known = Memory(
            device=device,
            weights=weights + beside,
            gradients=trained * (1 if setting.workers == 1 else 2),
            optimizer=trained * MOMENTS[setting.config.optimizer],
            teacher=self._teacher(setting),
            activations=kept,
            activations_at_least=at_least,
            logits=self._logits(setting, device),
            process=PROCESS[device],
            available=self._available(setting, device),
        )
        if not setting.is_sharded:
            return known
        return self._sharded(known, setting, weights=weights, trained=trained)

    def remedies(self, setting: Setting) -> Iterator[str]:
        """Yields each change that alone makes it fit."""
        for name, tries in CHANGES.items():
            for text, changed in tries(setting):
                need = self.need(changed)
                if need is not None and need.fits:
                    yield f"{name}: {text} ({size(need.total)})"
                    break

    def _sharded(self, each: Memory, setting: Setting, *, weights: int, trained: int) -> Memory:
        """Returns what one of several workers holds of what `each` would hold of the whole: in a
        step or, if that is more, while the student is evaluated."""

        def part(of: int) -> int:
            return -(-of // setting.workers)

        own = each.weights - weights + part(weights)
        teacher, asking = each.teacher, 0
        if setting.shares_teacher and teacher is not None:
            asking = self._gathered(teacher, "teacher")
            # On a CPU the whole stays there for the next trial.
            teacher = part(teacher) + (teacher if each.device == "cpu" else 0)
        shared = {"weights": own, "optimizer": part(each.optimizer), "teacher": teacher}
        gathered = self._gathered(weights, "student") + asking
        step = {"gradients": part(trained), "gathered": gathered}
        # There are neither gradients nor activations then, but the whole student for each worker.
        nothing = {"gradients": 0, "activations": 0, "activations_at_least": 0, "gathered": asking}
        moments = (shared | step, shared | nothing | {"weights": own + weights})
        return max((each.model_copy(update=m) for m in moments), key=lambda found: found.total)

    def _gathered(self, whole: int, role: Role) -> int:
        """Returns bytes of the output head and of some layers of a model that takes `whole`; the
        head's gradient is `_logits`."""
        facts = self.facts
        num, width, layers, at_once = {
            "student": (
                student_parameters(self.spec, facts),
                facts.student_hidden_size,
                facts.student_activations,
                LAYERS_GATHERED,
            ),
            "teacher": (
                teacher_parameters(self.spec, facts),
                facts.teacher_hidden_size,
                facts.teacher_activations,
                LAYERS_ASKED,
            ),
        }[role]
        has_head = table.task_named(self.spec.task).has_output_matrix
        if layers is None or not num or not has_head:  # a classifier is gathered in one piece
            return whole
        head = (facts.vocab_size or 0) * (width or 0) * whole // num
        return min(whole, head + at_once * max(0, whole - head) // layers.layers)

    def _adapter(self, setting: Setting) -> int:
        """Returns the bytes of an adapter, which is in float32."""
        return (trained_parameters(self.spec, self.facts, setting.config) or 0) * FLOAT32

    def _bytes_of_student(self, setting: Setting) -> int:
        """Returns the bytes of one of its weights; frozen ones are kept as a teacher's are."""
        is_frozen = setting.config.adapter_rank is not None
        return BFLOAT16 if is_frozen and setting.is_half else FLOAT32

    def _teacher(self, setting: Setting) -> int | None:
        if setting.is_cached:
            rows, width = self.facts.vocab_size, self.facts.teacher_hidden_size
            if not table.task_named(self.spec.task).has_output_matrix:
                return 0
            if self.spec.teacher_cache.top_k is not None:
                width = 1
            return None if rows is None or width is None else rows * width * FLOAT32
        teacher = teacher_parameters(self.spec, self.facts)
        own = self.facts.teacher_dtype or ("bfloat16" if setting.is_half else "float32")
        return None if teacher is None else teacher * BYTES[own]

    def _activations(self, setting: Setting) -> tuple[int | None, int]:
        """Returns bytes of a micro-batch of the longest examples, and of such as the mean."""
        student, teacher = self.facts.student_activations, self.facts.teacher_activations
        if student is None:
            return None, 0
        config = setting.config
        longest = table.task_named(self.spec.task).longest_example(config)
        mean = longest
        if longest > 1 and self.facts.num_train_tokens and self.facts.num_train_examples:
            mean = min(longest, self.facts.num_train_tokens // self.facts.num_train_examples)

        def of(length: int) -> int:
            positions = setting.micro_batch * length * Seen.by(config).num_rows
            kept = positions * student.numbers(
                length,
                has_pairs=setting.has_pairs(drops=student.drops_attention),
                is_recomputed=config.gradient_checkpointing,
            )
            passing = prompted = 0.0
            if teacher is not None and not setting.is_cached:
                has_pairs = config.attention_implementation == WRITTEN_OUT
                passing = positions * teacher.layer(length, has_pairs=has_pairs)
                if config.soft_prompt_tokens:
                    prompted = _prompted(setting, teacher, length + config.soft_prompt_tokens)
            half = setting.is_half
            # Under autocast the weights are there in bfloat16 too, until the backward pass.
            is_cast = half and self._bytes_of_student(setting) == FLOAT32
            copies = BFLOAT16 * (student_parameters(self.spec, self.facts) or 0) if is_cast else 0
            of_student = kept * (AUTOCAST if half else FLOAT32) + copies + passing * FLOAT32
            # the prompt's step ends before the student's begins
            return round(max(of_student, prompted))

        return of(longest), of(mean) // 2

    def _logits(self, setting: Setting, device: str) -> int | None:
        """Returns bytes of a chunk's logits of both models, of what is computed from them, and of
        the output head's gradient where it has one, which is added to that of the embedding."""
        rows, width = self.facts.vocab_size, self.facts.student_hidden_size
        if rows is None or not table.task_named(self.spec.task).has_output_matrix:
            return 0
        longest = table.task_named(self.spec.task).longest_example(setting.config)
        positions = setting.micro_batch * longest
        chunk = min(positions, max(CHUNK_ROWS, CHUNK_LOGITS[device] // rows)) * rows
        number = BFLOAT16 if setting.is_half else FLOAT32
        beside = min(chunk, BLOCK_NUMBERS[device]) * FLOAT32
        is_trained = setting.config.adapter_rank is None  # which a head beside an adapter is not
        gradient = rows * (width or 0) * FLOAT32 if is_trained else 0
        return 2 * chunk * number + beside + gradient

    def _available(self, setting: Setting, device: str) -> int | None:
        if device == "gpu":
            asked = self.spec.resources.gpu_memory_gib
            found = self.cluster.gpu_memory if asked is None else int(asked * GIB)
            return None if found is None else int(found * min(1.0, setting.gpus))
        found = self.cluster.memory
        return None if found is None else found // (setting.slots * setting.workers)


def _prompted(setting: Setting, teacher: Activations, length: int) -> float:
    """Returns bytes of what the teacher keeps of a micro-batch of such examples behind a soft
    prompt, which learns by a backward pass through it; it is in its compute dtype throughout."""
    has_pairs = setting.config.attention_implementation == WRITTEN_OUT
    numbers = teacher.numbers(length, has_pairs=has_pairs, is_recomputed=False)
    return setting.micro_batch * length * numbers * (BFLOAT16 if setting.is_half else FLOAT32)
