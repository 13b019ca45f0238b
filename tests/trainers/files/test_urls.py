"""Folders and URLs of stores, told apart and opened alike."""

from pathlib import Path

import pytest

from trainers.files.urls import file_system, is_url


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/prefix", True),
        ("file:///nfs/caches", True),
        ("/nfs/caches", False),
        ("a:b", False),
    ],
)
def test_a_url_names_its_protocol(place: str, expected: bool) -> None:
    assert is_url(place) == expected


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "file://{}/"])
def test_a_path_in_a_file_system_has_no_slash_at_its_end(tmp_path: Path, form: str) -> None:
    (tmp_path / "one").write_text("1")
    system, root = file_system(form.format(tmp_path))
    assert root == str(tmp_path)
    assert system.cat_file(f"{root}/one") == b"1"


def test_listings_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems are shared by a process, and those of object stores keep what they listed."""
    system, _ = file_system("memory://caches")
    forgotten = []
    monkeypatch.setattr(system, "invalidate_cache", lambda: forgotten.append(True))
    assert file_system("memory://caches")[0] is system
    assert forgotten == [True]
