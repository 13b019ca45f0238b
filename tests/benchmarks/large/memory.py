"""What a plan says that a worker's memory takes, beside what real trials take.

python tests/benchmarks/large/memory.py

Each row is a trial of two steps in a fresh process on a CPU, over random weights and tokens, since
shapes alone decide. Measured: the resident peak of the process; of the activations, what is left of
it without what the plan knows exactly, the logits, and the process itself. That is taken from the
first row, on both sides: a slot's process has Ray, too. Bound: how far the complete plan may be
off, either way.
"""

import multiprocessing
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
import stage as stages

from service.plan.estimates import InputFacts
from service.plan.memory import Memory, plan_memory
from service.plan.resources import Resources
from service.plan.teacher_choice import TeacherChoice
from service.spec.parse import parse_spec
from trainers.students.targets import numbers_per_rank, target_names
from trainers.tasks.causal_lm import activations

MIB = 1 << 20
# Few entries, so that layers are what shows.
stages.VOCAB_SIZE = 2048
BOUND = 1.25
GPT2 = {"model_type": "gpt2", "n_layer": 6, "n_embd": 128, "n_head": 4, "n_positions": 1024}
NO_DROPOUT = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 6,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 352,
}
OPT = {
    "model_type": "opt",
    "num_hidden_layers": 6,
    "hidden_size": 128,
    "word_embed_proj_dim": 128,
    "num_attention_heads": 4,
    "ffn_dim": 512,
    "dropout": 0.0,
}
TEACHER = {**GPT2, **NO_DROPOUT, "n_layer": 2}


@dataclass(frozen=True)
class Case:
    """A trial of a shape; training: its fields beside the batch; examples have `length` tokens;
    rank: of the adapter that it trains, 0 for the whole student."""

    name: str
    student: dict[str, Any]
    batch_size: int
    length: int
    training: dict[str, Any] = field(default_factory=dict)
    rank: int = 0


PLAIN = GPT2 | NO_DROPOUT
CASES = (
    Case("gpt2, few tokens", PLAIN, 2, 64),
    Case("gpt2", PLAIN, 16, 256),
    Case("gpt2, long", PLAIN, 4, 1024),
    Case("gpt2, dropout", GPT2, 16, 256),
    Case("gpt2, eager", PLAIN, 16, 256, {"attention_implementation": "eager"}),
    Case("gpt2, recomputed", PLAIN, 16, 256, {"gradient_checkpointing": True}),
    Case("gpt2, in 4 parts", PLAIN, 16, 256, {"gradient_accumulation": 4}),
    Case("gpt2, bfloat16", PLAIN, 16, 256, {"precision": "bfloat16"}),
    Case("gpt2, wide, SGD", {**PLAIN, "n_embd": 768, "n_head": 12}, 2, 256, {"optimizer": "sgd"}),
    Case("llama", LLAMA, 16, 256),
    Case("llama, bfloat16", LLAMA, 16, 256, {"precision": "bfloat16"}),
    Case("opt", OPT, 16, 256),
    Case("gpt2, LoRA", PLAIN, 16, 256, rank=16),
    Case("gpt2, wide, LoRA", {**PLAIN, "n_embd": 768, "n_head": 12}, 2, 256, rank=64),
    Case("llama, LoRA, bf16", LLAMA, 16, 256, {"precision": "bfloat16"}, rank=64),
)


