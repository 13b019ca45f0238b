"""What moves the weights of a trial, and how far in each step."""

import math

import torch
from torch import nn

from trainers.trial.config import TrialConfig
from trainers.trial.fields import Decay, Optimizer, Schedule

ADAM_BETAS = (0.9, 0.999)
# After which shares of the steps schedule `step` takes a tenth: epochs 150, 180 and 210 of 240.
DROPS = (5 / 8, 3 / 4, 7 / 8)


def learning_rate(config: TrialConfig, step: int, num_steps: int) -> float:
    """Returns the learning rate of step `step` (0-based)."""
    warmup = round(config.warmup * num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share_done = (step - warmup) / max(1, num_steps - warmup)
    if config.schedule == Schedule.CONSTANT:
        return config.learning_rate
    if config.schedule == Schedule.STEP:
        return config.learning_rate * 0.1 ** sum(step >= drop * num_steps for drop in DROPS)
    if config.schedule == Schedule.LINEAR:
        return config.learning_rate * (1 - share_done)
    return config.learning_rate * (1 + math.cos(math.pi * share_done)) / 2


def make_optimizer(config: TrialConfig, module: nn.Module) -> torch.optim.Optimizer:
    """Returns the optimiser; biases and norms (fewer than two dimensions) decay only where
    everything does."""
    trained = [p for p in module.parameters() if p.requires_grad]
    of_others = config.weight_decay if config.decay == Decay.ALL else 0.0
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": of_others},
    ]
    if config.optimizer == Optimizer.SGD:
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=ADAM_BETAS, fused=True)
