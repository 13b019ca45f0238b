"""What is known of a sweep's inputs; no torch."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import Field

from trainers.trial.strict import Strict

# The inputs of a trial that decide what its teacher's cache holds.
CACHED_INPUTS = ("teacher", "data")


class Activations(Strict):
    """What a backward pass needs of a forward pass through a model, in numbers, which take 4 bytes
    each in float32. A position is what the task learns from: a token, an image."""

    layers: int = Field(description="that are alike; 1 where they differ")
    per_position: float = Field(description="of one layer")
    per_pair: float = Field(
        default=0.0,
        description="of one layer, for each pair of positions, by written-out attention",
    )
    drops_attention: bool = Field(default=False, description="with dropout of pairs")
    layer_input: float | None = Field(
        default=None,
        description="for each position, from which a layer is computed again by gradient "
        "checkpointing; null: all is kept with it, too",
    )
    outside: float = Field(default=0.0, description="for each position, beside the layers")

    def numbers(self, length: int, *, has_pairs: bool, is_recomputed: bool) -> float:
        """Returns how many numbers one position of a sequence of `length` keeps. has_pairs: whether
        attention is written out; is_recomputed: with gradient checkpointing."""
        layer = self.layer(length, has_pairs=has_pairs)
        if is_recomputed and self.layer_input is not None:
            return self.outside + self.layers * self.layer_input + layer
        return self.outside + self.layers * layer

    def layer(self, length: int, *, has_pairs: bool) -> float:
        """Returns the same of one layer: about what a pass without gradients has at once."""
        return self.per_position + has_pairs * self.per_pair * length


class ModelFacts(NamedTuple):
    """What a model's config makes: the complete config, the number of parameters, the products
    that one position takes in a forward pass where parameters do not say, and what training keeps
    of such a pass where a config does not say; None: not known."""

    config: dict[str, Any]
    num_parameters: int
    products: int | None = None
    activations: Activations | None = None


@dataclass(frozen=True)
class PreparedFacts:
    """What is known of prepared data. num_train_learned: learned positions of one epoch;
    fingerprints: of the data, and of what else was prepared with it."""

    num_classes: int
    num_train_examples: int
    num_train_learned: int
    num_validation_examples: int
    fingerprints: dict[str, str]


class SetFacts(Strict):
    """What is known of an evaluation set as it is measured on."""

    num_examples: int
    num_dropped: int = Field(default=0, description="left out, since their prompts are too long")
    in_train: int = Field(description="examples that are also among those to train on")
    in_validation: int = Field(description="examples that are also among those to select by")
    fingerprint: str = Field(description="SHA-256 over the examples")

    @property
    def caution(self) -> str:
        """Says that the set is no test; empty where nothing speaks against it."""
        if self.in_validation == self.num_examples:
            return "it is the validation split, by which trials were selected"
        seen = {"training": self.in_train, "validation": self.in_validation}
        shares = [f"{n} are also in the {name} split" for name, n in seen.items() if n]
        return f"of its {self.num_examples} examples {' and '.join(shares)}" if shares else ""


class Facts(Strict):
    """What is known of teacher, student and data; None: not before they are prepared."""

    num_train_examples: int | None = None
    num_train_tokens: int | None = Field(
        default=None, description="response tokens of one epoch, or about so many"
    )
    num_validation_examples: int | None = None
    num_teacher_tokens: int | None = Field(
        default=None,
        description="response tokens of an epoch of the teacher's text; null: not written yet",
        exclude_if=lambda tokens: tokens is None,
    )
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
    teacher_activations: Activations | None = None
    student_activations: Activations | None = None
    adapter_per_rank: int | None = Field(
        default=None,
        description="numbers for each rank of the adapter that trials train; null: they train none",
        exclude_if=lambda numbers: numbers is None,
    )
    teacher_dtype: str | None = Field(
        default=None,
        description="that the teacher computes in; null: the trials' precision, or not known yet",
        exclude_if=lambda dtype: dtype is None,
    )
    teacher_hidden_size: int | None = None
    student_hidden_size: int | None = None
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
    prepared: dict[str, str] = Field(
        default_factory=dict,
        description="SHA-256 of the teacher and the data as trials read them; empty: not yet there",
        exclude_if=lambda inputs: not inputs,
    )
    fingerprints: dict[str, str] = Field(default_factory=dict)
    found: dict[str, str] = Field(default_factory=dict, description="input → where it comes from")
