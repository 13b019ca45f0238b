"""What a soft prompt before the teacher's input takes of a trial. Pure."""

from statistics import mean

from pydantic import Field

from service.plan.work import FORWARD_FLOPS, rate, share_passed, student_work, teacher_work
from service.spec.document import SweepSpec
from trainers.trial.config import fields_in
from trainers.trial.facts import Facts
from trainers.trial.sources import longest_soft_prompt
from trainers.trial.strict import Strict

# Beside the answer that the student learns from: forwards and backwards behind the prompt (by its
# input alone, as its weights are frozen), and forwards as it is; and the student forwards.
TEACHER_PASSES, STUDENT_PASSES = 3, 1


class SoftPromptCost(Strict):
    """What a mean complete trial takes for the soft prompt. None: not known yet."""

    tokens: int = Field(description="of the longest prompt")
    share: float = Field(description="of trials that have one, 0 to 1")
    train_s: float | None = Field(description="to train it, beside asking the teacher")


def soft_prompt_cost(
    spec: SweepSpec, facts: Facts, gpus_per_worker: float, *, tokens_per_trial: int | None
) -> SoftPromptCost | None:
    """Returns what soft prompts take; None where no trial has one. tokens_per_trial: learned ones,
    None where they are not known."""
    longest = longest_soft_prompt(spec.given(), spec.points())
    if longest == 0:
        return None
    share = 1.0
    if {*fields_in("text")} & {*spec.varied_names()}:
        share = mean(spec.trial_config(v).soft_prompt_tokens > 0 for v in spec.points())
    teacher, student = teacher_work(spec, facts), student_work(spec, facts)
    seconds = None
    if teacher is not None and student is not None and tokens_per_trial is not None:
        work = FORWARD_FLOPS * (TEACHER_PASSES * teacher + STUDENT_PASSES * student)
        positions = tokens_per_trial * share_passed(spec)
        operations = rate(spec, gpus_per_worker) * spec.resources.workers_per_trial
        seconds = share * work * positions / operations
    return SoftPromptCost(tokens=longest, share=share, train_s=seconds)
