"""A page that is open in a browser, and its picture where the environment asks for one."""

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome

TALLEST = 16_000  # pixels of a screenshot


@dataclass
class Shown:
    """A page that is open: what a browser says of it."""

    browser: Chrome

    def ask(self, expression: str) -> Any:
        return self.browser.execute_script(f"return ({expression})")

    def requests(self) -> list[str]:
        events = [
            json.loads(one["message"])["message"] for one in self.browser.get_log("performance")
        ]
        return [
            one["params"]["request"]["url"]
            for one in events
            if one["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        return [str(one["message"]) for one in self.browser.get_log("browser")]


def keep(browser: Chrome, name: str) -> None:
    """Takes a screenshot of the whole page where the environment asks for it."""
    target = os.environ.get("SCREENSHOTS")
    if not target:
        return
    width, height = browser.execute_script(
        "return [innerWidth, document.documentElement.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, TALLEST), "scale": 1}
    taken = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )
    Path(target).mkdir(parents=True, exist_ok=True)
    (Path(target) / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))
