"""How much work training a position is, and how fast it is done: a first guess. Pure."""

import math

from service.spec.document import SweepSpec
from trainers.tasks import table
from trainers.trial.config import TrialConfig
from trainers.trial.facts import Facts
from trainers.trial.sources import FitConfig, Learned, ModelSource, Role

# Rates seen on ordinary machines: a first guess, until a sweep has been measured.
FLOPS_PER_CPU = 30e9
FLOPS_PER_GPU = 60e12
# Each weight's forward and backward pass takes 6 operations a token, a forward pass alone 2.
STUDENT_FLOPS = 6
FORWARD_FLOPS = 2


def steps_of(budget: TrialConfig | FitConfig, num_examples: int) -> float:
    """Returns about how many steps a training on so many examples has."""
    return budget.steps or (budget.epochs or 0) * math.ceil(num_examples / budget.batch_size)


def share_passed(spec: SweepSpec) -> int:
    """Returns how many positions pass through the models for each that is learned. Prompts do too:
    with what evaluations take, about as many again."""
    return 2 if table.task_named(spec.task).uses_parameters_once else 1


def student_parameters(spec: SweepSpec, facts: Facts) -> int | None:
    """Returns the weights of the student, None where they are not known."""
    return facts.student_parameters or _guess_parameters(spec.student, spec, facts)


def teacher_parameters(spec: SweepSpec, facts: Facts) -> int | None:
    """Returns the weights of the teacher, None where they are not known."""
    return facts.teacher_parameters or _guess_parameters(spec.teacher, spec, facts)


def trained_parameters(spec: SweepSpec, facts: Facts, config: TrialConfig) -> int | None:
    """Returns the weights that a trial with that config trains: of an adapter alone, where it has
    one; None where they are not known."""
    if config.adapter_rank is None:
        return student_parameters(spec, facts)
    per_rank = facts.adapter_per_rank
    return None if per_rank is None else config.adapter_rank * per_rank


def student_work(spec: SweepSpec, facts: Facts) -> int | None:
    """Returns the products of one position in the student, None where they are not known."""
    if facts.student_products is not None:
        return facts.student_products
    is_known = table.task_named(spec.task).uses_parameters_once
    return student_parameters(spec, facts) if is_known else None


def teacher_work(spec: SweepSpec, facts: Facts) -> int | None:
    """Returns the products of one position in the teacher, None where they are not known."""
    if facts.teacher_products is not None:
        return facts.teacher_products
    is_known = table.task_named(spec.task).uses_parameters_once
    return teacher_parameters(spec, facts) if is_known else None


def _guess_parameters(source: ModelSource, spec: SweepSpec, facts: Facts) -> int | None:
    task = table.task_named(spec.task)
    return task.guess_parameters(source.config or {}, facts.vocab_size)


def head_parameters(facts: Facts, role: Role) -> int | None:
    """Returns the size of a model's output matrix: all that is left to multiply with where its
    hidden states are known."""
    widths = {"teacher": facts.teacher_hidden_size, "student": facts.student_hidden_size}
    width, rows = widths[role], facts.vocab_size
    return None if width is None or rows is None else width * rows


def fit_work(fit: FitConfig, parameters: int, head: int | None, share: int) -> int:
    """Returns the products that a fit takes for each learned response token, forward. share:
    positions that pass through the model for each; the output matrix `head` is asked about those
    alone that are learned."""
    if head is None or fit.learn == Learned.ALL:
        return parameters * share
    return (parameters - head) * share + head


def rate(spec: SweepSpec, gpus_per_worker: float) -> float:
    """Returns the operations a second of one worker."""
    return FLOPS_PER_GPU if gpus_per_worker else FLOPS_PER_CPU * spec.resources.cpus_per_worker
