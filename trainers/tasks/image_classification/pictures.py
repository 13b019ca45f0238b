"""Views that are made of one picture after another, by Pillow: parts that are enlarged, and
RandAugment. What is done to an image is decided by its random bits alone."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from PIL.Image import Image as Picture

Pixels = NDArray[np.uint8]
# Shares in [0, 1) of one image, as many as `change` asks for.
Shares = Sequence[float]

# Inception's crops (Szegedy et al. 2015): share of the image's area, and width over height.
SMALLEST_AREA, FLATTEST = 0.08, 4 / 3
NUM_OPERATIONS = 2
# FixMatch's mean colour, which the square that is cut out gets, and its largest side.
GREY, GREY_RGB = 123, (125, 123, 114)
LARGEST_HOLE = 0.5


def changed(
    pixels: Pixels, shares: NDArray[np.float64], change: Callable[[Picture, Shares], Picture]
) -> Pixels:
    """Returns `change` of each of `pixels` [B, channels, height, width], of one channel or three,
    with the shares [B, n] that are its own."""
    # Pillow has the channels last, and none where there is one.
    is_grey = pixels.shape[1] == 1
    stored = pixels[:, 0] if is_grey else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    made = np.empty_like(stored)
    for number, own in enumerate(shares.tolist()):
        made[number] = np.asarray(change(Image.fromarray(stored[number]), own))
    return made[:, None] if is_grey else np.ascontiguousarray(made.transpose(0, 3, 1, 2))


def resized_crop(picture: Picture, shares: Shares) -> Picture:
    """Returns a part of the picture at the picture's size, flipped or not: 8 to 100 % of its area,
    width over height in 3/4 to 4/3 but where a side would be longer than the picture's. shares:
    five."""
    width, height = picture.size
    area = (SMALLEST_AREA + (1 - SMALLEST_AREA) * shares[0]) * width * height
    ratio = FLATTEST ** (2 * shares[1] - 1)
    wide = min(width, max(1, round(math.sqrt(area * ratio))))
    high = min(height, max(1, round(math.sqrt(area / ratio))))
    left = int(shares[2] * (width - wide + 1))
    top = int(shares[3] * (height - high + 1))
    box = (left, top, left + wide, top + high)
    taken = picture.resize((width, height), Image.Resampling.BILINEAR, box)
    return taken.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if shares[4] >= 0.5 else taken


def rand_augmented(picture: Picture, shares: Shares) -> Picture:
    """Returns the picture after two operations of fourteen, each of a strength drawn from its whole
    range, and with a square cut out: RandAugment (Cubuk et al. 2020) as FixMatch has it (Sohn et
    al. 2020), and MLKD's code after it. shares: seven."""
    for number in range(NUM_OPERATIONS):
        which, strength = shares[2 * number], shares[2 * number + 1]
        picture = OPERATIONS[int(which * len(OPERATIONS))](picture, strength)
    return _with_hole(picture, shares[2 * NUM_OPERATIONS :])


def _with_hole(picture: Picture, shares: Shares) -> Picture:
    """The picture with a square of up to half its width in grey, its middle anywhere."""
    width, height = picture.size
    side = LARGEST_HOLE * shares[0] * width
    left, top = (
        int(max(0.0, share * size - side / 2))
        for share, size in ((shares[1], width), (shares[2], height))
    )
    box = (left, top, min(width, round(left + side)), min(height, round(top + side)))
    holed = picture.copy()
    holed.paste(GREY if picture.mode == "L" else GREY_RGB, box)
    return holed


# -- the operations, each with a strength in [0, 1)


def _same(picture: Picture, strength: float) -> Picture:
    return picture


def _contrast_stretched(picture: Picture, strength: float) -> Picture:
    return ImageOps.autocontrast(picture)


def _equalised(picture: Picture, strength: float) -> Picture:
    return ImageOps.equalize(picture)


def _posterised(picture: Picture, strength: float) -> Picture:
    return ImageOps.posterize(picture, int(4 + 4 * strength))


def _solarised(picture: Picture, strength: float) -> Picture:
    return ImageOps.solarize(picture, int(256 * strength))


def _enhanced(name: str) -> Callable[[Picture, float], Picture]:
    """Less of what Pillow's class of that name enhances: 5 to 95 % are left."""

    def operation(picture: Picture, strength: float) -> Picture:
        enhanced: Picture = getattr(ImageEnhance, name)(picture).enhance(0.05 + 0.9 * strength)
        return enhanced

    return operation


def _rotated(picture: Picture, strength: float) -> Picture:
    """By up to 30 degrees."""
    return picture.rotate(60 * strength - 30)


def _moved(place: int, *, by_side: int | None = None) -> Callable[[Picture, float], Picture]:
    """Sheared, or shifted by a share of side number `by_side`, by -0.3 to 0.3; `place`: of that
    number in the matrix [x, y, 1] to [x, y]."""

    def operation(picture: Picture, strength: float) -> Picture:
        matrix = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        size = 1 if by_side is None else picture.size[by_side]
        matrix[place] = (0.6 * strength - 0.3) * size
        return picture.transform(picture.size, Image.Transform.AFFINE, matrix)

    return operation


OPERATIONS: tuple[Callable[[Picture, float], Picture], ...] = (
    _contrast_stretched,
    _enhanced("Brightness"),
    _enhanced("Color"),
    _enhanced("Contrast"),
    _equalised,
    _same,
    _posterised,
    _rotated,
    _enhanced("Sharpness"),
    _moved(1),
    _moved(3),
    _solarised,
    _moved(2, by_side=0),
    _moved(5, by_side=1),
)
