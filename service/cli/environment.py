"""The variables that a command goes by: this process's, and those of a profile."""

import os
from pathlib import Path

from service.cluster import profiles
from service.home import home_folder

PROFILE_VARIABLE = "KD_SWEEP_PROFILE"


def environment_with(profile: str | None) -> dict[str, str]:
    """Returns the variables of this process with what `profile` sets. Raises `SpecError` for an
    unknown one."""
    environment = dict(os.environ)
    if profile is None:
        return environment
    file = profiles.find_file(Path.cwd(), home_folder(environment))
    return environment | profiles.variables_of(profile, file, environment)
