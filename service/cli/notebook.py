"""Shows a running sweep in a notebook: one panel below the cell, drawn anew while the sweep runs.

Not Rich's own live display, which needs `ipywidgets` in the kernel and in the page that shows it.
"""

import threading
from collections.abc import Callable
from contextvars import copy_context
from io import StringIO
from typing import Any

from rich.console import RenderableType

from service.cli.app import Screen

EVERY_S = 0.5
WIDTH = 100
HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;">{code}</pre>'


class NotebookPanel:
    """What a function returns, shown from `start` on and at its last when `stop` is called."""

    def __init__(self, get_renderable: Callable[[], RenderableType]) -> None:
        self._get_renderable = get_renderable
        self._handle: Any = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Shows the panel below the cell that is running."""
        from IPython.display import display

        self._handle = display(self._bundle(), raw=True, display_id=True)
        # In this context, from which the kernel tells to which cell an output belongs.
        run = copy_context().run
        self._thread = threading.Thread(target=run, args=(self._keep_drawing,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Draws it a last time."""
        self._over.set()
        assert self._thread is not None, "it was started"
        self._thread.join()
        self._draw()

    def _keep_drawing(self) -> None:
        while not self._over.wait(EVERY_S):
            self._draw()

    def _draw(self) -> None:
        self._handle.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        return bundle(self._get_renderable())


def bundle(renderable: RenderableType) -> dict[str, str]:
    """Returns what Rich shows as HTML, and as text for what shows none."""
    console = Screen(record=True, file=StringIO(), width=WIDTH, force_jupyter=False)
    console.print(renderable)
    html = console.export_html(code_format=HTML, inline_styles=True, clear=False)
    return {"text/html": html, "text/plain": console.export_text()}
