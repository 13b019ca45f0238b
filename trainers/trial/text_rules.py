"""The rules between who writes a trial's text, what the teacher reads before it, its loss, its
batches and its lengths; no torch."""

from trainers.trial.catalogue import POLICIES
from trainers.trial.fields import LanguageDataFields, Loss, Text, TrainingFields
from trainers.trial.sequence_terms import SequenceTerm
from trainers.trial.text_fields import ShareOf, ShareSchedule


def check_lengths_written(text: Text, lengths: LanguageDataFields) -> None:
    """Raises `ValueError` where a response does not fit behind every prompt."""
    if text.sampling_max_tokens is not None and text.sampling_max_tokens > lengths.response_room():
        raise ValueError(
            "sampling_max_tokens <= max_tokens - max_prompt_tokens must hold, or a response does "
            f"not fit behind every prompt, but got sampling_max_tokens={text.sampling_max_tokens}, "
            f"max_tokens={lengths.max_tokens}, max_prompt_tokens={lengths.max_prompt_tokens}"
        )


def check_buffer(text: Text, training: TrainingFields) -> None:
    """Raises `ValueError` for a buffer that cannot fill a step."""
    needed = training.batch_size * text.samples_per_prompt
    if 0 < text.buffer_size < needed:
        raise ValueError(
            "buffer_size >= batch_size * samples_per_prompt must hold, or a step cannot be "
            f"replayed, but got buffer_size={text.buffer_size}, batch_size={training.batch_size}, "
            f"samples_per_prompt={text.samples_per_prompt}. Use at least {needed}, or 0"
        )


def check_taught(text: Text, loss: Loss) -> None:
    """Raises `ValueError` where nothing, or no hard loss, is learned from the student's own text:
    it has no labels, and the teacher alone judges it."""
    if text.student_share == 0:
        return
    if not _asks_teacher(loss):
        raise ValueError(
            "soft_weight > 0 must hold with student_share > 0 and no sequence_term, as only the "
            "teacher says what is wrong with the student's text, but got soft_weight=0, "
            f"student_share={text.student_share:g}. Use a positive soft_weight, or student_share: 0"
        )
    is_free = POLICIES[loss.policy].scale_free and not loss.allow_free_logit_scale
    is_all = text.student_share == 1 and text.share_schedule == ShareSchedule.CONSTANT
    if is_free and is_all and text.share_of != ShareOf.PAIRS:
        raise ValueError(
            f"student_share < 1 must hold under policy '{loss.policy}', which leaves the student's "
            "logit scale to the hard loss, and that learns from the data's text alone, but got "
            "student_share=1. Use a smaller one, or allow_free_logit_scale: true"
        )


def check_soft_prompt(text: Text, loss: Loss) -> None:
    """Raises `ValueError` where the teacher's distributions are not learned from: a prompt that
    changes them would change nothing."""
    if text.soft_prompt_tokens == 0:
        return
    if not _asks_teacher(loss):
        raise ValueError(
            "soft_weight > 0 must hold with soft_prompt_tokens > 0 and no sequence_term, as the "
            "prompt changes what the teacher says and nothing else, but got soft_weight=0, "
            f"soft_prompt_tokens={text.soft_prompt_tokens}. Use a positive soft_weight, or "
            "soft_prompt_tokens: 0"
        )


def _asks_teacher(loss: Loss) -> bool:
    """Whether anything is learned from what the teacher says."""
    return loss.soft_weight > 0 or loss.sequence_term != SequenceTerm.NONE
