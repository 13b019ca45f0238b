"""The package of actions as callers see it: every module by name, loaded when it is named."""

import subprocess
import sys
from pathlib import Path

import pytest

from service import actions


def test_every_module_is_listed() -> None:
    folder = Path(actions.__path__[0])
    files = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert actions.__all__ == files
    assert [getattr(actions, name).__name__ for name in files] == [
        f"service.actions.{name}" for name in files
    ]


def test_an_unknown_module_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="has no module 'recrod'; it has .*, cache, cluster, "):
        actions.recrod  # type: ignore[attr-defined]  # noqa: B018


def test_no_module_is_loaded_before_it_is_named() -> None:
    code = (
        "import sys; from service import actions; "
        "print(*[name for name in sys.modules if name.startswith('service.actions.')]); "
        "actions.documents; print('service.actions.documents' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\nTrue\n"
