"""The fields of a trial by section, each with its type, range and default; no torch.

`TrialConfig` is composed of these classes, and so are the sections of a sweep's document, so that a
field has one name, type, range and default wherever it is written. To add a field, write it into
the class whose `Group` fits: the section it belongs to, and whether a sweep may search it. Those of
the loss are in `loss_fields.py`, those of who writes the text in `text_fields.py`.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from trainers.trial.groups import Fields, Group
from trainers.trial.kinds import (
    Attention,
    Count,
    CountOrNone,
    Epochs,
    Fraction,
    Length,
    NonNegative,
    Positive,
    Seed,
)
from trainers.trial.loss_fields import (
    LookAheadFields,
    LossFields,
    LossPermissions,
    SequenceFields,
)
from trainers.trial.text_fields import SoftPromptFields, StudentTextFields


class TaskName(StrEnum):
    """What the student learns to do."""

    CAUSAL_LM = "causal_lm"
    IMAGE_CLASSIFICATION = "image_classification"


class Optimizer(StrEnum):
    """Which optimiser updates the student."""

    ADAMW = "adamw"
    SGD = "sgd"


class Schedule(StrEnum):
    """How the learning rate moves after warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"
    STEP = "step"


class Decay(StrEnum):
    """Which weights decay; norms and biases are those with fewer than two dimensions."""

    MATRICES = "matrices"
    ALL = "all"


class Precision(StrEnum):
    """Compute precision; `auto` is bfloat16 autocast on a GPU and float32 on a CPU."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Augmentation(StrEnum):
    """What is changed in training images."""

    NONE = "none"
    CROP = "crop"
    CROP_FLIP = "crop_flip"
    RESIZED_CROP_FLIP = "resized_crop_flip"
    RAND_AUGMENT = "rand_augment"


class TaskField(Fields):
    """What the student learns to do."""

    group = Group(section="", fixed_because="a sweep has one task")

    task: TaskName = TaskName.CAUSAL_LM


class TrainingFields(Fields):
    """Budget, optimiser and schedule."""

    group = Group(section="training")

    epochs: Annotated[
        Epochs | None, Field(description="passes over the training data; or give steps")
    ] = None
    steps: Annotated[Count | None, Field(description="optimiser steps; or give epochs")] = None
    batch_size: Annotated[
        Count, Field(description="examples in one optimiser step, over all workers")
    ] = 32
    gradient_accumulation: Annotated[
        Count, Field(description="micro-batches per step and worker")
    ] = 1
    optimizer: Optimizer = Optimizer.ADAMW
    learning_rate: Annotated[Positive, Field(description="peak learning rate")] = 5e-4
    weight_decay: NonNegative = 0.01
    decay: Annotated[
        Decay, Field(description="all: biases and norms decay too, as in CIFAR-100's literature")
    ] = Decay.MATRICES
    schedule: Annotated[
        Schedule,
        Field(description="step: a tenth after 5/8, 3/4 and 7/8 of the steps, each time"),
    ] = Schedule.COSINE
    warmup: Annotated[
        Fraction, Field(description="share of the steps with a rising learning rate")
    ] = 0.0
    clip_norm: Annotated[
        NonNegative, Field(description="largest gradient norm; 0 does not clip")
    ] = 1.0
    precision: Precision = Precision.AUTO
    seed: Annotated[Seed, Field(description="data order and dropout")] = 0
    gradient_checkpointing: bool = False
    attention_implementation: Annotated[
        Attention | None, Field(description="how the models compute attention")
    ] = None


class SubsetFields(Fields):
    """How many of the training examples trials learn from."""

    group = Group(section="data", fixed_because="trials that are compared share their data")

    # Left out of a document where they are not given, so that sweeps without them keep their ids.
    student_examples: Annotated[
        Count | None,
        Field(
            description="training examples that trials learn from, of each class as many; the "
            "teacher's and the student's own fit see all. Default: all",
            exclude_if=lambda count: count is None,
        ),
    ] = None
    subset_seed: Annotated[
        Seed,
        Field(
            description="which ones: those of student_examples, and the images of "
            "max_train_examples and max_validation_examples",
            exclude_if=lambda seed: seed == 0,
        ),
    ] = 0


class LanguageDataFields(Fields):
    """How long examples of text may be."""

    group = Group(
        section="data",
        fixed_because="trials that are compared share their data",
        task=TaskName.CAUSAL_LM,
    )

    max_tokens: Annotated[
        Length, Field(ge=8, description="prompt and response together, in tokens")
    ] = 512
    max_prompt_tokens: Annotated[
        Length, Field(description="longer prompts are dropped, in tokens")
    ] = 256

    def response_room(self) -> int:
        """Returns the tokens that a response may have behind every prompt."""
        return self.max_tokens - self.max_prompt_tokens


class ImageDataFields(Fields):
    """Which views of the training images there are."""

    group = Group(
        section="data",
        fixed_because="trials that are compared share their data",
        task=TaskName.IMAGE_CLASSIFICATION,
    )

    augmentation: Annotated[
        Augmentation,
        Field(description="crop: of the image in a black frame; resized_crop: a part, enlarged"),
    ] = Augmentation.NONE
    views: Annotated[
        CountOrNone,
        Field(
            description="seeded views of each image that the epochs take in turn, so that a cache "
            "can hold what the teacher says of them; 0: new ones in every epoch, by its seed"
        ),
    ] = 0
    second_view: Annotated[
        Augmentation,
        Field(description="of each image beside the first, both learned from; none: there is none"),
    ] = Augmentation.NONE
    regions: Annotated[
        Literal[1, 2, 4],
        Field(description="cells a side of the last feature map with own soft losses; 1: none"),
    ] = 1


ALIKE = "evaluation must be the same in every trial"
# They change no bit of a training, and say why one loss does better: worth this much of every one.
DIAGNOSTICS_SHARE = 0.02


class EvaluationFields(Fields):
    """How often every trial is measured."""

    group = Group(section="evaluation", fixed_because=ALIKE)

    evaluations: Annotated[
        Count, Field(description="evaluations spread over the budget, the last at its end")
    ] = 5
    diagnostics_share: Annotated[
        Fraction,
        Field(
            description="of a trial's time that looking at its loss may take; 0: no diagnostics",
            exclude_if=lambda share: share == DIAGNOSTICS_SHARE,  # older images refuse it
        ),
    ] = DIAGNOSTICS_SHARE


class LanguageEvaluationFields(Fields):
    """How text is generated to be compared with references."""

    group = Group(section="evaluation", fixed_because=ALIKE, task=TaskName.CAUSAL_LM)

    generation_prompts: Annotated[
        CountOrNone, Field(description="validation prompts answered for rouge_l")
    ] = 100
    generation_seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (10,)
    generation_temperature: Annotated[
        NonNegative, Field(description="of sampled text; 0 is greedy")
    ] = 1.0
    max_new_tokens: Length = 128
    no_repeat_ngram_size: CountOrNone = 6


# A section is composed of all its groups; `TrialConfig` and the document inherit these. A group of
# fields of another task is added here, and nowhere else.
class Loss(LossPermissions, SequenceFields, LookAheadFields, LossFields):
    """All fields of the section `loss`."""


class Text(SoftPromptFields, StudentTextFields):
    """All fields of the section `text`."""


class Data(ImageDataFields, LanguageDataFields, SubsetFields):
    """All fields of the section `data` that belong to a trial."""


class Evaluation(LanguageEvaluationFields, EvaluationFields):
    """All fields of the section `evaluation`."""
