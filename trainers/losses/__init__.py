"""Distillation losses: divergences, labelled terms, temperature policies, and their sum."""

from trainers.losses.context import LossContext, LossSums
from trainers.losses.distillation import DistillationLoss
from trainers.losses.labelled import LABELLED_TERMS
from trainers.losses.policies import POLICIES, Softened, soften
from trainers.losses.tables import DIVERGENCES

__all__ = [
    "DIVERGENCES",
    "LABELLED_TERMS",
    "POLICIES",
    "DistillationLoss",
    "LossContext",
    "LossSums",
    "Softened",
    "soften",
]
