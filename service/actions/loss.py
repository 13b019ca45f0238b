"""Whether a divergence of the user's own keeps what sweeps require of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.spec.file import apply_override
from service.workspace import Workspace


@dataclass(frozen=True)
class LossCheck:
    """The checks of one function: `check`, `holds`, `required` and `detail` each."""

    function: str
    rows: list[dict[str, Any]]

    @property
    def is_usable(self) -> bool:
        """Whether a sweep takes the function."""
        return all(row["holds"] for row in self.rows if row["required"])

    def to_json(self) -> list[dict[str, Any]]:
        """Returns one row a check."""
        return self.rows


def check_loss(function: str, workspace: Workspace, *, parameters: Sequence[str] = ()) -> LossCheck:
    """Returns how `module:function`, with parameters `name=value`, does in the contract tests of
    the shipped divergences. Raises `SpecError` when there is no such function, or it takes others.
    """
    from service.own_code.check import check_own

    given: dict[str, Any] = {}
    for parameter in parameters:
        apply_override(given, parameter)
    return LossCheck(function, check_own(function, workspace.folder, given))
