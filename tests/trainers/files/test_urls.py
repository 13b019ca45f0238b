"""Folders and URLs of stores, told apart and opened alike."""

import sys
from pathlib import Path

import pytest

from trainers.files.urls import file_system, holds_secret, is_url, secret_places, without_secrets


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://optuna:hunter2@db/optuna", "postgresql://optuna:***@db/optuna"),
        ("http://:hunter2@host", "http://:***@host"),
        ("got https://me:hun:ter2@host/x: refused", "got https://me:***@host/x: refused"),
        ("https://hf_abcdef@host", "https://***@host"),
        ("https://0123456789abcdef01234567@host", "https://***@host"),
        ("https://host/x?token=hunter2&a=1", "https://host/x?token=***&a=1"),
        ("s3://b/p?AWS-Secret-Access-Key=hunter2", "s3://b/p?AWS-Secret-Access-Key=***"),
        ("https://x/?X-Amz-Signature=hunter2", "https://x/?X-Amz-Signature=***"),
        ("postgresql://db/o?user=me&password=hunter2", "postgresql://db/o?user=me&password=***"),
    ],
)
def test_secrets_of_urls_are_hidden(text: str, expected: str) -> None:
    assert without_secrets(text) == expected
    assert without_secrets(expected) == expected
    assert holds_secret(text) and not holds_secret(expected)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://optuna@db/optuna",
        "https://me@mlflow.example",
        "sqlite:////home/me@home/mlflow.db",
        "https://host/x?page=2",
        "loss must be token=3",
        "",
    ],
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert without_secrets(text) == text


def test_secrets_are_found_anywhere_in_a_document() -> None:
    document = {"a": [{"b": "x"}, {"b": "http://u:p@h"}], "c": 1, "d": "http://h/?token=1"}
    assert list(secret_places(document)) == ["a.1.b", "d"]


@pytest.mark.parametrize("url", ["nothing://bucket"])
def test_a_url_that_nothing_here_can_open_is_named(url: str) -> None:
    with pytest.raises(ValueError, match=f"{url}: (needs a package|must be a folder or a URL)"):
        file_system(url)


def test_a_missing_package_of_a_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match="s3://bucket/x: needs a package.*s3fs"):
        file_system("s3://bucket/x")
