"""The files that runs keep: those on this machine are copied, others MLflow gets."""

import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.record.client_reader import ClientReader


def local_folder(place: str) -> Path | None:
    """Returns the folder on this machine that MLflow's place of a run's artifacts means, or None
    for one elsewhere."""
    if place.startswith("/"):
        return Path(place)
    parts = urlsplit(place)
    is_here = parts.scheme == "file" and parts.netloc in ("", "localhost")
    return Path(unquote(parts.path)) if is_here else None


class Artifacts:
    """The files of runs in the store at `uri`. place: where a run's are, as MLflow has it. Every
    method raises what the system or MLflow raises."""

    def __init__(self, uri: str) -> None:
        self._elsewhere = ClientReader(uri)

    def names(self, run_id: str, place: str) -> list[str]:
        """Returns the names of the files and folders that the run keeps, at the top."""
        folder = local_folder(place)
        if folder is None:
            return self._elsewhere.artifacts(run_id)
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def download(self, run_id: str, place: str, name: str, target: Path) -> Path:
        """Copies a file or folder of the run below the folder `target`, which is there, and returns
        where it is."""
        folder = local_folder(place)
        if folder is None:
            return self._elsewhere.download(run_id, name, target)
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (folder / name).is_dir():
            shutil.copytree(folder / name, copy, dirs_exist_ok=True)
        else:
            shutil.copy2(folder / name, copy)
        return copy
