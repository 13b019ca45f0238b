"""What `watch` and `logs` print with `--json`, a document in each line, as types."""

from dataclasses import fields
from typing import Any, Literal, get_type_hints

from pydantic import create_model

from service.actions.json_document import Document
from service.events import KINDS


class Begins(Document):
    """The first line of `watch`."""

    event: Literal["SweepBegins"]
    sweep_id: str
    num_trials: int


class Line(Document):
    """A line of a driver's log that is no event."""

    text: str


def _event_line(name: str, kind: type) -> Any:
    """Returns the type of an event's line: its name, and its fields."""
    hints = get_type_hints(kind)
    keys: dict[str, Any] = {"event": (Literal[name], ...)}
    keys |= {one.name: (hints[one.name], ...) for one in fields(kind)}
    return create_model(name, __base__=Document, __doc__=kind.__doc__, **keys)


Event: Any = Begins
for _name, _kind in KINDS.items():
    Event |= _event_line(_name, _kind)
