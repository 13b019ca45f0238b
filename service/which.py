"""Which sweep a user means."""

from collections.abc import Iterable

from service.words import LATEST


def sweeps_meant(reference: str, known: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the ids of the sweeps that `reference` may mean, of `known` (id, name), the newest
    first: one when it is clear.

    An exact word beats a beginning: `latest`, else an id, else a name, of which the newest sweep
    counts, else the beginning of an id.
    """
    sweeps = list(known)
    if reference == LATEST:
        return [sweep_id for sweep_id, _ in sweeps[:1]]
    if any(sweep_id == reference for sweep_id, _ in sweeps):
        return [reference]
    named = [sweep_id for sweep_id, name in sweeps if name == reference]
    begun = [sweep_id for sweep_id, _ in sweeps if sweep_id.startswith(reference)]
    return named[:1] or list(dict.fromkeys(begun))
