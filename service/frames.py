"""Results as tables of pandas, for notebooks."""

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pandas import DataFrame

T = TypeVar("T")


class Framed:
    """A result whose `to_json` gives rows."""

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the rows of `--json`."""
        raise NotImplementedError

    def to_frame(self) -> "DataFrame":
        """Returns the rows of `--json` as a table; what is nested gets columns such as
        `metrics.rouge_l`."""
        from pandas import json_normalize

        return json_normalize(self.to_json())


class Rows(Framed, list[T]):
    """Records as a list that is also a table."""

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the rows of `--json`."""
        return [row.to_json() for row in self]  # type: ignore[attr-defined]
