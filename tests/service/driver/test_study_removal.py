"""Studies of deleted sweeps in a database, and who began with them."""

from pathlib import Path

import optuna

from service.driver.study_removal import delete_study, sweeps_that_began_with
from service.search.study_trials import IMPORTED


def test_a_study_in_a_database_goes_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    for name in ("gone-1", "stays-1"):
        optuna.create_study(storage=url, study_name=name)
    study = optuna.load_study(study_name="stays-1", storage=url)
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.COMPLETE, value=1.0, user_attrs={IMPORTED: "gone-1/3"}
        )
    )
    assert sweeps_that_began_with("gone-1", url) == ["stays-1"]
    assert sweeps_that_began_with("gone", url) == []
    for _ in range(2):  # also when it is gone already
        delete_study("gone-1", url)
        assert optuna.get_all_study_names(url) == ["stays-1"]


def test_a_journal_is_looked_for_in_those_beside_it(tmp_path: Path) -> None:
    for name in ("gone-1", "stays-1", "other-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.journal").write_text(f'{{"user_attr": {{"x": "{name}/1"}}}}\n')
    (tmp_path / "stays-1" / "study.journal").write_text('{"user_attr": {"imported": "gone-1/0"}}\n')
    journal = str(tmp_path / "gone-1" / "study.journal")
    assert sweeps_that_began_with("gone-1", journal) == ["stays-1"]
    delete_study("gone-1", journal)
    assert Path(journal).exists(), "it goes with its folder"
