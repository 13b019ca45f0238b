"""Distillation losses: divergences, labelled terms, temperature policies, and their sum.

distillation    the loss of a trial as a module; context: what it is called with and returns
soft_term       policy, divergence or labelled term, and scaling put together; plain: all at once
fused/          the same without logits of all positions: walk, chunks, closed forms, GPU kernel
divergences     one value a position from softened logits; weighted (with adaptive_head): those that
                weigh entries by the distributions; mixtures: those to a mixture of both; tables: by
                name
labelled        terms that also depend on labels or on the training's progress; classifiers: those
                of image classification, some of which couple the rows of a batch
policies        temperatures and scalings; rescale: their gradient
sequence        terms of the tokens that the student drew; sampled_text: what they make of a batch
passes          what the whole batch decides; schedules: what the training learns or moves
gradients       what gradients are made of; observed: what a trial's loss does at some positions
own/            a divergence of the user's own, and the contract that every divergence keeps
rho             which rho is worth searching, from a teacher's entropies
"""

from trainers.losses.context import LossContext, LossSums
from trainers.losses.distillation import DistillationLoss
from trainers.losses.policies import POLICY_FUNCTIONS, Softened, soften
from trainers.losses.tables import DIVERGENCE_FUNCTIONS, LABELLED_TERMS

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
