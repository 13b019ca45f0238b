"""Where everything that a user makes is stored."""

import os
from pathlib import Path

HOME_VARIABLE = "KD_SWEEP_HOME"


def home_folder() -> Path:
    """Returns the folder of everything that a user makes: KD_SWEEP_HOME, or ~/.kd-sweep."""
    return Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".kd-sweep").expanduser().resolve()
