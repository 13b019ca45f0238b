"""Labelled images from every place a sweep may name, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from images_support import write_idx, write_like_fashion
from PIL import Image

from trainers.tasks.image_classification import images, places
from trainers.tasks.image_classification.images import Labelled
from trainers.trial.sources import DataSource

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 4, 5), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)
FASHION = Path(__file__).resolve().parents[5] / "shared/data/vision/fashion-mnist"


def source_of(train: object, **fields: object) -> DataSource:
    return DataSource.model_validate({"train": str(train), "validation": "builtin:digits"} | fields)


def write_pictures(folder: Path, *, mode: str = "L") -> Path:
    for number, pixels in enumerate(PIXELS):
        place = folder / f"class {LABELS[number]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert(mode).save(place / f"{number}.png")
    return folder


@pytest.mark.parametrize("end", ["", ".gz"])
def test_an_idx_file_is_read_with_the_labels_beside_it(tmp_path: Path, end: str) -> None:
    found = images.read(source_of(write_idx(tmp_path, PIXELS, LABELS, end=end)), "train")
    assert np.array_equal(found.pixels, PIXELS[:, None])
    assert found.labels.tolist() == LABELS.tolist()
    assert found.class_names == ["0", "1", "2"]


def test_a_folder_has_a_folder_of_pictures_for_each_class(tmp_path: Path) -> None:
    found = images.read(source_of(write_pictures(tmp_path / "pictures")), "train")
    assert found.class_names == ["class 0", "class 1", "class 2"]
    assert np.array_equal(found.pixels, PIXELS[[0, 3, 1, 4, 2, 5], None])
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_coloured_pictures_have_three_channels_and_grey_ones_beside_them_too(
    tmp_path: Path,
) -> None:
    folder = write_pictures(tmp_path / "pictures", mode="RGB")
    Image.fromarray(PIXELS[0]).save(folder / "class 0" / "0.png")
    found = images.read(source_of(folder), "train")
    assert found.pixels.shape == (6, 3, 4, 5)
    assert np.array_equal(found.pixels[0], np.stack([PIXELS[0]] * 3))


def test_pictures_of_several_sizes_need_one(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures")
    Image.fromarray(PIXELS[0].T).save(folder / "class 0" / "0.png")
    rule = r"all images must have one size, but .*0\.png has 4 x 5 pixels and .*3\.png 5 x 4"
    with pytest.raises(ValueError, match=rf"{rule}\. Set data\.image_size\."):
        images.read(source_of(folder), "train")
    found = images.read(source_of(folder, image_size=4), "train")
    assert found.pixels.shape == (6, 1, 4, 4)
    assert np.array_equal(found.pixels[1, 0], PIXELS[3][:, :4])  # the middle, from 0.5 rounded down


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_tables_of_datasets_are_read(tmp_path: Path, form: str) -> None:
    import datasets

    features = datasets.Features(
        {"img": datasets.Image(), "fine": datasets.ClassLabel(names=["ant", "bee", "cat"])}
    )
    rows = {"img": [Image.fromarray(one) for one in PIXELS], "fine": LABELS.tolist()}
    table = datasets.Dataset.from_dict(rows, features=features)
    place = tmp_path / ("saved" if form == "folder" else "table.parquet")
    table.save_to_disk(place) if form == "folder" else table.to_parquet(place)
    found = images.read(source_of(place), "train")
    assert np.array_equal(found.pixels, PIXELS[:, None])
    assert found.class_names == ["ant", "bee", "cat"]
    assert found.labels.tolist() == LABELS.tolist()
    with pytest.raises(ValueError, match=r"data\.label_column: it must name .* img, fine\. Set it"):
        images.read(source_of(place, label_column="coarse"), "train")


def test_the_built_in_digits_are_held_out_once_each() -> None:
    train, validation = (
        images.read(source_of("builtin:digits"), s) for s in ("train", "validation")
    )
    assert (len(train), len(validation)) == (1348, 449)
    assert train.pixels.shape[1:] == (1, 8, 8)
    assert train.pixels.max() == 255
    assert set(train.labels) == set(validation.labels) == set(range(10))


def test_fashion_mnist_is_read() -> None:
    if not FASHION.is_dir():
        pytest.skip(f"{FASHION} is absent")
    found = images.read(source_of(FASHION / "t10k-images-idx3-ubyte.gz"), "train")
    assert found.pixels.shape == (10_000, 1, 28, 28)
    assert np.bincount(found.labels).tolist() == [1000] * 10


def damage(content: bytes, kind: str) -> bytes:
    return {
        "cut": content[:-3],
        "longer": content + b"\0",
        "of floats": content[:2] + b"\x0d" + content[3:],
        "empty": b"",
        "half a gzip": gzip.compress(content)[:-12],
    }[kind]


@pytest.mark.parametrize("kind", ["cut", "longer", "of floats", "empty", "half a gzip"])
@pytest.mark.parametrize("which", ["images-idx3", "labels-idx1"])
def test_a_damaged_idx_file_is_named(tmp_path: Path, kind: str, which: str) -> None:
    place = write_idx(tmp_path, PIXELS, LABELS)
    damaged = tmp_path / f"train-{which}-ubyte"
    damaged.write_bytes(damage(damaged.read_bytes(), kind))
    with pytest.raises(ValueError, match=rf"data\.train: .*{which}-ubyte must .*again\."):
        images.read(source_of(place), "train")


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    place = write_idx(tmp_path, PIXELS, LABELS[:4])
    with pytest.raises(ValueError, match="must have as many entries, but got 6 and 4"):
        images.read(source_of(place), "train")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    place = write_idx(tmp_path, PIXELS, LABELS)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte is missing\. Put both"):
        images.read(source_of(place), "train")
    with pytest.raises(ValueError, match=r"data\.train: .*nothing must exist, but it does not"):
        images.read(source_of(tmp_path / "nothing"), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must have a folder of pictures for each class"):
        images.read(source_of(tmp_path / "empty"), "train")
    for place_of in ("builtin:letters", "s3://bucket/images"):
        with pytest.raises(ValueError, match=r"data\.train: it must be builtin:digits, an IDX"):
            images.read(source_of(place_of), "train")


def test_a_folder_of_idx_files_has_both_splits(tmp_path: Path) -> None:
    write_idx(tmp_path, PIXELS, LABELS)
    write_idx(tmp_path, PIXELS[:3], LABELS[:3], split="t10k", end=".gz")
    source = DataSource(train=str(tmp_path), validation=str(tmp_path))
    assert [len(images.read(source, name)) for name in ("train", "validation")] == [6, 3]
    named = DataSource(
        train=f"{tmp_path}/train-images-idx3-ubyte",
        validation=f"{tmp_path}/t10k-images-idx3-ubyte.gz",
    )
    for name in ("train", "validation"):
        assert places.fingerprint(source, name) == places.fingerprint(named, name)
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(
        ValueError,
        match=r"data\.validation: .* must hold t10k-images-idx3-ubyte, .* of images it has train-",
    ):
        images.read(source, "validation")


@pytest.mark.parametrize("name", ["fashion-mnist", "train-images-idx3-ubyte.gz"])
def test_where_fashion_mnist_is_to_be_had_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="must exist, but it does not") as caught:
        images.read(source_of(tmp_path / name), "train")
    there = write_like_fashion(tmp_path / "there")
    assert "github.com/zalandoresearch/fashion-mnist" in str(caught.value)
    assert all(file.name in str(caught.value) for file in there.iterdir())


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures")
    (folder / "class 1" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"class 1/1\.png must be a picture, but got"):
        images.read(source_of(folder), "train")


def test_a_label_outside_the_classes_is_named(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [Image.fromarray(one) for one in PIXELS], "label": [0, 1, -3, 0, 1, 2]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"label must be in 0 to 2, but image 2 .* has -3"):
        images.read(source_of(tmp_path / "t.parquet"), "train")


def test_both_splits_have_the_same_images_and_classes() -> None:
    one = Labelled(PIXELS[:, None], LABELS.astype(np.int64), ["ant", "bee", "cat"])
    images.check_same_classes(one, one.of(np.array([0, 1])))
    flat = Labelled(PIXELS[:, None, :3], one.labels, one.class_names)
    with pytest.raises(ValueError, match=r"shape of the training ones .*\(1, 4, 5\), but got"):
        images.check_same_classes(one, flat)
    other = Labelled(one.pixels, one.labels, ["ant", "cat", "dog"])
    with pytest.raises(ValueError, match="its classes must be the training ones, ant, bee, cat"):
        images.check_same_classes(one, other)


def test_the_fingerprint_follows_the_bytes(tmp_path: Path) -> None:
    place = write_idx(tmp_path, PIXELS, LABELS)
    before = places.fingerprint(source_of(place), "train")
    assert places.fingerprint(source_of(place), "train") == before
    write_idx(tmp_path, PIXELS, LABELS[::-1].copy())
    assert places.fingerprint(source_of(place), "train") != before
    folder = write_pictures(tmp_path / "pictures")
    before = places.fingerprint(source_of(folder), "train")
    (folder / "class 0" / "0.png").rename(folder / "class 1" / "0.png")
    assert places.fingerprint(source_of(folder), "train") != before
