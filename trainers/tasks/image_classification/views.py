"""Seeded views of images: crops and flips that depend on the view's number and the image alone, so
that every trial sees the same ones, in whatever order, and an interrupted epoch goes on with the
very same."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.tasks.image_classification.pictures import (
    Pixels,
    changed,
    rand_augmented,
    resized_crop,
)
from trainers.trial.fields import Augmentation

Numbers = NDArray[np.int64]
# One sixteenth of the pixels on each side, at least one: 4 of CIFAR's 32, as in its literature.
PADDED_SHARE = 8
# Steele, Lea and Flood 2014, as Vigna's splitmix64 has them: neighbouring numbers go in, and come
# out without anything in common.
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mixed(*numbers: Numbers | int) -> NDArray[np.uint64]:
    """Returns 64 random bits for each element of the numbers, which are broadcast together: the
    same bits for the same numbers, on every machine."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        state: Any = np.uint64(0)
        for number in numbers:
            state = (state ^ np.asarray(number).astype(np.uint64)) + np.uint64(_STEP)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(_SECOND)
            state = state ^ (state >> np.uint64(31))
    return np.atleast_1d(state)


def views(pixels: Pixels, draws: NDArray[np.uint64], augmentation: Augmentation) -> Pixels:
    """Returns a view of each of `pixels` [B, channels, height, width], decided by its random bits
    `draws` [B]. A crop is of the image with black pixels around it."""
    if augmentation == Augmentation.NONE:
        return pixels
    if augmentation == Augmentation.RESIZED_CROP_FLIP:
        return changed(pixels, _shares(draws, range(5)), resized_crop)
    cropped = _cropped(pixels, draws, flips=augmentation != Augmentation.CROP)
    if augmentation == Augmentation.RAND_AUGMENT:
        return changed(cropped, _shares(draws, range(3, 10)), rand_augmented)
    return cropped


def _cropped(pixels: Pixels, draws: NDArray[np.uint64], *, flips: bool) -> Pixels:
    height, width = pixels.shape[2:]
    pad_rows, pad_columns = padding(height), padding(width)
    around = ((0, 0), (0, 0), (pad_rows, pad_rows), (pad_columns, pad_columns))
    rows = _starts(mixed(draws.astype(np.int64), 0), pad_rows)[:, None] + np.arange(height)
    columns = _starts(mixed(draws.astype(np.int64), 1), pad_columns)[:, None] + np.arange(width)
    if flips:
        is_flipped = mixed(draws.astype(np.int64), 2) >> np.uint64(63) == 1
        columns = np.where(is_flipped[:, None], columns[:, ::-1], columns)
    images = np.arange(len(pixels))[:, None, None, None]
    channels = np.arange(pixels.shape[1])[None, :, None, None]
    taken = np.pad(pixels, around)[
        images, channels, rows[:, None, :, None], columns[:, None, None, :]
    ]
    return np.ascontiguousarray(taken)


def padding(size: int) -> int:
    """Returns the black pixels on each side of an image of `size` pixels that is to be cropped."""
    return max(1, size // PADDED_SHARE)


def _shares(draws: NDArray[np.uint64], numbers: range) -> NDArray[np.float64]:
    """For each image [B] and number [n] a share in [0, 1), [B, n]."""
    bits = mixed(draws.astype(np.int64)[:, None], np.array(numbers))
    shares: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return shares


def _starts(bits: NDArray[np.uint64], pad: int) -> Numbers:
    """A first row or column in 0 to 2 pad, each as likely as the others but for 2^-50."""
    return (bits % np.uint64(2 * pad + 1)).astype(np.int64)
