"""What reaches a terminal: no control characters, and something for each character."""

import io
import os
import subprocess
import sys

from rich.text import Text

from service.cli.app import Screen
from service.cli.best_table import ui_command
from service.cli.tables import table


def test_control_characters_of_labels_do_not_reach_the_terminal() -> None:
    file = io.StringIO()
    screen = Screen(file=file, force_terminal=True, color_system="standard", width=80)
    label = "\x1b]0;owned\x07\x1b[2J\x9b31mred\x08\x7f\u202eevil"
    screen.print(table("t", ("a", "b"), [(label, "x")]))
    screen.print(Text(f"error: {label}", style="red"))
    screen.print(label, markup=False, highlight=False)
    shown = file.getvalue()
    for bad in ("\x1b]0", "\x1b[2J", "\x9b", "\x08", "\x7f", "\u202e", "\x07"):
        assert bad not in shown
    assert "owned" in shown and "\x1b[31m" in shown  # Rich's own colour


def test_the_line_for_mlflows_page_is_quoted() -> None:
    assert ui_command("sqlite:////home/me/mlflow.db").endswith(" sqlite:////home/me/mlflow.db")
    assert ui_command("sqlite:////a b;rm/x").endswith(" 'sqlite:////a b;rm/x'")
    assert ui_command("http://me:hunter2@host") == "http://me:***@host"


def test_an_output_without_an_ellipsis_gets_something_else() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    for arguments in (["compare", "--help"], ["plan", "demo…"]):
        done = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode in (0, 2, 3), done.stderr
        assert b"Traceback" not in done.stderr
        assert (done.stdout + done.stderr).isascii()
