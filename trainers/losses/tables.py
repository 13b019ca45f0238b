"""The function of each divergence: of softened logits [N, V], returning [N].

A divergence's function bears the name of its row in `trainers.trial.catalogue`. Labelled terms,
which take more than the softened logits, have a table of their own.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from trainers.losses import by_writer, classifiers, divergences, labelled, mixtures, weighted
from trainers.losses.labelled import LabelledInput, Parts
from trainers.trial.catalogue import DIVERGENCES

LABELLED_TERMS: dict[str, Callable[[LabelledInput, Mapping[str, Any]], Parts]] = {
    row.__name__: row
    for row in (
        labelled.decoupled,
        labelled.diverse_reverse_kl,
        labelled.normalised,
        labelled.token_scaled,
        labelled.interpolated,
        by_writer.contrastive_skew_kl,
        by_writer.stepwise_jsd,
        classifiers.refined,
        classifiers.improved_kl,
        classifiers.generalized_kl,
        classifiers.entropy_gated,
        classifiers.correlation,
        classifiers.multi_level,
    )
}


def _function_of(name: str) -> Callable[..., Tensor]:
    for module in (divergences, weighted, mixtures):
        if name in vars(module):
            function: Callable[..., Tensor] = vars(module)[name]
            return function
    raise NotImplementedError(
        f"divergence '{name}' of the catalogue must have a function of its name in "
        "trainers/losses/divergences.py, weighted.py or mixtures.py, or an entry in "
        "LABELLED_TERMS, but got none"
    )


DIVERGENCE_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    name: _function_of(name) for name in DIVERGENCES if name not in LABELLED_TERMS
}
