"""What is done to pictures one after another, against the same written with arrays."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from trainers.tasks.image_classification import pictures
from trainers.tasks.image_classification.pictures import (
    OPERATIONS,
    changed,
    rand_augmented,
    resized_crop,
)
from trainers.tasks.image_classification.views import mixed, views
from trainers.trial.fields import Augmentation

RANDOM = np.random.default_rng(0)
COLOURED = RANDOM.integers(0, 256, (40, 3, 12, 10), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
DRAWS = mixed(np.arange(40), 5)
MADE_BY_PILLOW = [Augmentation.RESIZED_CROP_FLIP, Augmentation.RAND_AUGMENT]


@pytest.mark.parametrize("kind", MADE_BY_PILLOW)
@pytest.mark.parametrize("images", [COLOURED, GREY], ids=["coloured", "grey"])
def test_a_view_depends_on_its_own_draw_alone(images: np.ndarray, kind: Augmentation) -> None:
    made = views(images, DRAWS, kind)
    assert (made.shape, made.dtype) == (images.shape, np.uint8)
    for chosen in (np.array([7]), np.array([30, 3, 7])):
        assert np.array_equal(views(images[chosen], DRAWS[chosen], kind), made[chosen])
    assert sum(np.array_equal(*pair) for pair in zip(made, images, strict=True)) < 5
    assert views(images[:0], DRAWS[:0], kind).shape == (0, *images.shape[1:])


def test_every_operation_comes_up_in_both_places(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def named(number: int) -> Callable[[Image.Image, float], Image.Image]:
        return lambda picture, strength: (seen.append(number), picture)[1]

    monkeypatch.setattr(pictures, "OPERATIONS", tuple(map(named, range(14))))
    count = 4000
    views(np.broadcast_to(GREY[:1], (count, 1, 8, 8)), mixed(np.arange(count)), "rand_augment")
    pairs = np.reshape(seen, (count, 2))
    expected = count / 14
    for place in range(2):
        times = np.bincount(pairs[:, place], minlength=14)
        assert np.abs(times - expected).max() < 5 * np.sqrt(expected)
    # One is drawn apart from the other: the same twice in one of fourteen.
    assert (pairs[:, 0] == pairs[:, 1]).sum() == pytest.approx(expected, abs=5 * expected**0.5)


def operated(number: int, strength: float, images: np.ndarray = COLOURED) -> np.ndarray:
    shares = np.full((len(images), 1), strength)
    return changed(images, shares, lambda picture, own: OPERATIONS[number](picture, own[0]))


def test_the_middle_of_a_geometric_range_changes_nothing() -> None:
    for number in (5, 7, 9, 10, 12, 13):
        assert np.array_equal(operated(number, 0.5), COLOURED)


def test_shifts_are_in_shares_of_a_side() -> None:
    right = operated(12, 0.0)  # by 0.3 of 10 pixels
    assert np.array_equal(right[..., 3:], COLOURED[..., :-3]) and not right[..., :3].any()
    up = operated(13, 0.5 + 0.25 / 0.6)  # by 0.25 of 12 pixels
    assert np.array_equal(up[:, :, :-3], COLOURED[:, :, 3:]) and not up[:, :, -3:].any()


def test_bits_and_tones() -> None:
    assert np.array_equal(operated(6, 0.0), COLOURED & 0b11110000)
    assert np.array_equal(operated(6, 0.5), COLOURED & 0b11111100)
    assert np.array_equal(operated(11, 0.5), np.where(COLOURED < 128, COLOURED, 255 - COLOURED))
    darker = operated(1, 0.5)  # half of it
    assert np.abs(darker - COLOURED / 2).max() <= 1
    low = COLOURED // 2 + 30
    stretched = operated(0, 0.3, low)
    assert (stretched.min((2, 3)) == 0).all() and (stretched.max((2, 3)) >= 254).all()


def test_a_square_is_cut_out_last() -> None:
    same, largest = (5 + 0.5) / 14, 1 - 2**-53
    shares = np.tile([same, 0, same, 0, largest, 0.5, 0.5], (40, 1))
    holed = changed(COLOURED, shares, rand_augmented)
    is_hole = (holed == np.array([125, 123, 114])[:, None, None]).all(1)
    # half of the width, 10, in the middle
    expected = np.zeros((12, 10), bool)
    expected[3:8, 2:7] = True
    assert (is_hole == expected).all()
    assert np.array_equal(holed[:, :, ~expected], COLOURED[:, :, ~expected])


def test_a_crop_of_all_is_the_picture_itself_and_half_of_them_are_flipped() -> None:
    whole = np.tile([1 - 2**-53, 0.5, 0.9, 0.9], (40, 1))
    square = COLOURED[:, :, :10]
    for flip, expected in ((0.49, square), (0.5, square[..., ::-1])):
        shares = np.column_stack([whole, np.full(40, flip)])
        assert np.array_equal(changed(square, shares, resized_crop), expected)


def test_a_crop_is_a_part_and_no_larger_than_the_picture() -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 10, dtype=np.uint8), (500, 1, 24, 24))
    shares = np.random.default_rng(1).random((500, 5))
    shares[:, 4] = 0
    cut = changed(ramp, shares, resized_crop)[:, 0, 0].astype(int)
    widths = (cut[:, -1] - cut[:, 0]) / 230  # of the picture, where the crop begins anywhere
    assert (np.diff(cut) >= 0).all() and widths.max() <= 1
    # the least: 8 % of the area, three quarters as wide as high
    assert 0.15 < widths.min() < 0.35 and widths.max() > 0.9
