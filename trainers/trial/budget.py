"""How long a trial trains, and after which of its steps it is evaluated; no torch."""

import math

from trainers.trial.config import TrialConfig
from trainers.trial.fields import SubsetFields


def num_learned_from(config: SubsetFields, num_examples: int) -> int:
    """Returns from how many of `num_examples` of training data trials learn."""
    return min(config.student_examples or num_examples, num_examples)


def num_steps_of(config: TrialConfig, num_examples: int) -> int:
    """Returns the optimiser steps of the complete budget; a fraction of an epoch is rounded up to a
    number of steps. num_examples: of the training data."""
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None
    # 0.07 * 100 is a little more than 7 in floating point, and must not become 8 steps
    per_epoch = math.ceil(num_learned_from(config, num_examples) / config.batch_size)
    return max(1, math.ceil(config.epochs * per_epoch - 1e-9))


def evaluation_steps(num_steps: int, evaluations: int) -> list[int]:
    """Returns after which steps (1-based) is evaluated: evenly spread, the last at the end; after
    every step where more evaluations are asked for than there are steps."""
    count = min(evaluations, num_steps)
    return sorted({max(1, round(i * num_steps / count)) for i in range(1, count + 1)})


def num_evaluations_of(config: TrialConfig, num_examples: int) -> int:
    """Returns how many evaluations of a complete trial take place."""
    return min(config.evaluations, num_steps_of(config, num_examples))


def sampled_tokens(config: TrialConfig) -> int:
    """Returns how many tokens a response has at most that the student writes to learn from."""
    asked = config.sampling_max_tokens
    return config.response_room() if asked is None else asked


def smallest_micro_batch(config: TrialConfig, num_examples: int, num_workers: int) -> int:
    """Returns the examples of the smallest micro-batch that a trial meets and that has any."""
    count = num_learned_from(config, num_examples)
    in_epoch = -(-count // config.batch_size)
    met = {min(config.batch_size, count)}
    if num_steps_of(config, count) >= in_epoch:
        met.add(count - (in_epoch - 1) * config.batch_size)
    parts, smallest = config.gradient_accumulation, count
    for examples in met:
        # Each worker's share differs from the others' by one at most, and so do its parts.
        for share in {-(-examples // num_workers), examples // num_workers} - {0}:
            smallest = min(smallest, max(1, share // parts))
    return smallest
