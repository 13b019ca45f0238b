"""Sweeps over images: what belongs to texts is refused in them, and the other way round."""

from typing import Any

import pytest

from service.errors import SpecError
from service.spec.parse import parse_spec

IMAGES: dict[str, Any] = {
    "name": "images",
    "task": "image_classification",
    "teacher": {"config": {"model_type": "convnet"}},
    "student": {"config": {"model_type": "convnet"}},
    "data": {"train": "builtin:digits", "validation": "builtin:digits"},
    "search": {"tau": {"float": [1, 4]}},
}
TEXTS = IMAGES | {
    "task": "causal_lm",
    "teacher": {"model": "gpt2-xl"},
    "student": {"model": "gpt2"},
    "data": {"train": "builtin:docstrings", "validation": "builtin:docstrings"},
}


def test_the_objective_is_top1_unless_another_is_named() -> None:
    assert parse_spec(IMAGES).objective[0].metric == "top1"
    named = IMAGES | {"objective": {"metric": "calibration_error"}}
    assert parse_spec(named).objective[0].direction == "minimize"


@pytest.mark.parametrize(
    ("document", "changed", "rule"),
    [
        (IMAGES, {"data": {"max_tokens": 64}}, "max_tokens belongs to task 'causal_lm'"),
        (IMAGES, {"data": {"template": "chat"}}, "data.template: it belongs to task 'causal_lm'"),
        (
            IMAGES,
            {"tokenizer": {"train": {"vocab_size": 300}}},
            "tokenizer: it belongs to task 'causal_lm'",
        ),
        (IMAGES, {"evaluation": {"max_new_tokens": 8}}, "max_new_tokens belongs to task"),
        (IMAGES, {"objective": {"metric": "rouge_l"}}, "must be a metric of task 'image_class"),
        (TEXTS, {"objective": {"metric": "test/a/rouge_l"}}, "but got 'test/a/rouge_l'"),
        (TEXTS, {"objective": {"metric": "self_bleu"}}, "but got 'self_bleu'"),
        (TEXTS, {"objective": {"metric": "top1"}}, "must be a metric of task 'causal_lm'"),
        (TEXTS, {"data": {"views": 2}}, "views belongs to task 'image_classification'"),
        (
            TEXTS,
            {"data": {"image_size": 32}},
            "data.image_size: it belongs to task 'image_classification'",
        ),
    ],
)
def test_what_belongs_to_the_other_task_is_refused(
    document: dict[str, Any], changed: dict[str, Any], rule: str
) -> None:
    merged = document | changed
    if "data" in changed:
        merged["data"] = document["data"] | changed["data"]
    with pytest.raises(SpecError, match=rule):
        parse_spec(merged)
