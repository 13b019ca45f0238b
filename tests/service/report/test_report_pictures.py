"""Charts as files: refused in words where what draws them is not there."""

import sys
from pathlib import Path

import pytest
from report_support import search, source_of

from service.errors import PlanError
from service.report import pictures
from service.report.pictures import browser, write_pictures
from service.report.sections import make_page


def test_without_kaleido_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(PlanError, match=r"needs kaleido, .* pip install 'kd-sweep\[pictures\]'"):
        write_pictures(make_page(source_of(search(3))), tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="--pictures .*file/x: each chart must be drawn there"):
        write_pictures(make_page(source_of(search(3))), tmp_path / "file" / "x")


def test_a_page_without_charts_needs_no_browser(tmp_path: Path) -> None:
    assert write_pictures(make_page(source_of([])), tmp_path) == ()


def test_the_browser_is_the_named_one_else_one_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures.shutil, "which", {"chromium": "/usr/bin/chromium"}.get)
    monkeypatch.delenv(pictures.BROWSER_VARIABLE, raising=False)
    assert browser() == "/usr/bin/chromium"
    monkeypatch.setenv(pictures.BROWSER_VARIABLE, "/opt/chrome")
    assert browser() == "/opt/chrome"
    monkeypatch.delenv(pictures.BROWSER_VARIABLE)
    monkeypatch.setattr(pictures.shutil, "which", lambda name: None)
    assert browser() is None
