"""What the teacher of a sweep writes before the trials, and what that takes. Pure."""

from pydantic import Field

from service.plan.own_text import TOKEN_S
from service.plan.work import FORWARD_FLOPS, rate, teacher_work
from service.spec.document import SweepSpec
from trainers.trial.facts import Facts
from trainers.trial.strict import Strict

# Responses that are about written beside each other.
AT_ONCE = 64


class TeacherTextCost(Strict):
    """What the teacher writes once. None: not known yet."""

    responses: int | None
    max_tokens: int = Field(description="of a response")
    temperature: float
    write_s: float | None = Field(description="seconds; 0 where it is there")


def teacher_text_cost(
    spec: SweepSpec, facts: Facts, gpus_per_worker: float
) -> TeacherTextCost | None:
    """Returns what the teacher writes; None where no trial learns from its text."""
    asked = spec.teacher_text
    if asked is None:
        return None
    num_prompts, tokens = facts.num_train_examples, asked.longest(spec.data)
    responses = None if num_prompts is None else num_prompts * asked.samples_per_prompt
    teacher, write_s = teacher_work(spec, facts), None
    if facts.num_teacher_tokens is not None:
        write_s = 0.0
    elif responses is not None and teacher is not None:
        # All positions pass through the teacher, of prompts too.
        positions = responses * (tokens + spec.data.max_prompt_tokens)
        work_s = FORWARD_FLOPS * teacher * positions / rate(spec, gpus_per_worker)
        write_s = work_s + responses / AT_ONCE * tokens * TOKEN_S
    return TeacherTextCost(
        responses=responses, max_tokens=tokens, temperature=asked.temperature, write_s=write_s
    )
