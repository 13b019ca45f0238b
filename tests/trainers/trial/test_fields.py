"""Each field of a trial says which section it belongs to, where it is defined."""

import pytest

from trainers.trial.config import GROUPS, NOT_SEARCHABLE, TrialConfig, fields_in
from trainers.trial.fields import TaskName
from trainers.trial.groups import Fields, Group, groups


def test_a_field_without_a_section_is_refused() -> None:
    class WithALooseField(TrialConfig):
        smoothing: float = 0.0

    message = r"^WithALooseField.smoothing: .* says none. Move it into LossFields, TrainingFields"
    with pytest.raises(TypeError, match=message):
        groups(WithALooseField)


def test_a_field_belongs_where_its_own_class_says() -> None:
    class Smoothing(Fields):
        group = Group(section="training", fixed_because="it is an example")
        smoothing: float = 0.0

    class Wider(Smoothing, TrialConfig):
        pass

    assert groups(Wider) == {**GROUPS, "smoothing": Smoothing.group}


def test_the_sections_keep_their_order() -> None:
    sections = [group.section for group in GROUPS.values()]
    assert list(dict.fromkeys(sections)) == [
        "",
        "loss",
        "student.adapter",
        "training",
        "text",
        "data",
        "evaluation",
    ]
    assert fields_in("data") == (
        "student_examples",
        "subset_seed",
        "max_tokens",
        "max_prompt_tokens",
        "augmentation",
        "views",
        "second_view",
        "regions",
    )


def test_only_loss_training_text_and_adapters_are_searched() -> None:
    searched = {GROUPS[name].section for name in GROUPS.keys() - NOT_SEARCHABLE.keys()}
    assert searched == {"loss", "student.adapter", "training", "text"}
    assert NOT_SEARCHABLE["allow_free_logit_scale"] == "it is a permission, not a hyperparameter"


def test_fields_of_text_belong_to_its_task() -> None:
    of_text = {name for name, group in GROUPS.items() if group.task == TaskName.CAUSAL_LM}
    assert {"max_tokens", "generation_prompts", "no_repeat_ngram_size"} <= of_text
    assert {*fields_in("text")} <= of_text
    assert not of_text & {*fields_in("loss"), *fields_in("training"), "evaluations", "task"}
