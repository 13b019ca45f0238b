"""Evaluates the students of chosen trials, and records the results with their runs. A test set
reports once: what a run has recorded of a set is shown and not measured again."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import PlanError, TrackingError
from service.evaluation.judges import Judge
from service.evaluation.sets import (
    SPLIT,
    TAG,
    NamedSet,
    Recorded,
    metric_name,
    metrics_of,
    names_recorded,
    recorded_set,
)
from service.home import evaluations_folder
from service.record import tags
from service.record.plans import read_plan
from service.record.records import RunRecord
from service.record.runs import Runs
from service.record.students import download_student, find_student
from service.record.tracking import Tracker, tracker_at
from service.states import FINISHED
from trainers.trial.facts import SetFacts
from trainers.trial.reporting import EXAMPLES, SAMPLES
from trainers.trial.sources import DataSource

if TYPE_CHECKING:
    from trainers.evaluating.evaluate import FinishedStudent, SetScores

ARTIFACTS = "evaluations"  # the folder among a run's artifacts
Say = Callable[[str], None]


@dataclass(frozen=True)
class HowToEvaluate:
    """split: of sets that have several; fields: of the section `evaluation`, over the protocol's;
    student: a folder in place of the run's own student; again: also what was measured before;
    harness_tasks: a folder with tasks of lm-evaluation-harness beside its own; at_temperatures:
    also sample answers at temperatures that are chosen on the validation split; judge: what
    compares the first trial's answers with the others', or with the references where it is
    alone."""

    split: str = SPLIT
    fields: Mapping[str, Any] = field(default_factory=dict)
    student: Path | None = None
    again: bool = False
    harness_tasks: Path | None = None
    at_temperatures: bool = False
    judge: Judge | None = None


@dataclass(frozen=True)
class SetResult:
    """What a trial's student scores on a set. is_new: it was measured now, and not before;
    notices: what to know before relying on it."""

    record: RunRecord
    name: str
    recorded: Recorded
    metrics: dict[str, float]
    is_new: bool
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the result as one JSON object."""
        return {
            "sweep_id": self.record.sweep_id,
            "trial": self.record.trial,
            "run_id": self.record.run_id,
            "set": self.name,
            "place": self.recorded.place,
            "evaluated_at": self.recorded.at,
            "is_new": self.is_new,
            **self.recorded.facts.model_dump(),
            "fields": dict(self.recorded.fields),
            "notices": list(self.notices),
            "metrics": {n: v if math.isfinite(v) else None for n, v in self.metrics.items()},
        }


