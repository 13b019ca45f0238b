"""What a batch holds of responses that a model wrote."""

import numpy as np
import torch

from trainers.responses import Response
from trainers.sampled import Author, Sample
from trainers.tasks.causal_lm.batches import TokenBatch, collate_samples

END, PAD = 2, 0


def sample(example: int, ids: list[int], *, ended: bool, author: Author) -> Sample:
    return Sample(example, Response(ids, [-token / 10 for token in ids], ended), author)


def batch_of_two() -> TokenBatch:
    samples = [
        sample(7, [5, 6, END], ended=True, author=Author.STUDENT),
        sample(3, [8], ended=False, author=Author.MIXTURE),
    ]
    prompts = [np.array([11], np.int32), np.array([12, 13], np.int32)]
    return collate_samples("train", samples, prompts, pad_token_id=PAD)


def test_every_drawn_token_is_learned_and_nothing_behind_the_end() -> None:
    batch = batch_of_two()
    assert batch.input_ids.tolist() == [[11, 5, 6], [12, 13, PAD]]
    assert batch.labels.tolist() == [5, 6, END, 8]
    assert batch.sequence_ids.tolist() == [0, 0, 0, 1]
    assert batch.examples.tolist() == [7, 3]


def test_a_batch_says_who_wrote_it_and_how_likely_each_label_was() -> None:
    batch = batch_of_two().to(torch.device("cpu"))
    assert batch.sampled is not None
    assert batch.sampled.authors.tolist() == [Author.STUDENT, Author.MIXTURE]
    assert batch.sampled.ended.tolist() == [True, False]
    np.testing.assert_allclose(batch.sampled.log_probs, [-0.5, -0.6, -0.2, -0.8], rtol=1e-6)


def test_a_worker_without_samples_has_a_batch_all_the_same() -> None:
    batch = collate_samples("train", [], [], pad_token_id=PAD)
    assert batch.labels.shape == (0,) and batch.input_ids.shape == (1, 1)
    assert batch.sampled is not None and batch.sampled.log_probs.shape == (0,)
