"""The fields that say who writes the text that a trial learns from, and what the teacher reads
before it; no torch.

Four temperatures are apart: those of the loss (`loss_fields.py`), of the student's sampling (here)
and of the teacher's (`sources.TeacherText`), and of evaluation (`fields.py`). None is another one's
default.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trainers.trial.groups import Fields, Group
from trainers.trial.kinds import (
    NOT_A_SWITCH,
    Count,
    CountOrNone,
    Fraction,
    Length,
    Name,
    NonNegative,
    Positive,
)

MOST_SAMPLES = 1000  # of a prompt in a step


class Responses(StrEnum):
    """Whose responses a trial learns from where the student itself does not write: the data's, or
    the teacher's to the same prompts (sequence-level distillation, Kim and Rush 2016)."""

    DATA = "data"
    TEACHER = "teacher"


class ShareSchedule(StrEnum):
    """How the student's share of the text moves over the training: always `student_share`; towards
    it, as data's share decays (ImitKD, Lin et al. 2020); or up to it in steps of 0.1, each time the
    validation loss has grown by 0.1 (DistiLLM, Ko et al. 2024)."""

    CONSTANT = "constant"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    REVERSE_SIGMOID = "reverse_sigmoid"
    ADAPTIVE = "adaptive"


class ShareOf(StrEnum):
    """What is thrown a coin for: a step, or each of its sequences. In pairs the student's response
    to a prompt stands beside the other one, not in its place (DistiLLM-2, Ko et al. 2025)."""

    STEPS = "steps"
    SEQUENCES = "sequences"
    PAIRS = "pairs"


class FreshSchedule(StrEnum):
    """Which part of the student's text is written anew while there is a buffer: all at first and
    none at the end, a half, or none at first and all at the end; the rest is replayed."""

    DECREASING = "decreasing"
    CONSTANT = "constant"
    INCREASING = "increasing"


class StudentTextFields(Fields):
    """Whose text it is, and how much of it the student itself writes, when, and how."""

    # Left out of documents at their defaults, so that sweeps without them keep their ids.
    group = Group(section="text", task="causal_lm", is_sparse=True)

    responses: Annotated[
        Responses,
        Field(
            description="that are learned where the student does not write: the data's, or the "
            "teacher's to the same prompts, as data.teacher_text says"
        ),
    ] = Responses.DATA
    student_share: Annotated[
        Fraction,
        Field(description="share of text that the student writes (GKD's lambda), at its largest"),
    ] = 0.0
    share_schedule: Annotated[
        ShareSchedule,
        Field(
            description="constant; the data's share decays by linear, exponential or "
            "reverse_sigmoid; adaptive: grows with the validation loss"
        ),
    ] = ShareSchedule.CONSTANT
    share_of: Annotated[
        ShareOf,
        Field(
            description="steps: all of a step's text is one writer's; sequences: mixed; pairs: the "
            "student's beside the other's to the same prompt"
        ),
    ] = ShareOf.STEPS
    refresh: Annotated[
        Count, Field(description="steps whose text the student writes at once, before the first")
    ] = 1
    buffer_size: Annotated[
        CountOrNone, Field(description="sequences of the student's that are kept for replay")
    ] = 0
    fresh_schedule: Annotated[
        FreshSchedule,
        Field(description="part of the student's text that is new, once the buffer is full"),
    ] = FreshSchedule.DECREASING
    sampling_temperature: Annotated[
        Positive, Field(description="of the student's text; apart from tau")
    ] = 1.0
    sampling_top_p: Annotated[
        float,
        Field(gt=0, le=1, allow_inf_nan=False, description="of the student's text; 1: all tokens"),
        NOT_A_SWITCH,
    ] = 1.0
    sampling_max_tokens: Annotated[
        Length | None,
        Field(description="of the student's text; default: max_tokens - max_prompt_tokens"),
    ] = None
    samples_per_prompt: Annotated[
        Count, Field(le=MOST_SAMPLES, description="responses of the student to each prompt")
    ] = 1
    teacher_mix: Annotated[
        Fraction,
        Field(description="teacher's share in each token's probabilities as the student writes"),
    ] = 0.0


class SoftPromptFields(Fields):
    """What the teacher reads before each text: vectors in place of tokens, which learn to make its
    distributions easier for the student (PromptKD, Kim et al. 2024). Their defaults are those of
    the authors' code."""

    group = Group(section="text", task="causal_lm", is_sparse=True)

    soft_prompt_tokens: Annotated[
        CountOrNone, Field(description="vectors before the teacher's input; 0: it reads as it is")
    ] = 0
    soft_prompt_text: Annotated[
        Name,
        Field(description="whose embeddings they start from, cut or repeated to their number"),
    ] = "Suppose you are a student."
    soft_prompt_learning_rate: Annotated[
        Positive, Field(description="peak, on the schedule of the student's")
    ] = 5e-5
    soft_prompt_base_weight: Annotated[
        NonNegative,
        Field(
            description="weight of KL(teacher with prompt ‖ teacher) in their loss; falls to 0 "
            "over the steps"
        ),
    ] = 1.0
