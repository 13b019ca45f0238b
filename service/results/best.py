"""The best configs under one metric, who wins under each of the others, and what was found."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from search_spaces.space import SearchSpace
from service.errors import PlanError, TrackingError
from service.frames import Framed
from service.record import tags
from service.record.conditions import conditions, group_of
from service.record.records import RunRecord, SweepRecord
from service.record.runs import Runs
from service.results.evidence import Confirming, Evidence, Objective
from service.results.findings import sentences
from service.results.question import (
    NEITHER,
    Question,
    check,
    check_is_logged,
    with_plain_metric,
)
from service.results.report import report
from service.results.standings import Standing, front
from service.states import TrialState
from service.words import EVERY_SWEEP
from trainers.tasks import table
from trainers.trial.diagnosis import (
    LOGIT_SCALE_RATIO,
    logit_scale_side,
    logit_scale_warning,
    logit_scales_warning,
)
from trainers.trial.metrics import sign_of
from trainers.trial.trial_file import TrialFile

TOP, TOP_OF_SWEEP, TOP_OF_VALUE = 10, 3, 1


@dataclass(frozen=True)
class Row:
    """One line of an answer. record: the trial, or of a config with several seeds the one nearest
    to its mean; standing: the config's, None for a trial that early stopping ended, which comes
    behind all that completed; group: its value of the field that rows are grouped by; registered:
    as what, where only such rows are asked for."""

    record: RunRecord
    metric: str
    direction: str
    standing: Standing | None
    group: str | None = None
    registered: tuple[str, ...] = ()

    @property
    def value(self) -> float | None:
        """The metric: a config's mean over its seeds."""
        return self.record.metric(self.metric) if self.standing is None else self.standing.mean

    def metric_value(self, metric: str) -> float | None:
        """Returns another metric, as a mean over the same trials."""
        if self.standing is None:
            return self.record.metric(metric)
        return self.standing.average(metric)

    def rank(self) -> tuple[bool, float, float]:
        """Returns what sorts rows, the best first and of equals the earlier."""
        value = _signed(self.value, self.direction)
        return self.standing is None, value, self.record.started_at

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`; `warning` says what to know before relying on it."""
        found = self.standing
        return self.record.to_json() | {
            "metric": self.metric,
            "direction": self.direction or None,
            "value": self.value,
            "interval": None if found is None or found.low is None else [found.low, found.high],
            "trials": [one.trial for one in ([self.record] if found is None else found.trials)],
            "group": self.group,
            "registered": list(self.registered),
            "warning": logit_scale_warning(self.record.metrics),
        }


@dataclass(frozen=True)
class Best(Framed):
    """`rows`: the best by `metric` (of several sweeps, by their objectives), the best first (by a
    metric whose `direction` is empty, since it ranks no trials, the lowest), in
    groups where groups were asked for (`grouped_by`: a field of trials, or `sweep`); `winners`:
    metric → its best config; `lines`: what was found, in sentences, the weightiest first, none of
    several sweeps; `objectives`: what the one sweep was judged by; `references`: see
    `references`."""

    metric: str
    direction: str
    rows: tuple[Row, ...]
    winners: dict[str, Standing]
    lines: tuple[str, ...] = ()
    objectives: tuple[Objective, ...] = (("", ""),)
    references: dict[str, dict[str, float]] = field(default_factory=dict)
    grouped_by: str | None = None

    @property
    def records(self) -> list[RunRecord]:
        """The trial of each row."""
        return [row.record for row in self.rows]

    @property
    def spans_sweeps(self) -> bool:
        """Whether rows are of several sweeps."""
        return len({record.sweep_id for record in self.records}) > 1

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the rows of `--json`, each with all that was found: a list has no other place."""
        return [row.to_json() | {"verdict": list(self.lines)} for row in self.rows]

    def warnings(self) -> dict[str, str]:
        """Returns each warning about shown trials, those whose logit scales are off to the same
        side together, by the `SWEEP/NUMBER` of each."""
        shown = [*self.records, *(one.typical for one in self.winners.values())]
        sides: dict[int, dict[str, float]] = {}
        for record in shown:
            ratio = record.metrics.get(LOGIT_SCALE_RATIO)
            if logit_scale_warning(record.metrics) is not None and ratio is not None:
                of_side = sides.setdefault(logit_scale_side(ratio), {})
                of_side[f"{record.sweep_id}/{record.trial}"] = ratio
        return {
            ", ".join(ratios): logit_scales_warning(list(ratios.values()))
            for ratios in sides.values()
        }

    def export(self, read: Callable[[RunRecord], TrialFile], path: Path) -> None:
        """Writes the best trial's `trial.json`. read: returns the one of a run. Raises
        `TrackingError` when none completed, `PlanError` unless `path` is a new file in a folder
        that is there."""
        if not self.rows or self.rows[0].standing is None:
            raise TrackingError(
                f"--export: a completed trial with the metric {self.metric} must be there, but got "
                "none. kd-sweep trials SWEEP shows what there is; kd-sweep export SWEEP/NUMBER "
                "writes any of them."
            )
        trial = read(self.rows[0].record)
        if path.exists() or not path.parent.is_dir():
            what = "it is there" if path.exists() else "its folder is not there"
            raise PlanError(
                f"--export {path}: must be a new file in a folder that exists, but {what}. Name "
                "another one."
            )
        try:
            trial.write(path)
        except OSError as error:
            raise PlanError(f"--export {path}: must be writable, but got: {error}.") from error


def find_best(runs: Runs, question: Question) -> Best:
    """Returns the answer. Raises `TrackingError` for an unknown sweep, `SpecError` for a metric
    that is none of ours and that no trial has, and as `check` does."""
    question = with_plain_metric(check(question))
    names = question.registered or {}
    found = _find_best(runs, question)
    rows = (replace(row, registered=names.get(row.record.run_id, ())) for row in found.rows)
    return replace(found, rows=tuple(rows))


def _find_best(runs: Runs, question: Question) -> Best:
    sweeps = _sweeps_of(runs, question.sweep)
    answers = [_Answer(runs, one, question, is_alone=question.is_of_one) for one in sweeps]
    check_is_logged(question.metric, (one.records for one in answers))
    if not question.is_of_one:
        return _best_of_all(answers, question)
    (answer,) = answers
    rows = _shown(answer.groups(), question.top or _default_top(question))
    found = _best(answer.evidence, rows, is_whole=answer.is_whole)
    return replace(found, grouped_by=question.per)


def _sweeps_of(runs: Runs, meant: str | tuple[str, ...]) -> list[SweepRecord]:
    if isinstance(meant, str):
        return runs.sweeps() if meant == EVERY_SWEEP else [runs.resolve_sweep(meant)]
    return [one for one in runs.sweeps() if one.sweep_id in meant]


def best_of(evidence: Evidence, *, top: int) -> Best:
    """Returns the `top` best configs by a whole sweep's own objective, and what was found."""
    return _best(evidence, _shown([_rows(evidence, None)], top), is_whole=True)


def _best(evidence: Evidence, rows: tuple[Row, ...], *, is_whole: bool) -> Best:
    return Best(
        *evidence.objectives[0],
        rows=rows,
        winners=_winners(evidence),
        lines=tuple(sentences(report(evidence))) if is_whole and evidence.records else (),
        objectives=evidence.objectives,
        references=references(evidence),
    )


def confirming(runs: Runs, sweep: SweepRecord) -> Confirming | None:
    """Returns the newest study that trained the best configs of a search again, if there is one."""
    found = runs.confirming(sweep.sweep_id) if sweep.study is None else []
    return Confirming(found[0].sweep_id, tuple(runs.trials(found[0].sweep_id))) if found else None


def evidence_in(runs: Runs, sweep: SweepRecord) -> Evidence:
    """Returns what all trials of a recorded sweep, and a study that confirms it, are judged by."""
    evidence = evidence_of(sweep, runs.trials(sweep.sweep_id))
    return replace(evidence, confirming=confirming(runs, sweep))


def evidence_of(sweep: SweepRecord, records: Sequence[RunRecord]) -> Evidence:
    """Returns what a recorded sweep's trials are judged by."""
    try:
        domains = SearchSpace.parse(sweep.search).domains
    except ValueError:  # recorded by another version, or edited
        domains = {}
    return Evidence(
        tuple(one for one in records if not one.is_tuning),
        sweep.objectives,
        teacher=sweep.scores(tags.TEACHER),
        undistilled=sweep.scores(tags.UNDISTILLED),
        domains=domains,
        num_examples=sweep.num_validation_examples,
        sweep=sweep,
        tuning=tuple(one for one in records if one.is_tuning),
    )


def references(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Returns what trials are compared with, by metric: the teacher's own scores, those of the
    undistilled student, and the floor of texts, which is that of the best trial's answers."""
    floor = {}
    for metric, known in evidence.metrics.items():
        ranked = evidence.ranked(metric) if known.floor else []
        value = ranked[0].average(known.floor or "") if ranked else None
        if value is not None:
            floor[metric] = value
    found = {
        "teacher": dict(evidence.teacher),
        "undistilled student": dict(evidence.undistilled),
        "floor": floor,
    }
    return {name: scores for name, scores in found.items() if scores}


def _best_of_all(answers: "Sequence[_Answer]", question: Question) -> Best:
    """Each sweep by its own objective, or all together by the one metric that was asked for."""
    groups = [group for answer in answers for group in answer.groups()]
    if question.metric is None:
        groups = [[replace(row, group=_sweep_group(row)) for row in group] for group in groups]
    else:
        groups = _merged(groups)
    found: dict[str, list[Standing]] = {}
    for answer in answers:
        for name, standing in _winners(answer.evidence).items():
            found.setdefault(name, []).append(standing)
    ways = table.known_directions()
    grouped_by = "sweep" if question.metric is None else question.per
    return Best(
        question.metric or "each sweep's objective",
        question.direction_in(ways),
        rows=_shown(groups, question.top or _default_top(question)),
        winners={
            name: min(each, key=lambda one: _signed(one.mean, ways.get(name)))
            for name, each in found.items()
        },
        grouped_by=grouped_by,
    )


def _sweep_group(row: Row) -> str:
    sweep = row.record.sweep_id
    return sweep if row.group is None else f"{sweep}: {row.group}"


def _merged(groups: Iterable[list[Row]]) -> list[list[Row]]:
    """Returns the groups of several sweeps with those of one name together, the best first."""
    by_name: dict[str | None, list[Row]] = {}
    for group in groups:
        for row in group:
            by_name.setdefault(row.group, []).append(row)
    merged = [sorted(group, key=Row.rank) for group in by_name.values()]
    return sorted(merged, key=lambda group: group[0].rank())


def _default_top(question: Question) -> int:
    if question.per is not None:
        return TOP_OF_VALUE
    is_by_sweep = not question.is_of_one and question.metric is None
    return TOP_OF_SWEEP if is_by_sweep else TOP


def _shown(groups: Iterable[list[Row]], top: int) -> tuple[Row, ...]:
    """Returns the first `top` rows of each group."""
    return tuple(row for group in groups for row in group[:top])


def _signed(value: float | None, direction: str | None) -> float:
    """Returns the value with the sign that makes less better."""
    return -sign_of(direction) * (value or 0.0)


@dataclass(frozen=True)
class _Answer:
    """One sweep's answer to the question."""

    runs: Runs
    sweep: SweepRecord
    question: Question
    is_alone: bool  # else one of several sweeps, of which nothing is found

    @cached_property
    def records(self) -> list[RunRecord]:
        """All trials of the sweep."""
        return self.runs.trials(self.sweep.sweep_id)

    @cached_property
    def evidence(self) -> Evidence:
        """What the trials that meet the question's conditions are judged by; the metric that is
        asked for stands in for the objective."""
        wanted = conditions(self.question.where)
        chosen = [one for one in self.records if all(each.holds(one) for each in wanted)]
        if self.question.registered is not None:
            chosen = [one for one in chosen if one.run_id in self.question.registered]
        found = evidence_of(self.sweep, chosen)
        metric = self.question.metric
        if metric is not None:
            way = self.question.direction_in(found.directions)
            found = replace(found, objectives=((metric, way),))
        if self._is_whole(found):
            found = replace(found, confirming=confirming(self.runs, self.sweep))
        return found

    @property
    def is_whole(self) -> bool:
        """Whether it is of one whole sweep and ranks its trials, so that something is found."""
        return self._is_whole(self.evidence)

    def _is_whole(self, evidence: Evidence) -> bool:
        question, ranks = self.question, evidence.objectives[0][1] != NEITHER
        is_in_part = question.where or question.per or question.registered is not None
        return self.is_alone and ranks and not is_in_part

    def groups(self) -> list[list[Row]]:
        """The rows of each group, the best first, and the groups by their best rows; one group
        where none were asked for."""
        per = self.question.per
        if per is None:
            return [_rows(self.evidence, None)]
        of_value: dict[str, list[RunRecord]] = {}
        for record in self.evidence.records:
            of_value.setdefault(group_of(record, per), []).append(record)
        groups = [
            _rows(replace(self.evidence, records=tuple(group)), name)
            for name, group in of_value.items()
        ]
        return sorted((group for group in groups if group), key=lambda group: group[0].rank())


def _winners(evidence: Evidence) -> dict[str, Standing]:
    """Returns the best config under each metric that ranks trials."""
    found = {name: evidence.winner(name) for name in table.known_directions()}
    return {name: winner for name, winner in found.items() if winner is not None}


def _rows(evidence: Evidence, group: str | None) -> list[Row]:
    """Returns a row for each config, the best first, and for each trial that early stopping ended
    behind them; with two objectives for the Pareto front alone."""
    metric, direction = evidence.objectives[0]
    ranked = evidence.ranked(metric)
    if len(evidence.objectives) > 1:
        ranked = front(ranked, evidence.objectives)
    rows = [Row(one.typical, metric, direction, one, group) for one in ranked]
    stopped = [
        Row(one, metric, direction, None, group)
        for one in evidence.records
        if one.state is TrialState.STOPPED_EARLY and one.metric(metric) is not None
    ]
    return rows + sorted(stopped, key=Row.rank)
