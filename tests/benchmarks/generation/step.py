"""What the parts of a step of GKD take, where the student writes all text; and whether it pays to
write the next step's text beside a step, with weights that are one step behind.

python tests/benchmarks/generation/step.py [--steps 4] [--rounds 3]

Parts in CPU seconds of one thread. Beside a step means in a second thread, which needs a second
core: `behind` is compared by the clock, which only quiet cores make sense of, and in CPU seconds.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from trainers import numerics
from trainers.losses import DistillationLoss
from trainers.responses import Response, Sampling
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.batches import TokenBatch, collate
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.tasks.causal_lm.sampling import ModelSampler
from trainers.teachers.online import OnlineTeacher
from trainers.training.student import StudentWithLoss
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision

BATCH, PROMPT, NEW_TOKENS = 16, 32, 64
SHAPES = {  # teacher, student, vocabulary
    "4 x 192 teaches 2 x 96, V 2,048": ((4, 192), (2, 96), 2048),
    "8 x 512 teaches 3 x 256, V 50,257": ((8, 512), (3, 256), 50257),
}
Text = dict[tuple[int, int], Response]
CPU = {"device": "cpu", "precision": "float32"}


@dataclass
class Stage:
    """A student that learns from its own text, and what each part of its steps has taken so far in
    CPU seconds."""

    student: StudentWithLoss
    teacher: OnlineTeacher
    vocab_size: int
    prompts: dict[tuple[int, int], list[int]]
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=1e-4, fused=True)

    def together(self, steps: int) -> None:
        """Steps that write their own text first."""
        for step in range(steps):
            text = self._timed("writing", lambda step=step: self._write(self.student.model, step))
            self._learn(text)

    def behind(self, steps: int) -> None:
        """Steps beside which the next one's text is written."""
        writer = copy.deepcopy(self.student.model)
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._write, writer, 0)
            for step in range(steps):
                text = coming.result()
                if step + 1 < steps:
                    writer.load_state_dict(self.student.model.state_dict())
                    coming = pool.submit(self._write, writer, step + 1)
                self._learn(text)

    def _write(self, model: Any, step: int) -> Text:
        sampling = Sampling(
            temperature=1.0,
            max_new_tokens=NEW_TOKENS,
            end_token_ids=frozenset(),
            pad_token_id=0,
        )
        sampler = ModelSampler(LanguageModel.of(model, self.vocab_size), sampling, CPU)
        return sampler.sample(self.prompts, seed=(0, step))

    def _learn(self, text: Text) -> None:
        batch = self._batch(text)
        signal = self._timed("teacher", lambda: self.teacher.signal(batch))
        self._timed("student", lambda: self._update(batch, signal))

    def _batch(self, text: Text) -> TokenBatch:
        rows = []
        for key, prompt in self.prompts.items():
            ids = np.array([*prompt, *text[key].ids], dtype=np.int32)
            rows.append((ids, np.arange(len(ids)) >= len(prompt)))
        return collate("train", np.arange(len(rows)), rows, pad_token_id=0)

    def _update(self, batch: TokenBatch, signal: Any) -> None:
        sums = self.student(batch, signal, step=0, num_steps=1)
        (sums.total / len(batch.positions)).backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _timed(self, part: str, run: Callable[[], Any]) -> Any:
        began = time.thread_time()
        result = run()
        self.seconds[part] = self.seconds.get(part, 0.0) + time.thread_time() - began
        return result


def build(teacher: tuple[int, int], student: tuple[int, int], vocab_size: int) -> Stage:
    """Returns a stage with models of so many layers and so wide."""
    torch.manual_seed(0)
    made = []
    for layers, width in (teacher, student):
        sizes = {"n_layer": layers, "n_embd": width, "n_head": width // 32}
        config = GPT2Config(
            vocab_size=vocab_size, n_positions=128, bos_token_id=0, eos_token_id=0, **sizes
        )
        made.append(LanguageModel.of(GPT2LMHeadModel(config), vocab_size))
    loss = DistillationLoss(TrialConfig(), vocab_size)
    random = np.random.Generator(np.random.PCG64(0))
    prompts = {(n, 0): random.integers(1, vocab_size, PROMPT).tolist() for n in range(BATCH)}
    learner = StudentWithLoss(made[1], loss, numerics=CPU).train()
    return Stage(learner, OnlineTeacher(made[0]), vocab_size, prompts)


def compared(stage: Stage, steps: int, rounds: int) -> None:
    """Prints how `behind` compares with steps that write first."""
    found: dict[str, list[tuple[float, float]]] = {"together": [], "behind": []}
    for _ in range(rounds):
        for name, run in (("together", stage.together), ("behind", stage.behind)):
            clock, cpu = time.perf_counter(), time.process_time()
            run(steps)
            found[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    for place, unit in enumerate(("the clock", "CPU seconds")):
        pairs = zip(found["behind"], found["together"], strict=True)
        ratios = [ours[place] / other[place] for ours, other in pairs]
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
        print(f"  behind ÷ together: {spread} by {unit}", flush=True)


def main() -> None:
    """Prints shares and comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    numerics.apply(numerics.resolve("cpu", Precision.FLOAT32, 1))
    models.quieten()
    print(f"{BATCH} prompts of {PROMPT} tokens, {NEW_TOKENS} new tokens each")
    for name, shape in SHAPES.items():
        stage = build(*shape)
        stage.together(1)
        stage.seconds.clear()
        stage.together(given.steps)
        whole = sum(stage.seconds.values())
        shares = ", ".join(f"{part} {took / whole:.0%}" for part, took in stage.seconds.items())
        print(f"{name}: {whole / given.steps:.2f} CPU seconds a step: {shares}", flush=True)
        compared(stage, given.steps, given.rounds)


if __name__ == "__main__":
    main()
