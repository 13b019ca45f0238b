"""Seeded views against an oracle that cuts one image at a time."""

import numpy as np
import pytest

from trainers.tasks.image_classification.views import mixed, padding, views
from trainers.trial.fields import Augmentation

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(1, 256, (64, 3, 8, 10), dtype=np.uint8)
DRAWS = mixed(np.arange(64), 5)


def all_views_of(image: np.ndarray, *, flips: bool) -> list[bytes]:
    """Each crop of one image in its black frame, by slicing."""
    top, left = padding(image.shape[1]), padding(image.shape[2])
    framed = np.zeros((3, image.shape[1] + 2 * top, image.shape[2] + 2 * left), np.uint8)
    framed[:, top:-top, left:-left] = image
    found = []
    for row in range(2 * top + 1):
        for column in range(2 * left + 1):
            cut = framed[:, row : row + image.shape[1], column : column + image.shape[2]]
            found += [cut.tobytes(), cut[:, :, ::-1].tobytes()] if flips else [cut.tobytes()]
    return found


@pytest.mark.parametrize("kind", [Augmentation.CROP, Augmentation.CROP_FLIP])
def test_each_view_is_a_crop_of_its_own_image(kind: Augmentation) -> None:
    made = views(IMAGES, DRAWS, kind)
    for image, view in zip(IMAGES, made, strict=True):
        assert view.tobytes() in all_views_of(image, flips=kind == Augmentation.CROP_FLIP)


def test_all_crops_and_flips_come_up_alike() -> None:
    count = 9000
    image = np.broadcast_to(IMAGES[:1], (count, *IMAGES.shape[1:]))
    made = views(image, mixed(np.arange(count)), Augmentation.CROP_FLIP)
    possible = all_views_of(IMAGES[0], flips=True)
    assert len(possible) == 18
    seen = [view.tobytes() for view in made]
    shares = np.array([seen.count(one) for one in possible]) / count
    # 18 kinds, each seen 500 times on average: five standard deviations are 112.
    assert np.abs(shares - 1 / 18).max() * count < 112


def test_without_an_augmentation_the_images_stay() -> None:
    assert views(IMAGES, DRAWS, Augmentation.NONE) is IMAGES


def test_a_view_depends_on_its_own_draw_alone() -> None:
    made = views(IMAGES, DRAWS, Augmentation.CROP_FLIP)
    for chosen in (np.array([7]), np.array([40, 3, 7])):
        again = views(IMAGES[chosen], DRAWS[chosen], Augmentation.CROP_FLIP)
        assert np.array_equal(again, made[chosen])


def test_the_bits_are_those_of_splitmix64() -> None:
    # The first output of Vigna's reference program for the seed 1234567.
    assert mixed(1234567)[0] == 6457827717110365317


def test_each_number_changes_half_of_the_bits() -> None:
    base = mixed(np.arange(2000), 3)
    for other in (mixed(np.arange(2000), 4), mixed(np.arange(1, 2001), 3)):
        flipped = np.unpackbits((base ^ other).view(np.uint8)).mean()
        assert flipped == pytest.approx(0.5, abs=0.01)
    assert len(np.unique(base)) == 2000
