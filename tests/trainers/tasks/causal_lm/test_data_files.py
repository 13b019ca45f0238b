"""Several files as one split: a pattern, and a folder as it was cloned from a hub."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from training_support import write_lines

from trainers.tasks.causal_lm import records
from trainers.trial.sources import DataSource


def row(name: str) -> dict[str, Any]:
    return {"instruction": name, "output": "yes"}


def write_parquet(path: Path, names: str) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row(name) for name in names]), path)
    return path


def source(place: Path, **changed: Any) -> DataSource:
    return DataSource(train=str(place), validation=str(place), **changed)


def read(place: Path, split: str = "train", **changed: Any) -> str:
    return "".join(r.instruction for r in records.read(source(place, **changed), split, place))


def test_a_pattern_names_its_files_in_order(tmp_path: Path) -> None:
    for number, names in enumerate(("ab", "c", "d")):
        write_parquet(tmp_path / f"train-{number}.parquet", names)
    (tmp_path / "folder.parquet").mkdir()
    assert read(tmp_path / "train-*.parquet") == "abcd"
    assert read(tmp_path / "**" / "*.parquet") == "abcd"
    assert read(tmp_path / "train-[12].parquet") == "cd"
    write_lines(tmp_path / "b.jsonl", [row("f"), {"instruction": "x"}])
    with pytest.raises(ValueError, match=r"b\.jsonl, line 2: 'output' must be text"):
        read(tmp_path / "*.jsonl")


def test_a_pattern_that_nothing_matches_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.train: the file must exist, but .*\*\.parquet is"):
        read(tmp_path / "*.parquet")


def test_a_file_of_such_a_name_is_itself(tmp_path: Path) -> None:
    write_lines(tmp_path / "[ab].jsonl", [row("a")])
    assert read(tmp_path / "[ab].jsonl") == "a"


def cloned(folder: Path) -> Path:
    write_parquet(folder / "data" / "train-00000-of-00002.parquet", "ab")
    write_parquet(folder / "data" / "train-00001-of-00002.parquet", "c")
    write_parquet(folder / "data" / "validation-00000-of-00001.parquet", "d")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Words\n")
    return folder


def test_a_cloned_folder_has_its_splits(tmp_path: Path) -> None:
    folder = cloned(tmp_path / "words")
    assert (read(folder), read(folder, "validation")) == ("abc", "d")
    with pytest.raises(ValueError, match=r"words must hold the split 'dev', but got train, val"):
        read(folder, "validation", validation_split="dev")


def test_a_cloned_folder_has_its_configs(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    for name in ("en", "fr"):
        write_lines(tmp_path / "w" / f"{name}.jsonl", [row(name)])
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.jsonl\n"
        for name in ("en", "fr")
    )
    (tmp_path / "w" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert read(tmp_path / "w", config_name="fr") == "fr"
    with pytest.raises(ValueError, match=r"Config name is missing.*'en', 'fr'.*data\.config_name"):
        read(tmp_path / "w")


def test_the_fingerprint_follows_the_files_and_not_the_folder(tmp_path: Path) -> None:
    folder = cloned(tmp_path / "words")
    before = records.fingerprint(source(folder), "train")
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert records.fingerprint(source(moved), "train") == before
    assert records.fingerprint(source(folder), "validation") != before
    write_parquet(moved / "data" / "train-00001-of-00002.parquet", "x")
    assert records.fingerprint(source(moved), "train") != before
    pattern = source(folder / "data" / "train-*.parquet")
    assert records.fingerprint(pattern, "train") == before
