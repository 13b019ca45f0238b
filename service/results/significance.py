"""What repeated seeds say of configs against a control: differences with intervals, corrected for
how many there are, ranks, crossovers, importances. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from search_spaces.importance import importances
from search_spaces.space import SearchSpace
from service.errors import NotRecorded, SpecError
from service.record import tags
from service.record.metric_names import plain_name
from service.record.records import RunRecord, SweepRecord
from service.results.by_example import ReadScores, by_example
from service.results.crossovers import CurvePair, crossovers
from service.results.evidence import Evidence
from service.results.rates import tuned_at_edges
from service.results.standings import Standing, by_config, standings
from service.states import TrialState
from service.statistics.examples import ExampleTest
from service.statistics.family import Difference, Family, against_control
from service.statistics.intervals import MeanInterval
from service.statistics.ranks import Ranking, rank_cells
from service.words import probability
from trainers.nearest import nearest
from trainers.trial.metrics import MAXIMIZE, MINIMIZE, sign_of

HEAD = "compare --significance"
SHOWN = 8


@dataclass(frozen=True)
class Entry:
    """Those trials of a sweep that are compared; inputs: fingerprints of what its trials read, by
    name, empty where they are not known; tuning: the trials that chose learning rates for them."""

    sweep: SweepRecord
    records: tuple[RunRecord, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)
    tuning: tuple[RunRecord, ...] = ()


@dataclass(frozen=True)
class Significance:
    """Configs against `family.control`, the best first, under one metric. direction: which way is
    better, empty where neither is (then in the order of trials). ranking: None below three configs
    that share two seeds; importances: hyperparameter → share, of one sweep with twenty trials or
    more; notes: what to know of how it was compared, in sentences, beside `family.notes`; examples:
    config → its test by single examples, None where that was not asked for."""

    metric: str
    direction: str
    family: Family
    ranking: Ranking | None
    crossovers: tuple[CurvePair, ...]
    importances: dict[str, float]
    notes: tuple[str, ...]
    examples: dict[str, ExampleTest] | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row a config, without the control."""
        tests = self.examples or {}
        return [
            _row(one, self.direction)
            | {"by_example": asdict(tests[one.name]) if one.name in tests else None}
            for one in self.family.differences
        ]

    def head(self) -> str:
        """Returns what is compared with what."""
        mean = self.family.control_mean
        text = f"{self.direction} {self.metric}, against {self.family.control}: {mean.mean:.4g}"
        if mean.low is None or mean.high is None:
            return f"{text}, one seed, so no interval".strip()
        return f"{text} (95 % interval {mean.low:.4g} to {mean.high:.4g}), {mean.num} seeds".strip()

    def lines(self) -> list[str]:
        """Returns what the seeds say beside the rows, in sentences: ranks, crossovers, importances,
        and what to know."""
        return [
            *([] if self.ranking is None else _ranks(self.ranking)),
            *(pair.sentence() for pair in self.crossovers),
            *([_shares(self.importances)] if self.importances else []),
            *self.notes,
            *self.family.notes,
            *([] if self.examples is None else _about_examples(self.examples)),
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns it as one JSON object."""
        ranking = self.ranking
        return {
            "metric": self.metric,
            "direction": self.direction or None,
            "control": {"name": self.family.control} | _mean(self.family.control_mean),
            "num_tested": self.family.num_tested,
            "configs": self.rows(),
            "ranking": None
            if ranking is None
            else {
                "mean_ranks": ranking.mean_ranks,
                "seeds": list(ranking.seeds),
                "p_value": ranking.p_value,
                "critical_difference": ranking.critical_difference,
                "groups": [list(group) for group in ranking.groups],
                "left_out": list(ranking.left_out),
            },
            "crossovers": [one.to_json() for one in self.crossovers],
            "importances": self.importances,
            "notes": [*self.notes, *self.family.notes],
        }


def significance(
    entries: Sequence[Entry],
    *,
    metric: str | None = None,
    control: RunRecord | None = None,
    read: ReadScores | None = None,
) -> Significance:
    """Returns how every config compares with the control, by the seeds that both have.

    metric: each sweep's objective by default; control: the config of this trial, one of the
    entries'; by default the best of the controls with most seeds, else the first config; read:
    reads the scores of single examples, to compare by them as well. Raises `SpecError` where
    sweeps have different objectives and no metric is named, for a metric that was not logged, and
    for fewer than two configs; `NotRecorded` where no trial completed.
    """
    name, direction = _judged_by(entries, metric)
    found = _standings(entries, name, direction)
    if len(found) < 2:
        raise SpecError(
            f"{HEAD}: at least two configs must have completed with a finite {name}, but got "
            f"{len(found)}. Name another sweep or trial."
        )
    base = _control(found, control, [entry.sweep.sweep_id for entry in entries])
    cells = {title: _cell(one) for title, one in found.items()}
    family = against_control(cells, base)
    return Significance(
        name,
        direction,
        family,
        rank_cells(cells, sign=sign_of(direction)) if direction else None,
        tuple(pair for entry in entries for pair in crossovers(entry.records, name)),
        _importances(entries, name, direction),
        (
            *_notes(entries, base, found[base].is_control, is_chosen=control is None),
            *_remedy(entries, family, name),
        ),
        None if read is None else by_example(found[base], _without(found, base), read),
    )


def _without(found: Mapping[str, Standing], base: str) -> dict[str, Standing]:
    return {name: one for name, one in found.items() if name != base}


def _judged_by(entries: Sequence[Entry], asked: str | None) -> tuple[str, str]:
    """Returns the metric and which way of it is better."""
    objectives = {entry.sweep.sweep_id: entry.sweep.objectives[0] for entry in entries}
    if asked is None and len(set(objectives.values())) > 1:
        listed = "; ".join(f"{way} {name} of {sweep}" for sweep, (name, way) in objectives.items())
        raise SpecError(
            f"{HEAD}: one metric must be compared, but got {listed}. Name one with --metric."
        )
    name = objectives[entries[0].sweep.sweep_id][0] if asked is None else plain_name(asked)
    ways = {
        Evidence(entry.records, entry.sweep.objectives).directions.get(name, "")
        for entry in entries
    }
    if len(ways) > 1:
        raise SpecError(
            f"{HEAD}: {name} must be better in one direction, but got {' and '.join(sorted(ways))} "
            "as objectives of these sweeps. Compare them apart."
        )
    for entry in entries:
        _check_logged(entry, name)
    return name, ways.pop()


def _check_logged(entry: Entry, metric: str) -> None:
    completed = [one for one in entry.records if one.state is TrialState.COMPLETED]
    sweep = entry.sweep.sweep_id
    if not completed:
        raise NotRecorded(
            f"{HEAD}: {sweep}: a completed trial must be there, but got {_states(entry.records)}. "
            f"`kd-sweep trials {sweep}` shows them."
        )
    if not any(one.metric(metric) is not None for one in completed):
        known = sorted({name for one in completed for name in one.metrics})
        raise SpecError(
            f"--metric: {sweep}: must be a metric that its trials have logged, one of "
            f"{', '.join(known)}, but got '{metric}'.{nearest(metric, known)}"
        )


def _standings(entries: Sequence[Entry], metric: str, direction: str) -> dict[str, Standing]:
    """Returns the configs that completed, the best first where there is a best, each under a name
    that is its own. A config of two sweeps is two: what else they share is not known here."""
    found = []
    for entry in entries:
        configs = by_config(entry.records)
        prefix = f"{entry.sweep.sweep_id}: " if len(entries) > 1 else ""
        found += [
            (prefix + one.name, one) for one in standings(configs, metric, direction or MINIMIZE)
        ]
    if direction:
        found.sort(key=lambda one: -sign_of(direction) * one[1].mean)
    return dict(found)


def _control(found: Mapping[str, Standing], trial: RunRecord | None, sweeps: Sequence[str]) -> str:
    if trial is not None:
        for name, one in found.items():
            if trial.run_id in {each.run_id for each in one.trials}:
                return name
        raise SpecError(
            f"--control: must be a completed trial that is compared, but got "
            f"{trial.sweep_id}/{trial.trial}, which is {trial.state} or has no such metric. Name "
            "another one."
        )
    controls = [name for name, one in found.items() if one.is_control]
    firsts = {name: one.trials[0] for name, one in found.items()}
    first = min(firsts, key=lambda name: (sweeps.index(firsts[name].sweep_id), firsts[name].trial))
    return max(controls, key=lambda name: len(found[name].trials), default=first)


def _cell(standing: Standing) -> dict[int, float]:
    return dict(zip([one.seed for one in standing.trials], standing.values, strict=True))


def _importances(entries: Sequence[Entry], metric: str, direction: str) -> dict[str, float]:
    if len(entries) > 1 or not direction:
        return {}
    try:
        space = SearchSpace.parse(entries[0].sweep.search)
    except ValueError:  # recorded by another version, or edited
        return {}
    valued = [
        (one, value)
        for one in entries[0].records
        if one.state is TrialState.COMPLETED
        and one.is_searched
        and (value := one.metric(metric)) is not None
    ]
    points = [
        {name: one.hyperparameters[name] for name in space.names if name in one.hyperparameters}
        for one, _ in valued
    ]
    return importances(space, points, [sign_of(direction) * value for _, value in valued])


def _notes(
    entries: Sequence[Entry], base: str, is_control: bool, *, is_chosen: bool
) -> Iterator[str]:
    """Yields what to know beside what the statistics themselves say."""
    if is_chosen:
        why = "the best control with most seeds" if is_control else "the first: no control is here"
        yield f"compared with {base} ({why}); --control names another"
    for entry in entries:
        edges = tuned_at_edges(by_config(entry.records), entry.tuning, first=base)
        if edges is not None:
            yield edges.sentence()
    records = [one for entry in entries for one in entry.records]
    lost = [one for one in records if one.state is not TrialState.COMPLETED]
    if lost:
        yield (
            f"{len(lost)} of {len(records)} trials did not complete ({_states(lost)}) and count "
            "for nothing here: a config that fails where it is bad looks better than it is"
        )
    names = dict.fromkeys(name for entry in entries for name in entry.inputs)
    apart = [name for name in names if len({entry.inputs.get(name) for entry in entries}) > 1]
    if apart:
        yield (
            f"the sweeps differ in their inputs ({', '.join(apart)}), so their configs differ by "
            "more than what they are called"
        )


def _remedy(entries: Sequence[Entry], family: Family, metric: str) -> Iterator[str]:
    """Yields what gives configs two seeds that they share, where none of them has."""
    sweep = entries[0].sweep
    if family.num_tested:
        return
    if metric.startswith(tags.TEST):
        yield "kd-sweep evaluate measures a trial of each seed on a test set"
    elif sweep.study is not None:
        yield f"kd-sweep extend {sweep.sweep_id} --seeds 3 trains its cells on more seeds"
    else:
        yield (
            f"kd-sweep confirm {sweep.sweep_id} trains its best configs and the best control again "
            "on fresh seeds, and compares them"
        )


def _states(records: Sequence[RunRecord]) -> str:
    counts = Counter(str(one.state) for one in records)
    return ", ".join(f"{num} {state}" for state, num in counts.items()) or "none at all"


def _mean(mean: MeanInterval) -> dict[str, Any]:
    return {"num_seeds": mean.num, "mean": mean.mean, "low": mean.low, "high": mean.high}


def _ranks(ranking: Ranking) -> Iterator[str]:
    shown = list(ranking.mean_ranks.items())[:SHOWN]
    means = ", ".join(f"{name} {rank:.2f}" for name, rank in shown)
    more = len(ranking.mean_ranks) - len(shown)
    means += f" and {more} more" if more else ""
    yield (
        f"mean ranks over {len(ranking.seeds)} seeds: {means}; p that all rank alike: "
        f"{probability(ranking.p_value)}; less than {ranking.critical_difference:.2f} apart is not "
        "told apart (Nemenyi)"
    )
    if ranking.left_out:
        names = ", ".join(ranking.left_out)
        yield f"not ranked, since they lack more than half of the seeds: {names}"


def _about_examples(tests: Mapping[str, ExampleTest]) -> Iterator[str]:
    if not tests:
        yield (
            "no trials that are compared keep scores of the same examples and seeds, so nothing is "
            "said by single examples"
        )
        return
    fewest = min(test.num_examples for test in tests.values())
    yield (
        f"by example: the interval for other seeds and other examples than the {fewest} of this "
        "validation split; p is for other seeds alone"
    )


def _shares(shares: Mapping[str, float]) -> str:
    found = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return (
        f"what decided which trials came out best: {found}. Of what was tried alone: what a "
        "sampler narrowed down early seems to matter less than it does"
    )


def _verdict(one: Difference, direction: str) -> str:
    if one.adjusted is None or one.test is None:
        return "untested"
    if not one.is_significant:
        return "not told apart" if one.could_be_significant else "too few seeds"
    is_more = one.test.mean_difference > 0
    if not direction:
        return "higher" if is_more else "lower"
    return "better" if is_more == (direction == MAXIMIZE) else "worse"


def _row(one: Difference, direction: str) -> dict[str, Any]:
    test = None if one.test is None else asdict(one.test)
    return (
        {"name": one.name}
        | _mean(one.mean)
        | {
            "difference": test,
            "p_holm": one.adjusted,
            "verdict": _verdict(one, direction),
            "is_significant": one.is_significant,
            "could_be_significant": one.could_be_significant,
            "signed_rank_p": one.signed_rank,
            "seeds_needed": one.seeds_needed,
            "unshared_seeds": list(one.without),
        }
    )
