"""Files of runs: on this machine they are copied, from elsewhere MLflow gets them."""

from pathlib import Path
from typing import Any

import pytest

from service.record.artifacts import Artifacts, local_folder


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("/a b/c", "/a b/c"),
        ("file:///a%20b/100%25/c", "/a b/100%/c"),
        ("file:///what%3F/c%23", "/what?/c#"),
        ("file://localhost/a", "/a"),
        ("file:/a", "/a"),
        ("file://elsewhere/a", None),
        ("mlflow-artifacts:/1/r/artifacts", None),
        ("s3://bucket/r", None),
        ("relative/r", None),
    ],
)
def test_places_on_this_machine(place: str, folder: str | None) -> None:
    assert local_folder(place) == (None if folder is None else Path(folder))


def test_what_is_here_is_copied(tmp_path: Path) -> None:
    run, target = tmp_path / "run ä", tmp_path / "target"
    (run / "student" / "parts").mkdir(parents=True)
    (run / "student" / "parts" / "0").write_text("weights")
    (run / "trial.json").write_text("{}")
    target.mkdir()
    artifacts, place = Artifacts("http://nobody.invalid"), run.as_uri()
    assert sorted(artifacts.names("r", place)) == ["student", "trial.json"]
    assert artifacts.names("r", f"{place}/nowhere") == []
    for _ in range(2):
        copy = artifacts.download("r", place, "student", target)
        assert (copy / "parts" / "0").read_text() == "weights"
    assert artifacts.download("r", place, "trial.json", target) == target / "trial.json"
    nested = artifacts.download("r", place, "student/parts/0", tmp_path / "other")
    assert nested == tmp_path / "other" / "student" / "parts" / "0"
    assert nested.read_text() == "weights"
    with pytest.raises(FileNotFoundError, match="absent"):
        artifacts.download("r", place, "absent", target)


def test_what_is_elsewhere_is_mlflows_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        "service.record.client_reader.ClientReader.download",
        lambda self, *question: asked.append(question),
    )
    Artifacts("http://nobody.invalid").download("r", "s3://bucket/r", "trial.json", tmp_path)
    assert asked == [("r", "trial.json", tmp_path)]
