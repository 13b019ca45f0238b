"""A headless Chromium for the tests of pages."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing() -> str | None:
    """Why no browser can be started here, or None."""
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return None
    return os.environ.get("KD_SWEEP_NO_BROWSER") or (
        "no Chromium with its driver is installed: make test-browser installs them"
    )


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The browser, with a profile of its own and what it loads and complains of kept."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    profile: Path = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield browser
    browser.quit()
