"""What a report is made from: the record of a sweep, and what more was read for it. Plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from service.record.records import RunRecord, SweepRecord
from service.report.charts import better
from service.results.evidence import Evidence
from service.results.findings import Finding
from service.results.report import outcome_of, report
from service.results.significance import Entry, Significance, significance
from service.results.standings import Standing
from service.states import FINISHED, TrialState

Diagnostics = Mapping[str, Any]  # as in diagnostics.json
Curve = Sequence[tuple[int, float]]  # step, value


@dataclass(frozen=True)
class TeacherCache:
    """The teacher asked once for all trials. build_s: about how long that took; tokens_held: that
    it was asked about; tokens_read: that trials asked for in its place; named: what these are."""

    build_s: float | None
    tokens_held: int | None
    tokens_read: int | None
    named: str


@dataclass(frozen=True)
class ExampleScores:
    """Scores of single validation examples under the objective, by the examples' ids: the control's
    and the winner's, means over the seeds that both have; empty where their trials keep none.
    texts: what people read of some of them."""

    pairs: Mapping[int, tuple[float, float]]
    texts: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """See the module. setting: what all trials share, in words, by its name; curves: the objective
    on the way of some trials, by their numbers; cache: None where trials asked the teacher;
    diagnostics: what was seen of the losses of some trials, by their numbers
    (`docs/diagnostics.md`); examples: None where a winner and its control are not compared by
    them; test_sets: the names of those in the sweep's `data.test`."""

    sweep: SweepRecord
    evidence: Evidence
    setting: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[int, Curve] = field(default_factory=dict)
    cache: TeacherCache | None = None
    diagnostics: Mapping[int, Diagnostics] = field(default_factory=dict)
    examples: ExampleScores | None = None
    test_sets: tuple[str, ...] = ()

    @property
    def sweep_id(self) -> str:
        """The sweep's id."""
        return self.sweep.sweep_id

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """The trials that are compared."""
        return self.evidence.records

    @property
    def metric(self) -> str:
        """The objective, the first where there are two."""
        return self.evidence.objectives[0][0]

    @property
    def sign(self) -> int:
        """1 where more of the objective is better, else -1."""
        return self.evidence.sign(self.metric)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, the weightiest first."""
        return report(self.evidence)

    @cached_property
    def ranked(self) -> list[Standing]:
        """The configs by the objective, the best first."""
        return self.evidence.ranked(self.metric)

    @cached_property
    def winner(self) -> Standing | None:
        """The best searched config, or None before one completed."""
        return next((one for one in self.ranked if one.is_searched), None)

    @cached_property
    def control(self) -> Standing | None:
        """What configs are compared with: the best control beside the winner."""
        if self.winner is None:
            return None
        return outcome_of(self.ranked, self.sign).control

    @cached_property
    def trained(self) -> tuple[RunRecord, ...]:
        """All trials with those that only chose learning rates of a study."""
        return (*self.records, *self.evidence.tuning)

    @cached_property
    def shown(self) -> list[RunRecord]:
        """The finished trials that have the objective, in order of their numbers."""
        found = [one for one in self.records if one.state in FINISHED]
        return [one for one in found if one.metric(self.metric) is not None]

    @cached_property
    def significance(self) -> Significance | None:
        """What seeds say of all configs, beside the control where there is one; None before two
        completed."""
        if len(self.ranked) < 2:
            return None
        entry = Entry(self.sweep, self.records)
        base = None if self.control is None else self.control.trials[0]
        return significance([entry], control=base)

    @property
    def is_running(self) -> bool:
        """Whether trials may still come."""
        return self.sweep.state == TrialState.RUNNING

    def better(self) -> str:
        """Returns which way the objective is better, for an axis."""
        return better(self.sign)
