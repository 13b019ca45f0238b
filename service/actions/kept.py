"""A record that many ask: what it said is kept for as long as nothing changes in it."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from service.actions import record
from service.record.records import SweepRecord
from service.record.store import is_delivered
from service.record.version import StoreVersion
from service.workspace import Workspace

MOST = 16  # sweeps whose trials are kept


@dataclass
class Kept:
    """Rows as the record had them at `version`. `parts`: what was made of some of them, which is
    thrown away with them."""

    version: tuple[int, int] | None
    rows: list[Any]
    parts: dict[Any, Any] = field(default_factory=dict)


class KeptRecord:
    """The record of a workspace, for all threads. Raises as `service.actions.record` does."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._store_version = StoreVersion(workspace.tracking_uri)
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._asking: defaultdict[str, Lock] = defaultdict(Lock)

    def sweeps(self) -> list[SweepRecord]:
        """Returns the recorded sweeps, the newest first."""
        return self._ask("", lambda: record.list_sweeps(self._workspace)).rows

    def trials(self, sweep_id: str) -> Kept:
        """Returns a recorded sweep's trials by number."""
        return self._ask(sweep_id, lambda: record.list_trials(sweep_id, self._workspace).trials)

    def _ask(self, key: str, ask: Callable[[], list[Any]]) -> Kept:
        with self._asking[key]:  # who comes meanwhile gets the same answer
            version = self._version()  # from before it is read, so that no change is missed
            known = self._kept.get(key)
            if known is not None and version is not None and known.version == version:
                return known
            found = Kept(version, ask())
            # Taken out first, it goes in as the newest, which no other thread drops in between.
            self._kept.pop(key, None)
            self._kept[key] = found
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
            return found

    def _version(self) -> tuple[int, int] | None:
        place = self._workspace
        # What waits for the store is delivered by whoever reads it next.
        return self._store_version() if is_delivered(place.tracking_uri, place.home) else None
