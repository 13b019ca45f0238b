"""What a shell completes: names of sweeps, trials, presets, metrics and fields. Each function gets
what is typed so far and returns what may follow, with a help text where a shell shows one. Quick:
nothing heavy is loaded, and nobody is asked over the network."""

import os
from collections.abc import Iterable
from pathlib import Path

from service import actions
from service.cli.environment import PROFILE_VARIABLE, environment_with
from service.errors import SweepError
from service.home import SQLITE, caches_folder, sqlite_path
from service.record.names import sweep_names, trial_names
from service.words import EVERY_SWEEP, LATEST
from service.workspace import Workspace

Items = list[tuple[str, str]]
NOWHERE = Path(os.devnull)
DOCUMENTS = (".yaml", ".yml", ".json", ".toml")


def sweeps(incomplete: str) -> Items:
    """Returns `latest`, then the names of sweeps and their ids, the newest first."""
    known = sweep_names(_store())
    named = dict.fromkeys(name for _, name in known)
    return _beginning(
        incomplete, [(LATEST, "the newest"), *((name, "its newest") for name in named), *known]
    )


def sweeps_or_all(incomplete: str) -> Items:
    """Returns the same, and `all`."""
    return [*sweeps(incomplete), *_beginning(incomplete, [(EVERY_SWEEP, "every sweep")])]


def trials(incomplete: str) -> Items:
    """Returns SWEEP/NUMBER: the sweeps until one is typed, then its trials."""
    sweep, slash, _ = incomplete.partition("/")
    store = _store()
    if not slash:
        return [(f"{name}/", text) for name, text in sweeps(incomplete)]
    known = sweep_names(store)
    sweep_id = next((one for one, name in known if sweep in (LATEST, one, name)), sweep)
    found = trial_names(store, sweep_id)
    return _beginning(incomplete, [(f"{sweep}/{number}", text) for number, text in found])


def documents(incomplete: str) -> Items:
    """Returns the presets, and sweep files and folders in the folder that is typed so far."""
    found = [(preset.name, preset.finds_out) for preset in actions.documents.list_presets()]
    head = incomplete.rpartition("/")[0]
    folder = Path(head or ("/" if incomplete.startswith("/") else "."))
    for path in sorted(folder.expanduser().glob("*")) if folder.expanduser().is_dir() else []:
        name = f"{head}/{path.name}" if "/" in incomplete else path.name
        if path.is_dir() and not path.name.startswith("."):
            found.append((f"{name}/", ""))
        elif path.suffix in DOCUMENTS:
            found.append((name, ""))
    return _beginning(incomplete, found)


def metrics(incomplete: str) -> Items:
    """Returns what trials log, with the directions of what ranks them."""
    from trainers.tasks import table
    from trainers.trial.metrics import TRAINING_METRICS

    found = {name: str(one.direction or "") for name, one in table.known_metrics().items()}
    return _beginning(incomplete, sorted((found | dict.fromkeys(TRAINING_METRICS, "")).items()))


def directions(incomplete: str) -> Items:
    """Returns the two ways in which a metric may rank."""
    return _beginning(incomplete, [("maximize", "more is better"), ("minimize", "less is better")])


def fields(incomplete: str) -> Items:
    """Returns the fields of a trial's config."""
    from trainers.trial.config import TrialConfig

    return _beginning(incomplete, [(name, "") for name in sorted(TrialConfig.model_fields)])


def conditions(incomplete: str) -> Items:
    """Returns FIELD= for each field."""
    return [(f"{name}=", text) for name, text in fields(incomplete)]


def answers(incomplete: str) -> Items:
    """Returns the commands whose JSON has a schema."""
    from service.actions.json_types import BY_COMMAND

    return _beginning(incomplete, [(name, "") for name in BY_COMMAND])


def caches(incomplete: str) -> Items:
    """Returns the keys of the home folder's teacher caches."""
    workspace = _workspace()
    folder = caches_folder(workspace.home) if workspace else NOWHERE
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return _beginning(incomplete, [(name, "") for name in names if not name.startswith(".")])


def _workspace() -> Workspace | None:
    """Returns the workspace of the environment (an option --profile is not looked at); None for one
    that is wrong, as a shell shows no errors."""
    try:
        environment = environment_with(os.environ.get(PROFILE_VARIABLE))
        return Workspace.from_environment(environment, Path.cwd())
    except SweepError:
        return None


def _store() -> Path:
    """Returns the file of the record; one that is not there for a server."""
    workspace = _workspace()
    uri = workspace.tracking_uri if workspace else ""
    return sqlite_path(uri) if uri.startswith(SQLITE) else NOWHERE


def _beginning(incomplete: str, items: Iterable[tuple[str, str]]) -> Items:
    return [item for item in items if item[0].startswith(incomplete)]
