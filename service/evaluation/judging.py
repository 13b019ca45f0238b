"""Judges the answers of the first of several trials against the others', or against the references
where it is alone, from what their evaluations kept."""

import json
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from service.errors import PlanError, TrackingError
from service.evaluation.evaluate import ARTIFACTS, Say, SetResult
from service.evaluation.judge import Judgement, ModelAt, document, judge, summary
from service.evaluation.sets import metric_name
from service.home import spool_folder
from service.record.records import RunRecord
from service.record.runs import Runs
from service.record.tracking import Tracker
from trainers.files.json_files import parse_json
from trainers.trial.reporting import SAMPLES

REFERENCES = "references"


@dataclass(frozen=True)
class Judging:
    """Where answers are read from and verdicts recorded, and who judges."""

    runs: Runs
    home: Path
    model: ModelAt
    say: Say

    def results(self, found: list[SetResult]) -> list[SetResult]:
        """Returns the results, those of the first trial with what the judge found. Raises
        `PlanError` for answers that were not kept or are of other prompts."""
        first = found[0].record.run_id
        judged = []
        for one in found:
            rivals = [r for r in found if r.name == one.name and r.record.run_id != first]
            opponents: list[SetResult | None] = [*rivals] or [None]
            for rival in opponents if one.record.run_id == first else ():
                one = self._judged(one, rival)
            judged.append(one)
        return judged

    def _judged(self, one: SetResult, rival: SetResult | None) -> SetResult:
        name = REFERENCES if rival is None else f"{rival.record.sweep_id}.{rival.record.trial}"
        self.say(f"judging {one.record.sweep_id}/{one.record.trial} and {name} on {one.name}")
        ours = self._answers(one)
        theirs = ours if rival is None else self._answers(rival)
        if [row["prompt"] for row in ours] != [row["prompt"] for row in theirs]:
            raise PlanError(
                f"--judge: both trials must have answered the same prompts of '{one.name}', but "
                "they are others. Evaluate both with --again."
            )
        second = [row["references"][0] if rival is None else row["answer"] for row in theirs]
        judgements = [
            judge(self.model.ask, row["prompt"], row["answer"], other)
            for row, other in zip(ours, second, strict=True)
        ]
        metrics = {f"judge_{name}/{key}": value for key, value in summary(judgements).items()}
        self._keep(one, name, metrics, judgements)
        return replace(one, metrics=one.metrics | metrics)

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
        self, one: SetResult, rival: str, metrics: dict[str, float], found: list[Judgement]
    ) -> None:
        record: RunRecord = one.record
        experiment = self.runs.experiment_of(record)
        spool = spool_folder(self.home, self.runs.uri, experiment)
        text = json.dumps(document(self.model, found), indent=2) + "\n"
        with closing(Tracker(self.runs.uri, experiment, spool=spool)) as tracker:
            named = {metric_name(one.name, name): value for name, value in metrics.items()}
            tracker.log_metrics(record.run_id, 0, named)
            tracker.log_text(record.run_id, text, f"{ARTIFACTS}/{one.name}/judge-{rival}.json")
