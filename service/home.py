"""Where everything that a user makes is stored."""

import os
from collections.abc import Mapping
from pathlib import Path

HOME_VARIABLE = "KD_SWEEP_HOME"


def home_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of everything that a user makes: KD_SWEEP_HOME, or ~/.kd-sweep."""
    named = environment.get(HOME_VARIABLE)
    return Path(named or Path.home() / ".kd-sweep").expanduser().resolve()
