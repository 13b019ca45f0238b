"""What is known of a sweep's inputs; no torch."""

from typing import Any, NamedTuple

from pydantic import Field

from trainers.trial.strict import Strict


class ModelFacts(NamedTuple):
    """What a model's config makes: the complete config, the number of parameters, and the products
    that one position takes in a forward pass where parameters do not say; None: not known."""

    config: dict[str, Any]
    num_parameters: int
    products: int | None = None


class Facts(Strict):
    """What is known of teacher, student and data; None: not before they are prepared."""

    num_train_examples: int | None = None
    num_train_tokens: int | None = Field(
        default=None, description="response tokens of one epoch, or about so many"
    )
    num_validation_examples: int | None = None
    num_views: int = Field(
        default=1, description="views of a training example; 0: each epoch has new ones"
    )
    vocab_size: int | None = None
    teacher_parameters: int | None = None
    student_parameters: int | None = None
    teacher_products: int | None = Field(
        default=None, description="of one position, forward, where parameters do not say"
    )
    student_products: int | None = Field(default=None, description="the same of the student")
    teacher_hidden_size: int | None = None
    teacher_entropy_share: float | None = Field(
        default=None, description="mean entropy at tau = 1 over ln V"
    )
    teacher_scores: dict[str, float] = Field(
        default_factory=dict, description="its own, measured as trials are; empty: not yet"
    )
    undistilled_scores: dict[str, float] = Field(
        default_factory=dict, description="the same of the student before any trial"
    )
    evaluation_s: float | None = Field(
        default=None, description="of one evaluation of the undistilled student, measured"
    )
    forward_s: float | None = Field(
        default=None, description="of which one pass over the validation split, without text"
    )
    fingerprints: dict[str, str] = Field(default_factory=dict)
    found: dict[str, str] = Field(default_factory=dict, description="input → where it comes from")
