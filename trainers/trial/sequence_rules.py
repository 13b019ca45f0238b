"""The rules of the sequence term, and the defaults that it brings; no torch."""

from collections.abc import Mapping
from typing import Any

from trainers.trial.loss_fields import SequenceFields
from trainers.trial.sequence_terms import SEQUENCE_TERMS, ImportanceWeight, SequenceTerm
from trainers.trial.text_fields import StudentTextFields

SEQUENCE_PARAMETERS: tuple[str, ...] = tuple(
    dict.fromkeys(name for row in SEQUENCE_TERMS.values() for name in row.parameters)
)


# What text must have been drawn with to be the present student's at temperature 1, and what is
# another distribution otherwise.
DRAWN_BY_OTHERS: Mapping[str, tuple[float, str]] = {
    "sampling_temperature": (1, "the term is at temperature 1"),
    "sampling_top_p": (1, "what top-p cuts away makes the other tokens likelier than in the term"),
    "teacher_mix": (0, "the teacher draws too"),
    "refresh": (1, "the student has moved on since it wrote"),
    "buffer_size": (0, "the student has moved on since it wrote"),
}


def sequence_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the defaults that the given sequence term brings along."""
    name = given.get("sequence_term", SequenceTerm.NONE)
    if not isinstance(name, str) or name not in list(SequenceTerm):
        return {}  # pydantic refuses it
    row = SEQUENCE_TERMS[SequenceTerm(name)]
    return {name: parameter.default for name, parameter in row.parameters.items()}


def check_sequence_term(config: SequenceFields) -> None:
    """Raises `ValueError` that names the fields, the rule and what came instead."""
    own = SEQUENCE_TERMS[config.sequence_term].parameters
    for name in SEQUENCE_PARAMETERS:
        value = getattr(config, name)
        if value is None:
            continue
        if name not in own:
            owners = [str(term) for term, row in SEQUENCE_TERMS.items() if name in row.parameters]
            raise ValueError(
                f"{name} belongs to sequence_term {', '.join(owners)}, but got {name}={value} with "
                f"sequence_term '{config.sequence_term}'. Leave it out"
            )
        own[name].check(name, value)
    _check_clipping(config)
    if config.sequence_term == SequenceTerm.KL_REWARD and not (
        config.include_current or config.discount
    ):
        raise ValueError(
            "discount > 0 must hold without include_current, or no token is rewarded, but got "
            f"discount={config.discount}, include_current=false. Use a positive discount"
        )


def check_drawn_text(config: SequenceFields, text: StudentTextFields) -> None:
    """Raises `ValueError` where no text is drawn that the term could learn from, or where it would
    take the text for the student's own, drawn as it is now."""
    if config.sequence_term == SequenceTerm.NONE:
        return
    if text.student_share == 0:
        raise ValueError(
            f"student_share > 0 must hold with sequence_term '{config.sequence_term}', which "
            "learns from tokens that the student draws, but got student_share=0. Use a positive "
            "one, or sequence_term: none"
        )
    if config.importance_weight != ImportanceWeight.NONE:
        return
    for name, (own, why) in DRAWN_BY_OTHERS.items():
        if getattr(text, name) != own:
            raise ValueError(
                f"{name} = {own} must hold with sequence_term '{config.sequence_term}' and "
                f"importance_weight none, as {why}, but got {name}={getattr(text, name)}. Use "
                f"importance_weight: token or sequence, or {name}: {own}"
            )


def _check_clipping(config: SequenceFields) -> None:
    if config.clip_ratio and config.importance_weight == ImportanceWeight.NONE:
        raise ValueError(
            "importance_weight must be token or sequence where clip_ratio > 0, as it is that "
            f"weight which is clipped, but got importance_weight=none, "
            f"clip_ratio={config.clip_ratio}. Give a weight, or leave clip_ratio out"
        )
