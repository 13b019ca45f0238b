"""What sweeps of users may name: paths and addresses of a list, no code of their own; and the
tricks to get around it."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import make_document, make_study_document

from service.accounts.users import User, UserRole
from service.actions.allowed import Allowed
from service.actions.go_on import MoreOfStudy, with_more
from service.actions.plan import read_sweep
from service.errors import SpecError
from service.plan.estimates import InputFacts
from service.plan.plan import make_plan
from service.plan.resources import Resources
from service.spec.document import SweepSpec
from service.spec.parse import parse_spec
from service.workspace import Workspace

ANNA = User("anna", UserRole.SUBMITTER, "anna", may_run_code=False)
CODER = User("coder", UserRole.SUBMITTER, "coder", may_run_code=True)
ADMIN = User("root", UserRole.ADMIN, "root", may_run_code=False)
ADDRESSES = ("http://mlflow:5000", "s3://bucket/team", "postgresql://db/optuna")
DATA = {"train": "builtin:docstrings", "validation": "builtin:docstrings"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder, beside one that is not allowed and that a link leads to."""
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "train.jsonl").touch()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "data" / "train.jsonl").touch()
    return tmp_path / "data"


def read(folder: Path, **changes: Any) -> SweepSpec:
    """The sweep as the service reads it: relative paths start in the data folder."""
    path = folder.parent / "documents" / "sweep.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(make_document(**changes)))
    return read_sweep(str(path), Workspace(folder.parent / "home", folder=folder))


def check(folder: Path, user: User, **changes: Any) -> None:
    Allowed((folder,), ADDRESSES).check(read(folder, **changes), user)


def test_the_services_own_folder_is_not_named_though_it_is_in_an_allowed_one(folder: Path) -> None:
    (folder / "home").mkdir()
    (folder / "home" / "accounts.jsonl").touch()
    spec = read(folder, data=DATA | {"train": "home/accounts.jsonl"})
    Allowed((folder,)).check(spec, ANNA)
    with pytest.raises(SpecError, match="data.train: a path must be in a folder that"):
        Allowed((folder,), hidden=(folder / "home",)).check(spec, ANNA)


def test_cells_that_a_study_gets_bring_no_code_either() -> None:
    spec = parse_spec(make_study_document())
    plan = make_plan(spec, InputFacts(), Resources(num_cpus=2), code_version="test")
    own = with_more(plan, study=MoreOfStudy(cells=[{"divergence": ["reverse_kl", "os:system"]}]))
    assert plan.study is not None and own.study is not None
    Allowed().check_study(plan.study, ANNA)
    Allowed().check_study(own.study, CODER)
    with pytest.raises(SpecError, match="divergence: must be one that is shipped.*'os:system'"):
        Allowed().check_study(own.study, ANNA)


ALLOWED: list[dict[str, Any]] = [
    {},
    {"data": {"train": "train.jsonl", "validation": "./train.jsonl"}},
    {"teacher": {"model": "gpt2"}},
    {"tracking": {"uri": "http://mlflow:5000"}},
    {"storage": {"path": "s3://bucket/team/anna", "study_url": "postgresql://db/optuna"}},
    {"data": DATA | {"template": "See https://example.org/.. {instruction} {input}"}},
]
PATHS = [
    "/etc/passwd",
    "../secret/train.jsonl",
    "link/train.jsonl",
    "./x/../../secret/train.jsonl",
    "~/train.jsonl",
    "//etc/passwd.jsonl",
]
ADDRESSES_REFUSED = [
    "http://169.254.169.254/latest/meta-data",
    "http://mlflow:5000.evil.example",
    "http://mlflow:5001",
    "https://mlflow:5000",
    "http://evil.example/http://mlflow:5000",
    "file:///etc",
    "FILE:/etc/passwd",
    "sqlite:////etc/x.db",
    "http://[::1]:5000",
]


