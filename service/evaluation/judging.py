"""Judges the answers of the first of several trials against the others', or against the references
where it is alone, from what their evaluations kept."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from service.errors import PlanError, SpecError, TrackingError
from service.evaluation.evaluate import ARTIFACTS, Say, SetResult
from service.evaluation.judge import Judgement, asked, document, judgement, summary
from service.evaluation.judges import Judge
from service.evaluation.sets import NamedSet, metric_name
from service.record.records import RunRecord
from service.record.runs import Runs
from service.record.tracking import tracker_at
from trainers.files.json_files import parse_json
from trainers.trial.reporting import SAMPLES

REFERENCES = "references"
Pair = tuple[str, str, str]  # a prompt, our answer, theirs


@dataclass(frozen=True)
class _Match:
    """The answers of one result and of its rival, prompt by prompt a pair for each of
    `num_seeds` generation seeds."""

    one: SetResult
    rival: str
    pairs: tuple[Pair, ...]
    num_seeds: int

    def asked(self) -> list[str]:
        """Two prompts of the judge for each pair."""
        return [text for pair in self.pairs for text in asked(*pair)]

    def judgements(self, texts: Sequence[str]) -> list[list[Judgement]]:
        """What comes of the judge's answers to them: for each prompt one a seed."""
        both = zip(texts[::2], texts[1::2], strict=True)
        found = [judgement(*pair, two) for pair, two in zip(self.pairs, both, strict=True)]
        starts = range(0, len(found), self.num_seeds)
        return [found[start : start + self.num_seeds] for start in starts]


@dataclass(frozen=True)
class Judging:
    """Where answers are read from and verdicts recorded, and who judges."""

    runs: Runs
    home: Path
    judge: Judge
    say: Say

    def check(self, sets: Sequence[NamedSet]) -> None:
        """Raises `SpecError` where no set has answers to judge, `PlanError` for a judge that cannot
        even read an empty pair."""
        if all(one.task is not None for one in sets):
            raise SpecError(
                "--judge: must have answers on a set of --on to compare, but got tasks of "
                "--harness alone, which score themselves. Add --on FILE."
            )
        self.judge.check(asked("", "", ""))

    def results(self, found: list[SetResult]) -> list[SetResult]:
        """Returns the results, those of the first trial with what the judge found. Raises
        `PlanError` for answers that were not kept or are of other prompts, and for a judge that
        cannot read them all, before any is judged."""
        matches = self._matches(found)
        prompts = [prompt for match in matches for prompt in match.asked()]
        self.judge.check(prompts)
        return [self._judged(one, [m for m in matches if m.one is one]) for one in found]

    def _matches(self, found: list[SetResult]) -> list[_Match]:
        first = found[0].record.run_id
        ours = [one for one in found if one.record.run_id == first and not one.recorded.is_task]
        matches = []
        for one in ours:
            rivals = [r for r in found if r.name == one.name and r.record.run_id != first]
            opponents: list[SetResult | None] = [*rivals] or [None]
            answers = self._answers(one)
            matches += [self._match(one, answers, rival) for rival in opponents]
        return matches

    def _match(
        self, one: SetResult, ours: Sequence[Mapping[str, Any]], rival: SetResult | None
    ) -> _Match:
        theirs = ours if rival is None else self._answers(rival)
        if [_shape(row) for row in ours] != [_shape(row) for row in theirs]:
            raise PlanError(
                f"--judge: both trials must have answered the same prompts of '{one.name}' with as "
                "many generation seeds, but they are others. Evaluate both with --again."
            )
        name = REFERENCES if rival is None else f"{rival.record.sweep_id}.{rival.record.trial}"
        pairs = [
            (row["prompt"], answer, other["references"][0] if rival is None else its)
            for row, other in zip(ours, theirs, strict=True)
            for answer, its in zip(row["answers"], other["answers"], strict=True)
        ]
        return _Match(one, name, tuple(pairs), len(ours[0]["answers"]))

    def _judged(self, one: SetResult, matches: Sequence[_Match]) -> SetResult:
        for match in matches:
            name = match.rival
            self.say(f"judging {one.record.sweep_id}/{one.record.trial} and {name} on {one.name}")
            judgements = match.judgements(self.judge.ask(match.asked()))
            metrics = {f"judge_{name}/{key}": value for key, value in summary(judgements).items()}
            self._keep(one, name, metrics, judgements)
            seeds = f"{match.num_seeds} generation seed{'s' * (match.num_seeds > 1)}"
            notice = f"judge_{name}: {self.judge.describe()['judge']} judged the answers of {seeds}"
            one = replace(one, metrics=one.metrics | metrics, notices=(*one.notices, notice))
        return one

    def _answers(self, one: SetResult) -> list[dict[str, Any]]:
        with TemporaryDirectory() as folder:
            name = f"{ARTIFACTS}/{one.name}/{SAMPLES}"
            try:
                path = self.runs.download(one.record.run_id, name, Path(folder))
            except TrackingError as error:
                raise PlanError(
                    f"--judge: trial {one.record.sweep_id}/{one.record.trial} must have written "
                    f"answers on '{one.name}', but none were kept: images have none."
                ) from error
            rows: list[dict[str, Any]] = parse_json(path.read_text(), str(path))
        return rows

    def _keep(
        self, one: SetResult, rival: str, metrics: dict[str, float], found: list[list[Judgement]]
    ) -> None:
        record: RunRecord = one.record
        experiment = self.runs.experiment_of(record)
        text = json.dumps(document(self.judge.describe(), found), indent=2) + "\n"
        with closing(tracker_at(self.runs.uri, experiment, self.home)) as tracker:
            named = {metric_name(one.name, name): value for name, value in metrics.items()}
            tracker.log_metrics(record.run_id, 0, named)
            tracker.log_text(record.run_id, text, f"{ARTIFACTS}/{one.name}/judge-{rival}.json")


def _shape(row: Mapping[str, Any]) -> tuple[str, int]:
    """What answers that are compared have in common: their prompt, and how many they are."""
    return row["prompt"], len(row["answers"])
