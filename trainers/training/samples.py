"""Samples that are kept while a trial trains, as a checkpoint can keep them."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch

from trainers.responses import Response
from trainers.sampled import Author, Sample


def packed(samples: Sequence[Sample]) -> dict[str, Any]:
    """Returns `samples` as tensors, which is all that a checkpoint may hold beside plain values;
    one of each kind, since thousands would be slow to read."""
    responses = [sample.response for sample in samples]
    return {
        "examples": torch.tensor([sample.example for sample in samples], dtype=torch.int64),
        "authors": torch.tensor([int(sample.author) for sample in samples], dtype=torch.int64),
        "ended": torch.tensor([one.ended for one in responses], dtype=torch.bool),
        "lengths": torch.tensor([len(one.ids) for one in responses], dtype=torch.int64),
        "ids": torch.tensor([token for one in responses for token in one.ids], dtype=torch.int64),
        "log_probs": torch.tensor(
            [value for one in responses for value in one.log_probs], dtype=torch.float64
        ),
    }


def unpacked(state: dict[str, Any]) -> list[Sample]:
    """Returns the samples that `packed` was given."""
    plain = {name: tensor.tolist() for name, tensor in state.items()}
    bounds = pairwise(accumulate(plain["lengths"], initial=0))
    responses = [
        Response(plain["ids"][start:stop], plain["log_probs"][start:stop], ended)
        for (start, stop), ended in zip(bounds, plain["ended"], strict=True)
    ]
    facts = zip(plain["examples"], responses, plain["authors"], strict=True)
    return [Sample(example, response, Author(author)) for example, response, author in facts]
