"""Optuna studies of sweeps that are deleted. Importing this file does not load Optuna."""

from pathlib import Path

from trainers.files.urls import is_url


def sweeps_that_began_with(sweep_id: str, storage: str) -> list[str]:
    """Returns the ids of the sweeps whose samplers began with trials of this sweep. storage: where
    its study is, a journal beside those of other sweeps, or a database."""
    if is_url(storage):
        from service.search.removal import studies_that_imported

        return studies_that_imported(sweep_id, storage)
    path = Path(storage)
    others = path.parent.parent.glob(f"*/{path.name}")
    # As `import_trials` writes it: sweep/number, in JSON.
    word = f'"{sweep_id}/'.encode()
    return sorted(one.parent.name for one in others if one != path and word in one.read_bytes())


def delete_study(sweep_id: str, storage: str) -> None:
    """Deletes the sweep's study from a database; a journal goes with its folder."""
    if is_url(storage):
        from service.search.removal import forget_study

        forget_study(sweep_id, storage)