def main() -> None:
    """Prints the table."""
    import_all()
    print(f"{'trial':18} {'measured':>8} {'plan':>6} {'ratio':>6} {'activations':>12} {'ratio':>6}")
    process = 0.0
    ratios = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            measured = measured_in(Path(folder), case)
        plan = planned(case)
        # The first one has hardly any activations: it says what the process itself takes.
        rest = plan.exact + (plan.logits or 0)
        process = process or measured - rest - (plan.activations or 0)
        left = measured - process - rest
        total = plan.total - plan.process + process
        ratios.append(total / measured)
        print(
            f"{case.name:18} {measured / MIB:8.0f} {total / MIB:6.0f} {ratios[-1]:6.2f} "
            f"{left / MIB:12.0f} {(plan.activations or 0) / left:6.2f}",
            flush=True,
        )
    print(f"the process itself {process / MIB:.0f}, in a plan {plan.process / MIB:.0f}")
    is_met = max(*ratios, *(1 / each for each in ratios)) <= BOUND
    print(f"{'within' if is_met else 'OUTSIDE'} a factor of {BOUND}")


def planned(case: Case) -> Memory:
    """What the plan of a sweep of such trials says, with the teacher online."""
    training = {"steps": 2, "batch_size": case.batch_size, **case.training}
    adapter = {"adapter": {"rank": case.rank}} if case.rank else {}
    spec = parse_spec(
        {
            "name": "memory",
            "teacher": {"model": "teacher"},
            "student": {"model": "student", **adapter},
            "data": {
                "train": "a",
                "validation": "b",
                "max_tokens": case.length,
                "max_prompt_tokens": 1,
            },
            "training": training,
            "search": {"tau": {"float": [1, 2]}},
        }
    )
    student, teacher = (built(config) for config in (case.student, TEACHER))
    facts = InputFacts(
        vocab_size=stages.VOCAB_SIZE,
        student_parameters=student.num_parameters(),
        teacher_parameters=teacher.num_parameters(),
        student_activations=activations.guess(student.config.to_dict()),
        teacher_activations=activations.guess(teacher.config.to_dict()),
        student_hidden_size=student.config.hidden_size,
        adapter_per_rank=numbers_per_rank(student, target_names(student, None)),
    )
    found = plan_memory(
        spec, facts, Resources(num_cpus=1), slots=1, gpus=0, teacher=TeacherChoice()
    )
    assert found is not None
    return found


def import_all() -> None:
    """Imports what trials use, once for all: their processes are copies of this one."""
    import datasets
    import peft  # noqa: F401
    import transformers.models.gpt2.modeling_gpt2
    import transformers.models.llama.modeling_llama
    import transformers.models.opt.modeling_opt

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def built(config: dict[str, Any]) -> Any:
    """The model of a config, without numbers."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    values = {name: value for name, value in config.items() if name != "model_type"}
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    made = CONFIG_MAPPING[config["model_type"]](vocab_size=stages.VOCAB_SIZE, **tokens, **values)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(made)


def measured_in(folder: Path, case: Case) -> float:
    """Peak bytes of the trial in a process of its own, over inputs made in `folder`."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(peak_of, (folder, case))


def peak_of(folder: Path, case: Case) -> float:
    """The peak of two steps of a trial in this process."""
    import torch

    from trainers import numerics
    from trainers.training.run import run_trial
    from trainers.trial.config import TrialConfig
    from trainers.trial.fields import Precision
    from trainers.trial.reporting import SilentReporter

    stage = stages.Stage(folder)
    for place, config in ((stage.student, case.student), (stage.teacher, TEACHER)):
        made = built(config).to_empty(device="cpu")
        for weight in made.state_dict().values():
            torch.nn.init.normal_(weight, std=0.02)
        made.save_pretrained(place)
    stages._data(stage.data, case.batch_size, case.length - 1)
    training = {"batch_size": case.batch_size, "max_tokens": case.length, **case.training}
    if case.rank:
        training |= {"adapter_kind": "lora", "adapter_rank": case.rank}
    file = stage.trial(steps=2)
    config = TrialConfig.model_validate(file.config.model_dump() | training)
    resolved = numerics.resolve("cpu", Precision(training.get("precision", "float32")), 1)
    file = file.model_copy(update={"config": config, "numerics": resolved})
    run_trial(file, folder / "output", reporter=SilentReporter())
    return stages.resident("VmHWM")


if __name__ == "__main__":
    main()