@dataclass(frozen=True)
class Evaluation:
    """Evaluates trials on sets; `say` takes what is being done, a line each."""

    runs: Runs
    home: Path
    how: HowToEvaluate
    say: Say

    def evaluate(self, references: Sequence[str], sets: Sequence[NamedSet]) -> list[SetResult]:
        """Returns the results, trial by trial and set by set.

        Raises `TrackingError` for a run that is no finished trial or has no student, `PlanError`
        for data that is not here any more, and for a set that is none for these trials."""
        self._check_tasks([one.task for one in sets if one.task is not None])
        records = {reference: self._finished(reference) for reference in references}
        known = {ref: [self._before(one, each) for each in sets] for ref, one in records.items()}
        found = []
        for reference, record in records.items():
            pairs = list(zip(sets, known[reference], strict=True))
            wanted = [one for one, before in pairs if before is None]
            new = self._measured(reference, record, wanted) if wanted else {}
            found += [before or new[one.name] for one, before in pairs]
        return found

    def _check_tasks(self, names: Sequence[str]) -> None:
        if not names:
            return
        from trainers.evaluating.harness import check_tasks

        try:
            check_tasks(names, self.how.harness_tasks)
        except ValueError as error:
            raise PlanError(str(error)) from error

    def _finished(self, reference: str) -> RunRecord:
        record = self.runs.get(reference)
        if record.state not in FINISHED or record.tags.get("kind") != tags.KIND_TRIAL:
            raise TrackingError(
                f"run '{reference}': must be a finished trial of a sweep to be evaluated, but got "
                f"a {record.tags.get('kind')} that is {record.state}."
            )
        return record

    def _before(self, record: RunRecord, one: NamedSet) -> SetResult | None:
        """What was recorded, unless it is to be measured again. Raises `PlanError` where that name
        meant another set."""
        recorded = _recorded(record, one.name)
        if recorded is not None and recorded.place != one.place:
            raise PlanError(
                f"--on {one.name}: trial {record.sweep_id}/{record.trial} was evaluated on a set "
                f"of that name, {recorded.place}, but got {one.place}. Give it another name."
            )
        if recorded is None or self.how.again:
            return None
        notice = f"measured on {recorded.at}; a test set reports once: --again measures it again"
        metrics = metrics_of(record.metrics, one.name)
        cautions = (notice, *_cautions(recorded.facts))
        return SetResult(record, one.name, recorded, metrics, False, cautions)

    def _measured(
        self, reference: str, record: RunRecord, sets: Sequence[NamedSet]
    ) -> dict[str, SetResult]:
        with self._recording(record) as (tracker, folder):
            student = self._student(reference, record, folder)
            data = read_plan(self.runs, record.sweep_id).spec.prepare_request().data
            found = {}
            for one in sets:
                self.say(f"{record.sweep_id}/{record.trial} on {one.name}")
                scores = self._scores(student, one, data, folder / one.name)
                result = self._result(record, one, scores, has_teacher=student.has_teacher)
                _keep(result, tracker, folder / one.name)
                found[one.name] = result
        return found

    @contextmanager
    def _recording(self, record: RunRecord) -> Iterator[tuple[Tracker, Path]]:
        """What writes to the record, and a folder for files; it stays where the server is away, and
        they have to wait."""
        folder = evaluations_folder(self.home) / f"{record.run_id[:8]}-{time.time_ns():x}"
        experiment = self.runs.experiment_of(record)
        tracker = tracker_at(self.runs.uri, experiment, self.home)
        delivered = False
        try:
            folder.mkdir(parents=True)
            yield tracker, folder
        finally:
            delivered = tracker.close()
            if delivered:
                shutil.rmtree(folder, ignore_errors=True)

    def _student(self, reference: str, record: RunRecord, folder: Path) -> "FinishedStudent":
        from trainers.evaluating.evaluate import FinishedStudent

        trial = self.runs.trial_file(record.run_id)
        if not Path(trial.paths.data).is_dir():
            raise PlanError(
                f"evaluate: the trial's data must be a folder on this machine, but "
                f"'{trial.paths.data}' is not there. Its sweep prepares it again: "
                f"kd-sweep resume {record.sweep_id}."
            )
        own = self.how.student
        if own is None:
            student = find_student(self.runs.uri, record.run_id)
            if student is None:
                raise TrackingError(
                    f"run '{reference}': its student must be in the record to be evaluated, but it "
                    f"was not kept. Train it again, kd-sweep rerun {reference} --local --keep, and "
                    "add --student with the folder out/student of its files."
                )
            own = download_student(self.runs.uri, student, folder)
        return FinishedStudent(trial, own, self.how.fields, self.how.at_temperatures)

    def _scores(
        self, student: "FinishedStudent", one: NamedSet, data: DataSource, output: Path
    ) -> "SetScores":
        try:
            if one.task is not None:
                return student.harness(one.task, self.how.harness_tasks, output)
            return student.score(one.source(data, self.how.split), output)
        except ValueError as error:
            # A set is read as a validation split is.
            reason = str(error).removeprefix("data.validation: ")
            where = "" if one.task else f"--on {one.name}: "
            raise PlanError(where + reason.replace("data.validation", one.name)) from error

    def _result(
        self, record: RunRecord, one: NamedSet, scores: "SetScores", *, has_teacher: bool
    ) -> SetResult:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        recorded = Recorded(one.place, at, self.how.fields, scores.facts)
        notices = [*_cautions(scores.facts), *_other_names(record, one.name, scores.facts)]
        if not has_teacher:
            notices.append("its teacher is not on this machine: nothing is compared with it")
        if self.how.student is not None:
            notices.append(f"of the student in {self.how.student}, not of the one in the record")
        return SetResult(record, one.name, recorded, scores.metrics, True, tuple(notices))


def _recorded(record: RunRecord, name: str) -> Recorded | None:
    try:
        return recorded_set(record.tags, name)
    except ValueError as error:
        raise TrackingError(f"run '{record.run_id}': {error}") from error


def _keep(result: SetResult, tracker: Tracker, folder: Path) -> None:
    """Records the result with its trial's run: the tag last, since it says that all is there."""
    run_id, name = result.record.run_id, result.name
    tracker.log_metrics(
        run_id, 0, {metric_name(name, metric): value for metric, value in result.metrics.items()}
    )
    for file in (SAMPLES, EXAMPLES):
        if (folder / file).is_file():
            tracker.log_artifact(run_id, folder / file, f"{ARTIFACTS}/{name}")
    facts = result.recorded.facts.model_dump()
    text = json.dumps(asdict(result.recorded) | {"facts": facts})
    tracker.tag(run_id, {tags.PREFIX + TAG + name: text})


def _cautions(facts: SetFacts) -> list[str]:
    dropped = f"{facts.num_dropped} records were left out: their prompts are too long"
    return ([dropped] if facts.num_dropped else []) + ([facts.caution] if facts.caution else [])


def _other_names(record: RunRecord, name: str, facts: SetFacts) -> list[str]:
    """Says under which other names the run was evaluated on the same examples."""
    others = [
        other
        for other in names_recorded(record.tags)
        if other != name
        and (known := _recorded(record, other)) is not None
        and known.facts.fingerprint == facts.fingerprint
    ]
    return [f"the very examples of '{other}', which was reported before" for other in others]
