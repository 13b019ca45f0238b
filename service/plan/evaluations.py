"""How many evaluations of a sweep's trials take place, which early stopping is built on. Pure."""

from service.spec.document import SweepSpec
from trainers.trial.budget import num_evaluations_of

# What decides, beside the data, how many steps a trial has.
OF_LENGTH = {"steps", "epochs", "batch_size"}


def num_evaluations(spec: SweepSpec, num_examples: int | None) -> int:
    """Returns how many evaluations the sweep's longest trial has: never more than it has steps.

    num_examples: of the training data; None while that is not known, which leaves trials whose
    budget is in epochs with as many as the sweep asks for.
    """
    budget = spec.budget()
    if num_examples is None and (budget.steps is None or "epochs" in spec.search.domains):
        return budget.evaluations
    configs = [budget]
    if OF_LENGTH & spec.search.domains.keys():
        configs = [spec.trial_config(values) for values in spec.points()]
    return max(num_evaluations_of(config, num_examples or 1) for config in configs)
