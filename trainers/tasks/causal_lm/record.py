"""One example of instruction data; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Record:
    """One example: an instruction (with an optional input) or chat messages, the response to learn,
    and all accepted answers (`references`, the response among them when no others were given)."""

    instruction: str
    response: str
    input: str = ""
    references: tuple[str, ...] = ()
    messages: tuple[Mapping[str, str], ...] | None = field(default=None)

    @property
    def answers(self) -> tuple[str, ...]:
        """All accepted answers."""
        return self.references or (self.response,)
