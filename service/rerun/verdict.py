"""Whether a rerun gave the numbers that were recorded; if not, what is known to differ. Pure.

Three verdicts. `reproduced` means equal to the last bit: every metric, every step's loss, and the
weights where both hashes are known; no tolerance enters. The same config on the same kind of
machine gives that. Where arithmetic differs (another processor, another library), training drifts
apart and no fixed number says how far is too far. The yardstick is then what a change that means
nothing does to the same config: another seed. `within tolerance` means that each metric moved no
further than one standard deviation over the seeds that were trained. Without two seeds the
tolerance is 0 and everything but equality `differs`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from statistics import stdev
from typing import Any

from service.record.records import RunRecord


class Verdict(StrEnum):
    """What a rerun showed."""

    REPRODUCED = "reproduced"
    WITHIN_TOLERANCE = "within tolerance"
    DIFFERS = "differs"


@dataclass(frozen=True)
class Numbers:
    """What a trial left: final metrics; SHA-256 of the student's weights (None: not known); loss by
    step; facts: what it ran in, by name."""

    metrics: Mapping[str, float]
    weights_sha256: str | None
    losses: Mapping[int, float]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class MetricRow:
    """One metric beside itself. tolerance: the largest difference that noise explains, 0 where it
    is not known.
    """

    metric: str
    recorded: float | None
    rerun: float | None
    difference: float | None
    tolerance: float
    agrees: bool


@dataclass(frozen=True)
class Judgement:
    """The verdict and its grounds.

    weights_equal: None when one hash is not known; steps_compared, first_step: how many steps have
    a loss in both, and the first whose losses differ (None: none does); differences: fact →
    (recorded, rerun); tolerance_reason: where the tolerances come from.
    """

    verdict: Verdict
    rows: tuple[MetricRow, ...]
    weights_equal: bool | None
    steps_compared: int
    first_step: int | None
    differences: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    tolerance_reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the judgement as one JSON object."""
        return {
            "verdict": str(self.verdict),
            "metrics": [
                {name: _json_number(value) for name, value in asdict(row).items()}
                for row in self.rows
            ],
            "weights_equal": self.weights_equal,
            "steps_compared": self.steps_compared,
            "first_step_that_differs": self.first_step,
            "differences": {
                name: {"recorded": before, "rerun": now}
                for name, (before, now) in self.differences.items()
            },
            "tolerance_reason": self.tolerance_reason,
        }

    def sentence(self) -> str:
        """Returns the verdict for people, with the likely why."""
        weights = {True: "identical", False: "different", None: "not compared"}[self.weights_equal]
        if self.verdict is Verdict.REPRODUCED:
            return (
                f"reproduced: all {len(self.rows)} metrics and {self.steps_compared} losses are "
                f"identical, the weights' hash is {weights}"
            )
        head = f"{self.verdict}: weights {weights}"
        if self.first_step is not None:
            head += f", losses part at step {self.first_step}"
        if self.verdict is Verdict.WITHIN_TOLERANCE:
            head += f"; tolerance: {self.tolerance_reason}"
        return f"{head}. {self._why()}"

    def _why(self) -> str:
        if not self.differences:
            return "Nothing that was recorded of the surroundings differs."
        known = ", ".join(
            f"{name} ({before or 'unknown'} → {now or 'unknown'})"
            for name, (before, now) in self.differences.items()
        )
        return f"Known to differ: {known}."


def judge(
    recorded: Numbers,
    rerun: Numbers,
    *,
    tolerances: Mapping[str, float],
    tolerance_reason: str = "",
) -> Judgement:
    """Returns the verdict. tolerances: metric → the largest difference that noise explains."""
    names = sorted(recorded.metrics)  # what a later version measures beside them says nothing here
    rows = tuple(
        _row(name, recorded.metrics.get(name), rerun.metrics.get(name), tolerances.get(name, 0.0))
        for name in names
    )
    steps = sorted(recorded.losses.keys() & rerun.losses.keys())
    parted = [s for s in steps if not _identical(recorded.losses[s], rerun.losses[s])]
    hashes = recorded.weights_sha256, rerun.weights_sha256
    equal = None if None in hashes else hashes[0] == hashes[1]
    identical = all(_identical(row.recorded, row.rerun) for row in rows)
    # Unknown weights do not hinder `reproduced`, other weights do: equal metrics can be luck. A
    # trial without any metric shows nothing and is never more than `differs`.
    verdict = Verdict.DIFFERS
    if rows and identical and not parted and equal is not False:
        verdict = Verdict.REPRODUCED
    elif rows and all(row.agrees for row in rows):
        verdict = Verdict.WITHIN_TOLERANCE
    if verdict is Verdict.WITHIN_TOLERANCE and not tolerance_reason:
        tolerance_reason = "the metrics are identical, the way to them is not"
    return Judgement(
        verdict,
        rows,
        equal,
        len(steps),
        parted[0] if parted else None,
        differing(recorded.facts, rerun.facts),
        tolerance_reason,
    )


def differing(
    recorded: Mapping[str, str], rerun: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """Returns the facts that are not the same in both."""
    names = sorted(recorded.keys() | rerun.keys())
    pairs = {name: (recorded.get(name), rerun.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def seed_noise(record: RunRecord, others: Sequence[RunRecord]) -> tuple[dict[str, float], str]:
    """Returns each metric's standard deviation over trials of `record`'s config with other seeds,
    and where it comes from; empty when no two seeds were trained.
    """
    config = {name: value for name, value in record.config.items() if name != "seed"}
    same = [
        one
        for one in others
        if {name: value for name, value in one.config.items() if name != "seed"} == config
    ]
    # One trial for each seed: a repeated trial of the same seed would make the noise look small.
    by_seed = {one.seed: one for one in same}
    if len(by_seed) < 2:
        return {}, ""
    noise = {}
    for name in record.metrics:
        values = [v for one in by_seed.values() if (v := one.metric(name)) is not None]
        if len(values) > 1:
            noise[name] = stdev(values)
    return noise, f"standard deviation over {len(by_seed)} seeds of the same config"


def _row(name: str, recorded: float | None, rerun: float | None, tolerance: float) -> MetricRow:
    if recorded is None or rerun is None:
        return MetricRow(name, recorded, rerun, None, tolerance, False)
    if _identical(recorded, rerun):
        return MetricRow(name, recorded, rerun, 0.0, tolerance, True)
    difference = rerun - recorded
    return MetricRow(name, recorded, rerun, difference, tolerance, abs(difference) <= tolerance)


def _identical(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return False
    return a == b or (math.isnan(a) and math.isnan(b))  # diverged alike


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
