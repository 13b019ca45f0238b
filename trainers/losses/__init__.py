"""Distillation losses: divergences, labelled terms, temperature policies, and their sum."""

from trainers.losses.context import LossContext, LossSums
from trainers.losses.distillation import DistillationLoss
from trainers.losses.labelled import LABELLED_TERMS
from trainers.losses.policies import POLICY_FUNCTIONS, Softened, soften
from trainers.losses.tables import DIVERGENCE_FUNCTIONS

__all__ = [
    "DIVERGENCE_FUNCTIONS",
    "LABELLED_TERMS",
    "POLICY_FUNCTIONS",
    "DistillationLoss",
    "LossContext",
    "LossSums",
    "Softened",
    "soften",
]
