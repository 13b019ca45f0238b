"""The variables that a command goes by: this process's, and those of a profile."""

import os
from pathlib import Path

from service.cluster import profiles
from service.errors import SpecError
from service.home import home_folder
from service.workspace import SERVER_VARIABLE

PROFILE_VARIABLE = "KD_SWEEP_PROFILE"


def environment_with(profile: str | None, server: str | None = None) -> dict[str, str]:
    """Returns the variables of this process with what `profile` sets, and the address of a service
    that was given. Raises `SpecError` for an unknown profile, or an empty address."""
    environment = dict(os.environ)
    if server is not None:
        if not server.strip():  # of a shell's variable that is not set; it must not mean "here"
            raise SpecError(
                "--server: must be the address of a service, but got nothing. Give one, or leave "
                "it out."
            )
        environment[SERVER_VARIABLE] = server
    if profile is None:
        return environment
    file = profiles.find_file(Path.cwd(), home_folder(environment))
    return environment | profiles.variables_of(profile, file, environment)
