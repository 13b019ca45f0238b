"""How large caches of each kind are, and how far off, beside two ways that others store a teacher.

python tests/benchmarks/large/top_k.py [--steps 300]

The teacher is a small GPT-2 that is fitted here for so many steps on docstrings (V = 4,096). Bias
is measured as a sweep measures it. `largest alone`: the k largest, renormalised; `even tail`: with
the missing mass spread evenly over all others.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers import numerics
from trainers.preparing.prepare import prepare
from trainers.tasks import table
from trainers.teachers import bias, cache_build, sampling
from trainers.teachers.cache import CacheRequest, bytes_of_position
from trainers.trial.fields import Precision
from trainers.trial.sources import PrepareRequest

VOCAB_SIZE, WIDTH = 4096, 128
STORAGES = ("float16", "bfloat16", "top16", "top64", "top256")
KS = (64, 256)
SHOWN = (("fixed", 0.5), ("fixed", 1.0), ("fixed", 2.0), ("fixed", 4.0), ("fixed", 8.0))
SHOWN_C = (("cist", 0.8), ("cist", 1.2), ("cist", 1.6))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        request = prepared_in(Path(folder), given.steps)
        heads = [f"{'tau' if policy == 'fixed' else 'c'} {at:g}" for policy, at in SHOWN + SHOWN_C]
        print(f"{'stored':18} {'bytes':>6} " + " ".join(f"{head:>13}" for head in heads))
        for storage in STORAGES:
            each = CacheRequest(**(request | {"storage": storage}))
            rows = cache_build.measure_bias(cache_build.plan_cache(each, Path(folder)))
            size = bytes_of_position(storage, hidden_size=WIDTH, vocab_size=VOCAB_SIZE)
            show(storage, size, rows)
        for name, change in (("largest alone", largest_alone), ("even tail", even_tail)):
            for k in KS:
                show(f"{name}, {k}", 4 * k + 4, measured(CacheRequest(**request), k, change))


def prepared_in(folder: Path, steps: int) -> dict[str, Any]:
    """Fits the teacher, and returns the fields of a request for its cache."""
    tokens = {"n_layer": 2, "n_embd": WIDTH, "n_head": 4, "n_positions": 128}
    fit = {"steps": steps, "batch_size": 16, "learning_rate": 2e-3}
    config = {"model_type": "gpt2", **tokens}
    prepared = prepare(
        PrepareRequest.model_validate(
            {
                "teacher": {"config": config, "fit": fit},
                "student": {"config": config | {"n_layer": 1}},
                "tokenizer": {"train": {"vocab_size": VOCAB_SIZE}},
                "data": {"train": "builtin:docstrings", "validation": "builtin:docstrings"},
                "max_tokens": 128,
                "max_prompt_tokens": 64,
            }
        ),
        folder,
    )
    return {
        "task": table.task_named("causal_lm"),
        "teacher": Path(prepared.teacher),
        "data": Path(prepared.data),
        "numerics": numerics.resolve("cpu", Precision.FLOAT32, 1),
        "attention": None,
        "dtype": "float32",
        "storage": "float32",
    }


def measured(
    request: CacheRequest, k: int, change: Callable[[Tensor, int], Tensor]
) -> list[dict[str, Any]]:
    """The bias of logits that are changed before a trial sees them."""
    teacher, data = cache_build._teacher(request)
    shape = sampling.mean_logits(teacher, data.splits["train"], cache_build.SHAPE_POSITIONS)

    def answers() -> Iterator[tuple[Tensor, Tensor]]:
        split = data.splits["validation"]
        for hidden in sampling.answers(teacher, split, cache_build.BIAS_POSITIONS):
            exact = teacher.head.logits(hidden)
            yield exact, change(exact, k)

    return bias.measure(answers(), shape)


def largest_alone(logits: Tensor, k: int) -> Tensor:
    """The k largest, all others so low that they have no mass."""
    top = logits.topk(k)
    low = logits.amin(-1, keepdim=True) - 100
    return low.expand_as(logits).clone().scatter_(1, top.indices, top.values)


def even_tail(logits: Tensor, k: int) -> Tensor:
    """The k largest, and the mass of all others spread evenly over them."""
    top = logits.topk(k)
    rest = logits.scatter(1, top.indices, -torch.inf)
    count = logits.shape[1] - k
    level = rest.logsumexp(-1, keepdim=True) - torch.tensor(float(count)).log()
    return level.expand_as(logits).clone().scatter_(1, top.indices, top.values)


def show(name: str, size: int, rows: list[dict[str, Any]]) -> None:
    """Prints the errors of the gradients of forward and reverse KL."""
    by = {(row["policy"], row["at"]): row for row in rows}
    cells = [f"{by[at]['forward']:.2g}/{by[at]['reverse']:.2g}" for at in SHOWN + SHOWN_C]
    print(f"{name:18} {size:6} " + " ".join(f"{cell:>13}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
