"""What Optuna's own dashboard shows of a study beyond its values: names and where trials are
recorded."""

from pathlib import Path

import optuna
from study_support import search, take

from service.search.journal import read_storage
from service.search.recover import note_run
from service.search.study import StudyStore
from service.search.tell import tell
from service.states import TrialState


def test_values_have_the_names_of_the_metrics_written_once(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    asked_for = search(directions=("maximize", "minimize"), metrics=("rouge_l", "cross_entropy"))
    StudyStore.open(str(journal), "s", asked_for)
    before = journal.read_bytes()
    StudyStore.open(str(journal), "s", asked_for)
    assert journal.read_bytes() == before
    study = optuna.load_study(study_name="s", storage=read_storage(str(journal)))
    assert study.metric_names == ["rouge_l", "cross_entropy"]


def test_a_study_of_an_earlier_version_gets_them(tmp_path: Path) -> None:
    journal = str(tmp_path / "study.journal")
    StudyStore.open(journal, "s", search())
    store = StudyStore.open(journal, "s", search(metrics=("rouge_l",)))
    assert store.study.metric_names == ["rouge_l"]


def test_a_trial_names_its_run(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    store = StudyStore.open(str(journal), "s", search())
    number = take(store).number
    note_run(store, number, "ab12")
    assert store.frozen(number).user_attrs["mlflow_run_id"] == "ab12"
    before = journal.read_bytes()
    note_run(store, number, "ab12")  # another attempt, in the same run
    assert journal.read_bytes() == before
    tell(store, number, TrialState.COMPLETED, 1.0)
    note_run(store, number, "cd34")
    assert store.frozen(number).user_attrs["mlflow_run_id"] == "ab12"
