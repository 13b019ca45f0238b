"""Some of the examples, of each class as many."""

import numpy as np

from trainers.tasks.balanced import balanced


def test_few_labels_are_as_many_of_each_class_and_drawn_by_a_seed() -> None:
    labels = np.array([0] * 50 + [1] * 5 + [2] * 50)
    first, again, other = (balanced(labels, 27, seed) for seed in (1, 1, 2))
    assert np.bincount(labels[first]).tolist() == [11, 5, 11]
    assert first.tolist() == again.tolist() == sorted(set(first))
    assert first.tolist() != other.tolist()
    # more labels are those and others
    assert set(first) < set(balanced(labels, 60, 1))
