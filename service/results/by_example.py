"""Configs against a control by the scores of single examples, which their trials keep."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import fmean

from service.errors import SpecError, TrackingError
from service.record.records import RunRecord
from service.record.runs import Runs
from service.results.standings import Standing
from service.statistics.examples import ExampleTest, example_test
from trainers.files.columns import read_columns
from trainers.nearest import nearest
from trainers.trial.reporting import EXAMPLES

ID = "example_id"
Scores = Mapping[int, float]  # example → score
ReadScores = Callable[[RunRecord, str], Scores]


def scores_of(runs: Runs) -> ReadScores:
    """Returns what reads a trial's scores of a metric; empty where it keeps none of any. Raises
    `SpecError` where it keeps scores of other metrics alone."""

    def read(record: RunRecord, metric: str) -> Scores:
        columns = _columns(runs, record)
        if columns and metric not in columns:
            known = [name for name in columns if name != ID]
            raise SpecError(
                f"--examples: must be asked of a metric that trials keep for single examples, "
                f"{', '.join(known)}, but got '{metric}'.{nearest(metric, known)} Name one with "
                "--metric."
            )
        pairs = zip(columns.get(ID, []), columns.get(metric, []), strict=True)
        return {
            int(example): score for example, score in pairs if score == score
        }  # NaN is not itself

    return read


def _columns(runs: Runs, record: RunRecord) -> Mapping[str, list[float]]:
    if not runs.has_artifact(record.run_id, EXAMPLES):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            return read_columns(runs.download(record.run_id, EXAMPLES, Path(folder)))
        except ValueError as error:
            raise TrackingError(f"run '{record.run_id}': {error}") from error


def by_example(
    control: Standing, others: Mapping[str, Standing], read: ReadScores
) -> dict[str, ExampleTest]:
    """Returns the test of each of `others` less the control, over the seeds that both have and the
    examples that all these trials have; without those that share none."""
    base = _by_seed(control, read)
    tests = {name: _test(base, _by_seed(one, read)) for name, one in others.items()}
    return {name: test for name, test in tests.items() if test is not None}


def score_pairs(
    control: Standing, other: Standing, read: ReadScores
) -> dict[int, tuple[float, float]]:
    """Returns the scores of each example that all of their trials have, on the seeds that both
    have: the control's and the other's, means over these seeds. Empty where they share none."""
    a, b = _by_seed(control, read), _by_seed(other, read)
    seeds, examples = _in_both(a, b)
    return {
        one: (fmean(a[seed][one] for seed in seeds), fmean(b[seed][one] for seed in seeds))
        for one in examples
    }


def _by_seed(standing: Standing, read: ReadScores) -> dict[int, Scores]:
    return {one.seed: read(one, standing.metric) for one in standing.trials}


def _test(a: Mapping[int, Scores], b: Mapping[int, Scores]) -> ExampleTest | None:
    seeds, examples = _in_both(a, b)
    if not examples:
        return None
    rows = [[[scores[seed][one] for one in examples] for seed in seeds] for scores in (a, b)]
    return example_test(*rows)


def _in_both(a: Mapping[int, Scores], b: Mapping[int, Scores]) -> tuple[list[int], list[int]]:
    """The seeds that both have, and the examples that all of these trials have."""
    seeds = sorted(seed for seed in a.keys() & b.keys() if a[seed] and b[seed])
    return seeds, sorted(_shared(scores[seed] for scores in (a, b) for seed in seeds))


def _shared(each: Iterable[Scores]) -> set[int]:
    found = [set(scores) for scores in each]
    return set.intersection(*found) if found else set()
