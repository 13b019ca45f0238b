"""Where the students of trials are: each the logged model of its run; in older stores, and of tasks
whose models are none of transformers, artifacts of the run."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from service.errors import TrackingError
from service.record.artifacts import Artifacts, local_folder
from service.record.open_reader import open_reader
from service.record.reading import answering
from service.record.records import RunRecord
from service.record.sink import STUDENT


@dataclass(frozen=True)
class Student:
    """A trial's recorded student. uri: of its folder; model_id: of its logged model,
    None for a run's artifacts."""

    run_id: str
    uri: str
    model_id: str | None


def find_student(store: str, run_id: str) -> Student | None:
    """Returns the student of a run in the store at that address; None when it has none. Raises
    `TrackingError` when the store does not answer."""
    reader = open_reader(store)
    models = reader.models(run_id)
    if models:
        model = models[0]
        # One whose files are still on their way is none yet.
        return Student(run_id, model.place, model.model_id) if model.is_ready else None
    place = reader.artifact_place(run_id)
    with answering(store):
        names = Artifacts(store).names(run_id, place)
    return Student(run_id, f"{place}/{STUDENT}", None) if STUDENT in names else None


def student_of(store: str, record: RunRecord, reference: str) -> Student:
    """Returns the student of a recorded trial. Raises `TrackingError`, with `reference` as the
    trial was named, when it has none, and as `find_student` does."""
    student = find_student(store, record.run_id)
    if student is None:
        raise TrackingError(
            f"run '{reference}': must have a student in the record, but it has none "
            f"(it is {record.state})."
        )
    return student


def download_student(store: str, student: Student, folder: Path) -> Path:
    """Copies the student's files into `folder/student` and returns it. Raises `TrackingError` when
    that fails."""
    target = folder / STUDENT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(store, student, target)
    except Exception as error:
        raise TrackingError(
            f"run '{student.run_id}': its student must be readable, but got: {error}"
        ) from error
    return target


def _download(store: str, student: Student, target: Path) -> None:
    here = local_folder(student.uri)
    if here is not None:
        shutil.copytree(here, target)
        return
    from mlflow.artifacts import download_artifacts

    # MLflow keeps the last name of what it copies, which is another one for a model.
    with TemporaryDirectory(dir=target.parent) as room:
        found = download_artifacts(student.uri, dst_path=room, tracking_uri=store)
        Path(found).rename(target)
