"""What a search's best configs come to on seeds that it never saw: which are to be trained again,
and what the study that did so shows. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.record.records import RunRecord
from service.results.evidence import Evidence
from service.results.findings import Confirmation, Outcome, Unbalanced
from service.results.standings import SEED, Standing, pair_by_seed
from service.states import TrialState


def contenders(evidence: Evidence, top: int) -> tuple[list[Standing], Standing | None]:
    """Returns the `top` best searched configs, or as many as completed, and the best control among
    the other configs, None where there is none."""
    metric = evidence.objectives[0][0]
    ranked = evidence.ranked(metric)
    winners = [one for one in ranked if one.is_searched][:top]
    controls = [one for one in ranked if one.is_control and one not in winners]
    sign = evidence.sign(metric)
    return winners, max(controls, key=lambda one: sign * one.mean, default=None)


def confirmations(outcome: Outcome, evidence: Evidence) -> Iterator[Confirmation]:
    """Yields what fresh seeds say of a search's winner; nothing of a study, whose cells have them,
    or where the sweep is not known."""
    sweep = evidence.sweep
    if sweep is None or sweep.study is not None:
        return
    metric, confirming = outcome.winner.metric, evidence.confirming
    if confirming is None:
        yield Confirmation(sweep.sweep_id, outcome.winner.name)
        return
    tried = values_of(outcome.winner.typical)
    winner = [one for one in confirming.records if values_of(one) == tried]
    controls = [one for one in confirming.records if one.label is not None]
    test = pair_by_seed(_completed(controls), _completed(winner), metric)
    yield Confirmation(
        sweep.sweep_id,
        outcome.winner.name,
        study=confirming.study,
        is_in_study=bool(winner),
        control=controls[0].label if controls else None,
        test=test if test is not None and test.num_pairs > 1 else None,
        sign=evidence.sign(metric),
    )


def unbalanced(evidence: Evidence) -> Iterator[Unbalanced]:
    """Yields that cells of a study lack seeds that it was to have."""
    size = evidence.sweep.study if evidence.sweep else None
    if size is None:
        return
    seeds: dict[str, set[int]] = {}
    for one in evidence.records:
        if one.cell is not None:
            done = seeds.setdefault(one.cell, set())
            done |= {one.seed} if one.state is TrialState.COMPLETED else set()
    short = {cell: len(done) for cell, done in seeds.items() if len(done) < size["seeds"]}
    absent = max(0, size["cells"] - len(seeds))
    if short or absent:
        yield Unbalanced(tuple(short.items()), absent, size["cells"], size["seeds"])


def values_of(record: RunRecord) -> Mapping[str, Any]:
    """Returns the hyperparameters of a trial's config, which its seed is none of."""
    return {name: value for name, value in record.hyperparameters.items() if name != SEED}


def _completed(records: Sequence[RunRecord]) -> list[RunRecord]:
    return [one for one in records if one.state is TrialState.COMPLETED]
