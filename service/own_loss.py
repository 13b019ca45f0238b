"""Holds a divergence of the user's own to the contract of the shipped ones."""

import sys
from pathlib import Path
from typing import Any

from service.errors import SpecError


def check_own(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one row a check of `module:function`, found in `folder` or installed: `check`,
    `holds`, `required`, `detail`. Raises `SpecError` when there is no such function."""
    from trainers.losses.contract import check
    from trainers.losses.custom import load

    if ":" not in name:
        raise SpecError(
            f"check-loss: must be written module:function, but got '{name}'. "
            "For example my_losses:my_divergence."
        )
    # A command's own folder is not where Python looks for modules.
    sys.path.insert(0, str(folder))
    try:
        return [vars(finding) for finding in check(load(name))]
    except ValueError as error:
        raise SpecError(str(error)) from error
    finally:
        sys.path.remove(str(folder))
