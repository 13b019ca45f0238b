"""Rooms for products, which a batch lends and gives back."""

import sys

import pytest
import torch

from trainers.losses.fused import chunks
from trainers.losses.fused.chunks import room

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rooms are kept on Linux alone")
WEIGHT = torch.zeros(70, 4)


@pytest.fixture(autouse=True)
def keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms of any size are kept, from none on."""
    monkeypatch.setattr(chunks, "LARGE_BYTES", 1)
    monkeypatch.setattr(chunks, "_spare", {})


def test_the_next_batch_gets_the_room_of_the_one_before() -> None:
    with room(WEIGHT, 9) as first:
        assert first.shape == (9, 70) and first.stride() == (128, 1)
        place = first.data_ptr()
    with room(WEIGHT, 5) as smaller:
        assert smaller.data_ptr() == place and smaller.shape == (5, 70)
    with room(WEIGHT, 10) as larger:
        larger.fill_(1.0)
    with room(WEIGHT, 10) as again:
        assert again.data_ptr() == larger.data_ptr()


def test_rooms_in_use_are_distinct_and_one_given_back_by_a_failure_is_kept() -> None:
    with room(WEIGHT, 9) as first, room(WEIGHT, 9) as second:
        assert first.data_ptr() != second.data_ptr()
    with pytest.raises(RuntimeError, match="out of luck"), room(WEIGHT, 9) as lost:
        raise RuntimeError("out of luck")
    with room(WEIGHT, 9) as found:
        assert found.data_ptr() == lost.data_ptr()


def test_another_dtype_has_another_room() -> None:
    with room(WEIGHT, 9) as single:
        place = single.data_ptr()
    with room(WEIGHT.double(), 9) as double:
        assert double.dtype == torch.float64 and double.data_ptr() != place


def test_a_room_made_without_gradients_serves_a_training_step() -> None:
    with torch.inference_mode(), room(WEIGHT, 9) as made:
        place = made.data_ptr()
    with room(WEIGHT, 9) as used:
        assert used.data_ptr() == place and not used.is_inference()
