"""MLflow's model registry, which is in the same store as the record: a student gets a name there
that others load it by, `models:/NAME@ALIAS`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from service.errors import SpecError, TrackingError
from service.record.client import connect
from service.record.entries import ModelFacts
from service.record.sink import STUDENT
from service.record.students import Student, download_student

if TYPE_CHECKING:
    from mlflow import MlflowClient


MERGED = "merged"  # the folder of whole models of adapters among a run's artifacts


@dataclass(frozen=True)
class Version:
    """A version of a registered model, and the run that it is of. is_merged: it is the whole model
    of a student that is an adapter."""

    name: str
    version: str
    aliases: tuple[str, ...]
    run_id: str
    is_merged: bool = False

    @property
    def text(self) -> str:
        """How lists show it: `NAME version 3 @champion`."""
        return " ".join(
            [f"{self.name} version {self.version}", *(f"@{one}" for one in self.aliases)]
        )


def register(store: str, student: Student, name: str, alias: str | None) -> Version:
    """Makes the student a version of the registered model `name`, or takes the one that it is
    already, and points `alias` at it. Raises `SpecError` for a name or alias that MLflow refuses,
    `TrackingError` when the store does not answer."""
    client = connect(store)
    if alias is not None:
        _ask(store, lambda: _check_alias(alias))  # before anything is made
    wanted = (student.run_id, _is_merged(student.uri))
    known = versions(store, name)
    found = next((one for one in known if (one.run_id, one.is_merged) == wanted), None)
    if found is None:
        _ask(store, lambda: _make_model(client, name))
        made = _ask(store, lambda: _make_version(client, student, name))
        found = Version(name, str(made.version), (), student.run_id)
    if alias is None:
        return found
    version = found.version
    _ask(store, lambda: client.set_registered_model_alias(name, alias, version))
    return Version(name, version, tuple(sorted({*found.aliases, alias})), student.run_id)


def versions(store: str, name: str | None = None) -> list[Version]:
    """Returns the registered versions that are of runs: of one model, or of all. Raises
    `TrackingError` when the store does not answer."""
    client = connect(store)
    found: list[Version] = _ask(store, lambda: list(_versions(client, name)))
    return found


def make_loadable(store: str, student: Student, facts: ModelFacts) -> None:
    """Adds to a student that an earlier version recorded what makes it a model of MLflow; its
    weights stay where they are. Raises `TrackingError` when that fails."""
    # Loads MLflow, whose environment `connect` sets first.
    client = connect(store)
    from service.record.model_files import write_model_files
    from service.record.model_writes import recorded_run

    with TemporaryDirectory(prefix="kd-model-") as room:
        folder = download_student(store, student, Path(room))
        before = {one.name for one in folder.iterdir()}
        run = recorded_run(_ask(store, lambda: client.get_run(student.run_id)))
        write_model_files(folder, run, facts, None)
        for path in folder.iterdir():
            if path.name not in before:
                _ask(store, _upload(client, student.run_id, path))


def put_merged(store: str, student: Student, folder: Path, facts: ModelFacts) -> Student:
    """Records the whole model in `folder` among the artifacts of the student's run, as a model of
    MLflow, and returns it. Raises `TrackingError` when that fails."""
    client = connect(store)
    from service.record.model_files import write_model_files
    from service.record.model_writes import recorded_run

    run = _ask(store, lambda: client.get_run(student.run_id))
    write_model_files(folder, recorded_run(run), facts, None)
    _ask(store, lambda: client.log_artifacts(student.run_id, str(folder), MERGED))
    return Student(student.run_id, f"{run.info.artifact_uri}/{MERGED}", None)


def _is_merged(place: str) -> bool:
    return place.rstrip("/").endswith(f"/{MERGED}")


def _upload(client: "MlflowClient", run_id: str, path: Path) -> Callable[[], None]:
    if path.is_dir():
        return lambda: client.log_artifacts(run_id, str(path), f"{STUDENT}/{path.name}")
    return lambda: client.log_artifact(run_id, str(path), STUDENT)


def _check_alias(alias: str) -> None:
    from mlflow.utils import validation

    validation._validate_model_alias_name(alias)
    validation._validate_model_alias_name_reserved(alias)


def _make_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _make_version(client: "MlflowClient", student: Student, name: str) -> Any:
    return client.create_model_version(
        name, student.uri, run_id=student.run_id, model_id=student.model_id
    )


def _versions(client: "MlflowClient", name: str | None) -> Iterator[Version]:
    aliases: dict[tuple[str, str], list[str]] = {}
    for model in _pages(client.search_registered_models):
        for alias, version in model.aliases.items():
            aliases.setdefault((model.name, str(version)), []).append(alias)
    for one in _pages(client.search_model_versions):
        if one.run_id and name in (None, one.name):
            known = aliases.get((one.name, str(one.version)), [])
            merged = _is_merged(one.source)
            yield Version(one.name, str(one.version), tuple(sorted(known)), one.run_id, merged)


def _pages(question: Callable[..., Any]) -> Iterator[Any]:
    token = None
    while True:
        page = question(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _ask(store: str, question: Callable[[], Any]) -> Any:
    """Returns the answer; what MLflow refuses as wrong is the user's, all else the store's."""
    try:
        return question()
    except Exception as error:  # MLflow, requests and SQLAlchemy raise many kinds
        if getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE":
            raise SpecError(f"--as: {error}") from error
        raise TrackingError(f"tracking: '{store}' must answer, but got: {error}") from error