@pytest.mark.parametrize("changes", ALLOWED, ids=str)
def test_what_is_in_the_list_may_be_named(folder: Path, changes: dict[str, Any]) -> None:
    check(folder, ANNA, **changes)


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_folders(folder: Path, path: str) -> None:
    for place, named in (("data.train", {"train": path}), ("data.test.x", {"test": {"x": path}})):
        with pytest.raises(SpecError, match=f"{place}: a path must be in a folder that"):
            check(folder, ANNA, data=DATA | named)
    with pytest.raises(SpecError, match="teacher.model: a path must be in a folder that"):
        check(folder, ANNA, teacher={"model": path})
    with pytest.raises(SpecError, match="storage.path: a path must be in a folder that"):
        check(folder, ANNA, storage={"path": path})
    check(folder, ADMIN, data=DATA | {"train": path})


@pytest.mark.parametrize("address", ADDRESSES_REFUSED)
def test_no_address_is_called_but_those_of_the_list(folder: Path, address: str) -> None:
    with pytest.raises(SpecError, match="tracking.uri: an address must be one that the service"):
        check(folder, ANNA, tracking={"uri": address})
    check(folder, ADMIN, tracking={"uri": address})


@pytest.mark.parametrize(
    "address", ["s3://bucket/teammate", "s3://bucket/team/../other", "s3://bucket/team/%2e%2e/x"]
)
def test_a_folder_of_the_list_is_not_left(folder: Path, address: str) -> None:
    storage = {"path": address, "study_url": "postgresql://db/optuna"}
    with pytest.raises(SpecError, match="storage.path: an address must be one"):
        check(folder, ANNA, storage=storage)


CODE: list[tuple[dict[str, Any], str]] = [
    ({"search": {"divergence": {"choice": ["forward_kl", "mine:loss"]}}}, "divergence: must be"),
    ({"loss": {"divergence": "mine:loss"}}, "divergence: must be one that is shipped"),
    ({"teacher": {"model": "x/y", "trust_remote_code": True}}, "teacher.trust_remote_code: must"),
    (
        {"tokenizer": {"model": "x/y", "trust_remote_code": True}},
        "tokenizer.trust_remote_code: must be false",
    ),
    ({"student": {"model": "x/y", "allow_pickle": True}}, "student.allow_pickle: must be false"),
    ({"notify": "env:AWS_SECRET_ACCESS_KEY"}, "notify: must be left out"),
    ({"notify": {"command": "./train.jsonl"}}, "notify: must be left out"),
]


@pytest.mark.parametrize(("changes", "message"), CODE, ids=str)
def test_code_comes_from_who_may_bring_it_alone(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        check(folder, ANNA, **changes)
    for user in (CODER, ADMIN):
        check(folder, user, **changes)


def test_who_may_bring_code_calls_the_addresses_of_the_list_all_the_same(folder: Path) -> None:
    notify = {"notify": {"urls": ["json://host:80"]}}
    for user, message in ((ANNA, "notify: must be left"), (CODER, "notify.urls.0.: an address")):
        with pytest.raises(SpecError, match=message):
            check(folder, user, **notify)
    check(folder, ADMIN, **notify)


def test_the_cells_of_a_study_bring_no_code_either() -> None:
    spec = parse_spec(make_study_document(cells=[{"divergence": ["forward_kl", "mine:loss"]}]))
    with pytest.raises(SpecError, match="divergence: must be one that is shipped"):
        Allowed().check(spec, ANNA)


def test_a_name_before_the_host_is_another_host(folder: Path) -> None:
    spec = read(folder)
    tracking = spec.tracking.model_copy(update={"uri": "http://mlflow:5000@evil.example"})
    with pytest.raises(SpecError, match="tracking.uri: an address must be one that"):
        Allowed((), ADDRESSES).check(spec.model_copy(update={"tracking": tracking}), ANNA)


def test_a_password_in_an_address_is_not_repeated(folder: Path) -> None:
    spec = read(folder)
    tracking = spec.tracking.model_copy(update={"uri": "http://me:hunter2@evil.example"})
    with pytest.raises(SpecError, match="an address must be one") as told:
        Allowed().check(spec.model_copy(update={"tracking": tracking}), ANNA)
    assert "hunter2" not in str(told.value)
