"""What the students of a sweep write to learn from, and what that takes. Pure."""

from statistics import mean

from pydantic import Field

from service.plan.work import FORWARD_FLOPS, rate, steps_of, teacher_work
from service.spec.document import SweepSpec
from trainers.trial.budget import sampled_tokens
from trainers.trial.config import TrialConfig, fields_in
from trainers.trial.facts import Facts
from trainers.trial.strict import Strict

# Of a token, while all sequences of a step are written beside each other.
TOKEN_S = 0.01


class OwnText(Strict):
    """What the student of a mean complete trial writes, at the most. None: not known yet."""

    share: float = Field(description="of what is learned from, 0 to 1")
    responses: int
    max_tokens: int = Field(description="of a response")
    write_s: float
    ask_s: float | None = Field(description="for the teacher, which is asked about all of it")


def share_written(spec: SweepSpec) -> float:
    """Returns the student's share of the text, the mean over the trials that may be searched."""
    if not {*fields_in("text")} & {*spec.varied_names()}:
        return spec.budget().student_share
    return mean(spec.trial_config(values).student_share for values in spec.points())


def own_text(spec: SweepSpec, facts: Facts, gpus_per_worker: float) -> OwnText | None:
    """Returns what students write; None where that is nothing, or not known."""
    share, budget = share_written(spec), spec.budget()
    if share == 0 or facts.num_train_examples is None:
        return None
    prompts = share * steps_of(budget, facts.num_train_examples) * budget.batch_size
    responses, tokens = prompts * budget.samples_per_prompt, sampled_tokens(budget)
    # All positions pass through the teacher, of prompts too.
    positions = responses * (tokens + budget.max_prompt_tokens)
    teacher, workers = teacher_work(spec, facts), spec.resources.workers_per_trial
    operations = rate(spec, gpus_per_worker) * workers
    return OwnText(
        share=share,
        responses=round(responses),
        max_tokens=tokens,
        write_s=_write_seconds(budget, facts, prompts=prompts) / workers,
        ask_s=None if teacher is None else FORWARD_FLOPS * teacher * positions / operations,
    )


def _write_seconds(budget: TrialConfig, facts: Facts, *, prompts: float) -> float:
    """As long as the evaluation that was measured took for its answers, or a guess by steps."""
    tokens = sampled_tokens(budget)
    answers = min(budget.generation_prompts, facts.num_validation_examples or 0)
    answers *= len(budget.generation_seeds)
    if facts.evaluation_s is None or facts.forward_s is None or not answers:
        return prompts / budget.batch_size * tokens * TOKEN_S
    token_s = (facts.evaluation_s - facts.forward_s) / (answers * budget.max_new_tokens)
    return max(0.0, prompts * budget.samples_per_prompt * tokens * token_s)
