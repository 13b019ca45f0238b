"""Configs compared example by example, from files that trials keep."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from records_support import record_of

from service.errors import SpecError, TrackingError
from service.record.runs import Runs
from service.results.by_example import by_example, score_pairs, scores_of
from service.results.standings import Standing, by_config, standings
from service.statistics.examples import example_test
from trainers.files.columns import write_columns
from trainers.trial.reporting import EXAMPLES


@dataclass
class Files:
    """Takes the place of `Runs`: the artifacts of each run in a folder of its own."""

    place: Path

    def has_artifact(self, run_id: str, name: str) -> bool:
        return (self.place / run_id / name).exists()

    def download(self, run_id: str, artifact: str, folder: Path) -> Path:
        return self.place / run_id / artifact

    def keep(self, trial: int, columns: dict[str, list[float]]) -> None:
        folder = self.place / f"{trial:032x}"
        folder.mkdir()
        write_columns(folder / EXAMPLES, columns)


def configs() -> tuple[Standing, dict[str, Standing]]:
    """A control and two configs, with seeds 1 and 2 each."""
    records = [
        record_of(10 * n + seed, {"tau": tau, "seed": seed}, {"rouge_l": 1.0 + n})
        for n, tau in enumerate((1.0, 2.0, 4.0))
        for seed in (1, 2)
    ]
    found = {one.name: one for one in standings(by_config(records), "rouge_l", "minimize")}
    return found.pop("tau=1"), found


def test_shared_seeds_and_examples_are_compared(tmp_path: Path) -> None:
    files = Files(tmp_path)
    ids = list(range(12))
    base = [[float(n % 5) for n in ids], [float(n % 4) for n in ids]]
    other = [[value + 0.3 + 0.01 * n for n, value in enumerate(row)] for row in base]
    for seed, row in enumerate(base, 1):
        files.keep(seed, {"example_id": ids, "rouge_l": row})
    # The second config has them in another order, one of them unmeasured and one of its own.
    for seed, row in enumerate(other, 11):
        backwards = [float("nan"), 7.0, *row[10::-1]]
        files.keep(seed, {"example_id": [11, 99, *ids[10::-1]], "rouge_l": backwards})
    control, others = configs()
    found = by_example(control, others, scores_of(cast(Runs, files)))
    expected = example_test([row[:11] for row in base], [row[:11] for row in other])
    assert found == {"tau=2": expected}
    assert expected.mean_difference == pytest.approx(0.35)


def test_a_metric_without_scores_is_refused(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.keep(1, {"example_id": [1], "cross_entropy": [2.0]})
    control, others = configs()
    with pytest.raises(SpecError, match="--examples: .*, cross_entropy, but got 'rouge_l'.* Name"):
        by_example(control, others, scores_of(cast(Runs, files)))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / f"{1:032x}"
    folder.mkdir()
    (folder / EXAMPLES).write_text("no parquet")
    control, others = configs()
    with pytest.raises(TrackingError, match="run '0+1': .* must be a parquet file"):
        by_example(control, others, scores_of(cast(Runs, Files(tmp_path))))


def test_pairs_are_means_over_shared_seeds_of_examples_that_all_have(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.keep(1, {"example_id": [7, 8, 9], "rouge_l": [10.0, 20.0, 30.0]})
    files.keep(2, {"example_id": [9, 8, 7], "rouge_l": [50.0, 40.0, 30.0]})
    files.keep(11, {"example_id": [7, 8, 9], "rouge_l": [11.0, float("nan"), 33.0]})
    files.keep(12, {"example_id": [7, 8, 9], "rouge_l": [35.0, 1.0, 51.0]})
    control, others = configs()
    read = scores_of(cast(Runs, files))
    assert score_pairs(control, others["tau=2"], read) == {7: (20.0, 23.0), 9: (40.0, 42.0)}
    assert score_pairs(control, others["tau=4"], read) == {}
