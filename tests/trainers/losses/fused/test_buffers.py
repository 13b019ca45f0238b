"""Buffers for products, which a batch borrows and gives back."""

import sys

import pytest
import torch

from trainers.losses.fused import chunks
from trainers.losses.fused.chunks import lend_buffer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="buffers are kept on Linux alone")
WEIGHT = torch.zeros(70, 4)


@pytest.fixture(autouse=True)
def keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers of any size are kept, none at the start."""
    monkeypatch.setattr(chunks, "LARGE_BYTES", 1)
    monkeypatch.setattr(chunks, "_spare", {})


def test_the_next_batch_gets_the_buffer_of_the_one_before() -> None:
    with lend_buffer(WEIGHT, 9) as first:
        assert first.shape == (9, 70) and first.stride() == (128, 1)
        place = first.data_ptr()
    with lend_buffer(WEIGHT, 5) as smaller:
        assert smaller.data_ptr() == place and smaller.shape == (5, 70)
    with lend_buffer(WEIGHT, 10) as larger:
        larger.fill_(1.0)
    with lend_buffer(WEIGHT, 10) as again:
        assert again.data_ptr() == larger.data_ptr()


def test_buffers_in_use_are_distinct_and_one_given_back_by_a_failure_is_kept() -> None:
    with lend_buffer(WEIGHT, 9) as first, lend_buffer(WEIGHT, 9) as second:
        assert first.data_ptr() != second.data_ptr()
    with pytest.raises(RuntimeError, match="out of luck"), lend_buffer(WEIGHT, 9) as lost:
        raise RuntimeError("out of luck")
    with lend_buffer(WEIGHT, 9) as found:
        assert found.data_ptr() == lost.data_ptr()


def test_another_dtype_has_another_buffer() -> None:
    with lend_buffer(WEIGHT, 9) as single:
        place = single.data_ptr()
    with lend_buffer(WEIGHT.double(), 9) as double:
        assert double.dtype == torch.float64 and double.data_ptr() != place


def test_a_buffer_made_without_gradients_serves_a_training_step() -> None:
    with torch.inference_mode(), lend_buffer(WEIGHT, 9) as made:
        place = made.data_ptr()
    with lend_buffer(WEIGHT, 9) as used:
        assert used.data_ptr() == place and not used.is_inference()
