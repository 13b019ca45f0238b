"""What people read of prepared examples: those with the ids that trials keep scores of."""

from pathlib import Path

import numpy as np
from digits_support import request_of
from sklearn.datasets import load_digits
from training_support import TEMPLATE, records, request

from trainers.tasks import table
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.trial.sources import Prepared


def test_texts_are_the_instructions_of_the_validation_examples(
    prepared: Prepared, tmp_path: Path
) -> None:
    data = Path(prepared.data)
    ids = TokenSplit.open(data, "validation").example_ids[[9, 2]].tolist()
    task, asked = table.task_named("causal_lm"), request(tmp_path)
    assert asked.data.template == TEMPLATE
    rows = records(12, start=60)
    expected = {ids[0]: rows[9]["instruction"], ids[1]: rows[2]["instruction"]}
    assert task.example_texts(asked, data, [*ids, 5]) == expected


def test_images_have_a_number_and_a_class(tmp_path: Path) -> None:
    task = table.task_named("image_classification")
    whole = {"train": "builtin:digits", "validation": "builtin:digits"}
    asked = request_of(data=whole)
    task.runtime().write_data(asked, home=tmp_path, folder=tmp_path)
    digits = load_digits()
    # Every fourth is held out; which pixels an image has tells which id is its own.
    pixels = np.load(tmp_path / "validation-pixels.npy")
    own = np.round(digits.images[4 * 17 + 3] * (255 / 16)).astype(np.uint8)
    (row,) = np.flatnonzero((pixels[:, 0] == own).all(axis=(1, 2)))
    number = int(np.load(tmp_path / "validation-ids.npy")[row])
    expected = f"image {row}, class {digits.target[4 * 17 + 3]}"
    assert task.example_texts(asked, tmp_path, [number]) == {number: expected}
