"""Where the students of trials are: each the logged model of its run; in older stores, and of tasks
whose models are none of transformers, artifacts of the run."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from service.errors import TrackingError
from service.record.client import connect
from service.record.records import RunRecord
from service.record.sink import STUDENT

if TYPE_CHECKING:
    from mlflow import MlflowClient


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
    try:
        return _find(connect(store), run_id)
    except Exception as error:  # MLflow, requests and SQLAlchemy raise many kinds
        raise TrackingError(f"tracking: '{store}' must answer, but got: {error}") from error


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
        from mlflow.artifacts import download_artifacts

        # MLflow keeps the last name of what it copies, which is another one for a model.
        with TemporaryDirectory(dir=folder) as room:
            found = download_artifacts(student.uri, dst_path=room, tracking_uri=store)
            Path(found).rename(target)
    except Exception as error:
        raise TrackingError(
            f"run '{student.run_id}': its student must be readable, but got: {error}"
        ) from error
    return target


def _find(client: "MlflowClient", run_id: str) -> Student | None:
    # Loads MLflow, whose environment `connect` has set by now.
    from mlflow.entities import LoggedModelStatus

    from service.record.model_writes import model_of

    run = client.get_run(run_id)
    model_id = model_of(run)
    if model_id is not None:
        model = client.get_logged_model(model_id)
        # One whose files are still on their way is none yet.
        if model.status != LoggedModelStatus.READY:
            return None
        return Student(run_id, model.artifact_location, model_id)
    if any(one.path == STUDENT for one in client.list_artifacts(run_id)):
        return Student(run_id, f"{run.info.artifact_uri}/{STUDENT}", None)
    return None
