"""Whether a plan's workers fit into memory: what is exact, what is guessed, and what would help."""

from typing import Any

import pytest

from service.errors import PlanError
from service.plan.estimates import InputFacts
from service.plan.memory import Memory
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.spec.parse import parse_spec
from service.words import GIB
from trainers.trial.facts import Activations

LAYERS = Activations(
    layers=4, per_position=1700, per_pair=8, drops_attention=False, layer_input=100, outside=0
)
KNOWN = InputFacts(
    num_train_examples=1000,
    num_train_tokens=50_000,
    vocab_size=1000,
    teacher_parameters=50_000_000,
    student_parameters=10_000_000,
    student_activations=LAYERS,
    teacher_activations=LAYERS,
    teacher_hidden_size=64,
    student_hidden_size=100,
)
DOCUMENT: dict[str, Any] = {
    "name": "memory",
    "teacher": {"model": "teacher"},
    "student": {"model": "student"},
    "data": {"train": "a", "validation": "b"},
    "training": {"batch_size": 16, "epochs": 1},
    "search": {"tau": {"float": [0.5, 8], "log": True}},
    "teacher_cache": {"mode": "online"},
    "trials": 10,
}
GPU = Resources(num_cpus=4, num_gpus=1, gpu_memory=80 * GIB)
WEIGHTS = 10_000_000 * 4


def plan(machine: Resources = GPU, *, facts: InputFacts = KNOWN, **fields: Any) -> SweepPlan:
    sections = {
        name: DOCUMENT.get(name, {}) | given if isinstance(given, dict) else given
        for name, given in fields.items()
    }
    return make_plan(parse_spec(DOCUMENT | sections), facts, machine, code_version="1")


def memory(machine: Resources = GPU, **fields: Any) -> Memory:
    found = plan(machine, **fields).memory
    assert found is not None
    return found


def test_what_weights_decide_is_known_to_the_byte() -> None:
    found = memory()
    assert (found.weights, found.gradients, found.optimizer) == (WEIGHTS, WEIGHTS, 2 * WEIGHTS)
    assert found.teacher == 50_000_000 * 2  # in bfloat16, as a GPU computes
    assert memory(training={"precision": "float32"}).teacher == 50_000_000 * 4
    half = KNOWN.model_copy(update={"teacher_dtype": "float16"})
    assert memory(training={"precision": "float32"}, facts=half).teacher == 50_000_000 * 2
    assert memory(training={"optimizer": "sgd"}).optimizer == WEIGHTS
    assert found.exact == 4 * WEIGHTS + 100_000_000
    # the output head is all that is left of a teacher that is read from its cache
    assert memory(teacher_cache={"mode": "required"}).teacher == 1000 * 64 * 4


def test_an_adapter_alone_has_gradients_and_moments() -> None:
    student = {"model": "student", "adapter": {"kind": "lora", "rank": 2}}
    facts = KNOWN.model_copy(update={"adapter_per_rank": 5000})
    found, whole = memory(student=student, facts=facts), memory()
    adapter = 2 * 5000 * 4
    # frozen in bfloat16, as a GPU computes, and the adapter in float32
    assert found.weights == WEIGHTS // 2 + adapter
    assert (found.gradients, found.optimizer) == (adapter, 2 * adapter)
    # no gradient of the head, and no cast of the weights
    assert (whole.logits or 0) - (found.logits or 0) == 1000 * 100 * 4
    assert (whole.activations or 0) - (found.activations or 0) == WEIGHTS // 2
    # on a CPU it is the start of the next trial, too
    on_cpu = memory(Resources(num_cpus=4, memory=64 * GIB), student=student, facts=facts)
    assert on_cpu.weights == WEIGHTS + adapter
    made = plan(student=student, facts=facts)
    assert made.estimate.checkpoint_bytes == adapter * 7 * made.num_trials


