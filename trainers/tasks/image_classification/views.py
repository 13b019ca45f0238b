"""Seeded views of images: crops and flips that depend on the view's number and the image alone, so
that every trial sees the same ones, in whatever order, and an interrupted epoch goes on with the
very same."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
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
    bits = mixed(draws.astype(np.int64)[:, None], np.arange(3))
    rows, columns = _starts(bits[:, 0], pad_rows), _starts(bits[:, 1], pad_columns)
    framed = np.zeros((*pixels.shape[:2], height + 2 * pad_rows, width + 2 * pad_columns), np.uint8)
    framed[:, :, pad_rows : pad_rows + height, pad_columns : pad_columns + width] = pixels
    # All windows are there without a copy; one of each image is copied as a block, not by pixels.
    windows = sliding_window_view(framed, (height, width), axis=(2, 3))
    taken = np.ascontiguousarray(windows[np.arange(len(pixels)), :, rows, columns])
    if flips:
        is_flipped = bits[:, 2] >> np.uint64(63) == 1
        taken[is_flipped] = taken[is_flipped, :, :, ::-1]
    return taken


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
