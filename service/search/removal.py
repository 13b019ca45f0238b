"""Studies in a database, of sweeps that are deleted. Importing this file imports Optuna."""

import optuna

from service.search.journal import read_storage
from service.search.study_trials import IMPORTED


def studies_that_imported(sweep_id: str, storage: str) -> list[str]:
    """Returns the names of the studies that hold trials of this sweep beside their own."""
    opened = read_storage(storage)
    return sorted(
        study.study_name
        for study in opened.get_all_studies()
        if any(
            str(trial.user_attrs.get(IMPORTED, "")).startswith(f"{sweep_id}/")
            for trial in opened.get_all_trials(study._study_id, deepcopy=False)
        )
    )


def forget_study(sweep_id: str, storage: str) -> None:
    """Deletes the sweep's study, if it is there."""
    if sweep_id in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=sweep_id, storage=storage)