def test_a_sharded_adapter_has_its_part_of_what_is_frozen() -> None:
    student = {"model": "student", "adapter": {"kind": "lora", "rank": 2}}
    facts = KNOWN.model_copy(update={"adapter_per_rank": 5000, "student_activations": None})
    shared = {"workers_per_trial": 4, "sharding": "fsdp"}
    machine = Resources(num_cpus=4, num_gpus=4, gpu_memory=80 * GIB)
    found = memory(machine, student=student, facts=facts, resources=shared)
    whole = WEIGHTS // 2 + 2 * 5000 * 4
    assert (found.weights, found.gradients) == (whole // 4, 2 * 5000 * 4 // 4)


def test_of_searched_adapters_the_largest_counts() -> None:
    facts = KNOWN.model_copy(update={"adapter_per_rank": 5000})
    search = {
        "adapter_kind": {"choice": ["none", "lora"]},
        "adapter_rank": {"choice": [2, 8], "when": {"adapter_kind": "lora"}},
    }
    made = plan(facts=facts, search=search)
    assert made.memory is not None and made.memory.weights == WEIGHTS
    assert made.estimate.checkpoint_bytes == WEIGHTS * 7 * made.num_trials
    del search["adapter_kind"]
    search["adapter_rank"].pop("when")
    student = {"model": "student", "adapter": {}}
    made = plan(facts=facts, search=search, student=student, controls="none")
    assert made.memory is not None and made.memory.optimizer == 2 * 8 * 5000 * 4
    assert made.estimate.checkpoint_bytes == 8 * 5000 * 4 * 7 * made.num_trials


def test_on_a_cpu_trials_at_once_share_the_memory_and_keep_their_start() -> None:
    machine = Resources(num_cpus=4, memory=64 * GIB)
    found = memory(machine)
    assert found.available == 16 * GIB
    assert found.weights == 2 * WEIGHTS
    assert memory(machine, resources={"slots": 2}).available == 32 * GIB


def test_a_share_of_a_gpu_has_its_share_of_the_memory() -> None:
    assert memory(resources={"gpus_per_worker": 0.25}).available == 20 * GIB
    assert memory(resources={"gpu_memory_gib": 24}).available == 24 * GIB


FSDP = {"workers_per_trial": 2, "sharding": "fsdp"}
TEACHER, OF_HEAD = 50_000_000 * 2, 1000 * 64 * 2
# Its head, and two of its layers at a time.
ASKED = OF_HEAD + 2 * (TEACHER - OF_HEAD) // 4
GPUS = GPU.model_copy(update={"num_cpus": 8, "num_gpus": 8})


def test_of_a_sharded_student_a_worker_has_its_part_and_a_few_layers() -> None:
    found, replica = memory(GPUS, resources=FSDP), memory(GPUS, resources={"workers_per_trial": 2})
    assert (replica.weights, replica.gradients, replica.gathered) == (WEIGHTS, 2 * WEIGHTS, 0)
    assert (found.weights, found.gradients, found.optimizer) == (
        WEIGHTS // 2,
        WEIGHTS // 2,
        WEIGHTS,
    )
    head = 1000 * 100 * 4
    assert found.gathered == head + 3 * (WEIGHTS - head) // 4 + ASKED
    assert found.activations == replica.activations
    # of the teacher that they ask, too, which in a text of both has to be whole
    assert (replica.teacher, found.teacher) == (TEACHER, TEACHER // 2)
    cached = memory(GPUS, resources=FSDP, teacher_cache={"mode": "required"})
    assert (cached.teacher, cached.gathered) == (1000 * 64 * 4, found.gathered - ASKED)
    mixed = {"student_share": 1.0, "teacher_mix": 0.2}
    assert memory(GPUS, resources=FSDP, text=mixed).teacher == TEACHER
    on_cpus = memory(Resources(num_cpus=4, memory=64 * GIB), resources=FSDP)
    # and the start of the next trial, and its teacher, in float32
    assert on_cpus.weights == WEIGHTS + WEIGHTS // 2
    assert on_cpus.teacher == 2 * TEACHER + TEACHER


def test_a_sharded_student_is_whole_while_it_is_evaluated() -> None:
    parameters, many = 1_000_000_000, LAYERS.model_copy(update={"layers": 40})
    facts = KNOWN.model_copy(update={"student_parameters": parameters, "student_activations": many})
    resources = {"workers_per_trial": 8, "sharding": "fsdp"}
    found = plan(GPUS, facts=facts, resources=resources).memory
    assert found is not None
    assert found.weights == parameters * 4 // 8 + parameters * 4
    assert (found.gradients, found.activations, found.gathered) == (0, 0, ASKED)
    assert found.optimizer == 2 * parameters * 4 // 8


@pytest.mark.parametrize(
    ("resources", "remedy"),
    [
        ({}, "resources.sharding: fsdp, with workers_per_trial: 4"),
        ({"workers_per_trial": 4}, "resources.sharding: fsdp ("),
        ({"gpus_per_worker": 0.5}, None),
        ({"workers_per_trial": 4, "sharding": "fsdp"}, None),
    ],
)
def test_sharding_is_suggested_where_it_helps(
    resources: dict[str, Any], remedy: str | None
) -> None:
    facts = KNOWN.model_copy(update={"student_parameters": 1_000_000_000})
    tight = GPUS.model_copy(update={"gpu_memory": 12 * GIB})
    try:
        said = " ".join(plan(tight, facts=facts, resources=resources).warnings)
    except PlanError as error:
        said = str(error)
    assert ("resources.sharding" in said) == (remedy is not None)
    assert remedy is None or remedy in said


def activations(**training: Any) -> int:
    found = memory(training={"precision": "float32"} | training)
    assert found.activations is not None
    return found.activations


def test_activations_follow_batch_length_checkpointing_and_attention() -> None:
    positions = 16 * 512
    teacher = positions * 1700 * 4
    assert activations() == positions * 4 * 1700 * 4 + teacher
    assert activations(gradient_accumulation=4) == activations() // 4
    assert activations(batch_size=8) == activations() // 2
    recomputed = positions * (4 * 100 + 1700) * 4
    assert activations(gradient_checkpointing=True) == recomputed + teacher
    written_out = positions * (1700 + 8 * 512) * 4
    assert activations(attention_implementation="eager") == 5 * written_out


def test_a_soft_prompt_keeps_what_the_teachers_layers_need() -> None:
    deep = LAYERS.model_copy(update={"layers": 40})
    facts, single = KNOWN.model_copy(update={"teacher_activations": deep}), {"precision": "float32"}
    found = memory(facts=facts, training=single, text={"soft_prompt_tokens": 8}, controls="none")
    # the longest examples behind the prompt, in all layers; the student's come after
    assert found.activations == 16 * (512 + 8) * 40 * 1700 * 4
    shallow = memory(training=single, text={"soft_prompt_tokens": 8}, controls="none")
    assert shallow.activations == activations()
    tight = GPU.model_copy(update={"gpu_memory": 2 * GIB})
    told = memory(tight, facts=facts, training=single, text={"soft_prompt_tokens": 8})
    assert told.remedies and not any("teacher_cache" in remedy for remedy in told.remedies)


def test_of_searched_settings_the_largest_counts() -> None:
    search = DOCUMENT["search"] | {"gradient_accumulation": {"choice": [2, 4]}}
    assert memory(search=search).activations == memory().activations  # a control's, without parts
    without = memory(search=search, controls="none").activations
    assert without == memory(training={"gradient_accumulation": 2}).activations


def test_a_sweep_that_cannot_fit_is_refused_with_what_would_help() -> None:
    small = Resources(num_cpus=1, num_gpus=1, gpu_memory=256 << 20)
    wanted = r"at most the 256 MiB that a GPU has for it, but needs .*weights .*use a smaller"
    with pytest.raises(PlanError, match=f"(?is)^resources: a worker's memory must be {wanted}"):
        plan(small)


def test_a_sweep_that_may_not_fit_is_warned_of_with_what_would_help() -> None:
    found = memory()
    tight = Resources(num_cpus=1, num_gpus=2, gpu_memory=found.total - (64 << 20))
    made = plan(tight)
    (warning,) = [text for text in made.warnings if text.startswith("resources:")]
    assert "but may need" in warning
    for remedy in (
        "teacher_cache.mode: required",
        "training.gradient_accumulation: 2",
        "training.gradient_checkpointing: true",
        "training.batch_size: 8",
    ):
        assert remedy in warning
    assert "resources.slots" not in warning  # each GPU has one trial
    checkpointed = {"training": {"gradient_checkpointing": True}}
    assert not [t for t in plan(tight, **checkpointed).warnings if t.startswith("resources:")]


def test_on_a_cpu_fewer_trials_at_once_help() -> None:
    need = memory(Resources(num_cpus=4, memory=64 * GIB)).total
    with_three = plan(Resources(num_cpus=4, memory=3 * need + (1 << 20)))
    (warning,) = [text for text in with_three.warnings if text.startswith("resources:")]
    assert "resources.slots: 3" in warning


def test_what_is_not_known_is_neither_refused_nor_warned_of() -> None:
    assert plan(facts=InputFacts()).memory is None
    unknown = KNOWN.model_copy(update={"student_activations": None})
    assert plan(facts=unknown).memory.activations is None  # type: ignore[union-attr]
    assert memory(Resources(num_cpus=4)).available is None


def test_images_keep_what_was_counted_and_no_chunks() -> None:
    made = parse_spec(
        {
            "name": "images",
            "task": "image_classification",
            "teacher": {"model": "teacher"},
            "student": {"model": "student"},
            "data": {"train": "a", "validation": "b"},
            "training": {"batch_size": 64, "epochs": 1, "precision": "float32"},
            "search": {"tau": {"float": [1, 4]}},
        }
    )
    counted = Activations(layers=1, per_position=5000)
    facts = InputFacts(
        vocab_size=10, student_parameters=1000, student_activations=counted, num_train_examples=9
    )
    found = make_plan(made, facts, Resources(num_cpus=1), code_version="1").memory
    assert found is not None
    assert (found.activations, found.logits, found.teacher) == (64 * 5000 * 4, 0, 0)
