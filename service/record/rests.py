"""How long a run rested: a sweep or trial that ended, or whose driver was killed, and that was gone
on with later, took no longer for the time in between.

It is a tag of the run: the milliseconds in all, and until when, so that an entry which is delivered
twice counts once.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from service.record import tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KINDS = (tags.KIND_TRIAL, tags.KIND_SWEEP)
LEFT = f"attributes.status = 'RUNNING' and tags.`{tags.SWEEP_ID}` = '{{}}'"


def rested_ms(known: Mapping[str, str]) -> int:
    """Returns how long a run with these tags rested. Raises `ValueError` for an edited tag."""
    return _read(known)[0]


def with_rest(known: Mapping[str, str], since_ms: int, until_ms: int) -> dict[str, str]:
    """Returns the tag of a run that rested once more; empty where that is counted."""
    total, until = _read(known)
    if until_ms <= until:
        return {}
    return {tags.RESTED: f"{total + max(0, until_ms - max(since_ms, until))} {until_ms}"}


def note_rests(client: "MlflowClient", experiment_id: str, sweep_id: str, *, at_ms: int) -> None:
    """Has the runs of a sweep that a killed driver left running have rested from when a trial was
    last heard of until now."""
    found = client.search_runs([experiment_id], LEFT.format(sweep_id), max_results=1000)
    kinds = {kind: [one for one in found if one.data.tags.get(tags.KIND) == kind] for kind in KINDS}
    heard = {one.info.run_id: _last_heard_of(one) for one in kinds[tags.KIND_TRIAL]}
    newest = max(heard.values(), default=at_ms)
    for run in [*kinds[tags.KIND_TRIAL], *kinds[tags.KIND_SWEEP]]:
        since = heard.get(run.info.run_id, newest)
        for name, text in with_rest(run.data.tags, since, at_ms).items():
            client.set_tag(run.info.run_id, name, text)


def _last_heard_of(run: "Run") -> int:
    # The only public form in which a run has the times of its metrics without their histories.
    metrics = run.data.to_proto().metrics
    return max((int(one.timestamp) for one in metrics), default=int(run.info.start_time))


def _read(known: Mapping[str, str]) -> tuple[int, int]:
    total, _, until = known.get(tags.RESTED, "0 0").partition(" ")
    return int(total), int(until)
