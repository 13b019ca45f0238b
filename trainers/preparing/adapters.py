"""What adapters take beside a model's training: a look at their layers before anything is computed,
and whole models of them. No torch before one is needed."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainers.files import store
from trainers.files.fingerprints import TOKENIZER_FILES
from trainers.files.json_files import read_object
from trainers.files.keyed import keyed_folder
from trainers.parts import Task
from trainers.students.folders import check_base, is_adapter
from trainers.tasks import adapters, locate, table
from trainers.trial.adapters import Adapter
from trainers.trial.sources import ROLES, ModelSource, PrepareRequest, Role
from trainers.trial.trial_file import TrialFile

# What stands beside a model's weights and is the same of an adapter and of the whole.
FOUND, PER_RANK = "adapter.json", "numbers_per_rank"
BESIDE = (*TOKENIZER_FILES, "preprocessor_config.json")


def check_adapters(request: PrepareRequest, task: Task, home: Path) -> int | None:
    """Returns how many numbers the adapter that trials train has for each rank; None where they
    train none. Raises `ValueError` for an adapter of the request whose targets its model has not,
    and one that is to be merged with a quantised base. What was found is remembered under `home`,
    as looking takes torch and seconds."""
    per_rank: int | None = None
    for role in ROLES:
        source = request.source(role)
        if source.model is not None and is_adapter(Path(source.model).expanduser()):
            adapters.check_plain(_config(source, role), f"{role}.model")
    for role, place, adapter in _trained(request):
        source = request.source(role)
        config = _config(source, role)
        if place.endswith("fit.adapter"):
            adapters.check_plain(config, place)
        asked = {
            "task": task.name,
            "config": config,
            "targets": adapter.targets,
            "by": version("transformers"),
            "says": PER_RANK,
        }
        folder = keyed_folder(home, "adapters", asked)
        if not folder.is_dir():
            from trainers.students.targets import numbers_per_rank, target_names

            model = task.runtime().outline(source, role)
            found = numbers_per_rank(model, target_names(model, adapter.targets, place))
            store.once(folder, partial(_remember, found))
        if adapter is request.adapter:
            per_rank = int(read_object(folder / FOUND, {PER_RANK: int})[PER_RANK])
    return per_rank


def _remember(per_rank: int, folder: Path) -> None:
    (folder / FOUND).write_text(json.dumps({PER_RANK: per_rank}) + "\n")


def write_whole(adapter: Path, trial: TrialFile, target: Path) -> None:
    """Writes into `target` the whole model that a trial's student in the folder `adapter` is with
    its base, in the dtype of that. Raises `ValueError` where the base is not there."""
    base = Path(trial.paths.student)
    if base.is_dir():
        check_base(adapter, base, "student")
    else:
        base = locate.base_of(adapter, "student", trust=trial.trusts("student"))
    task = table.task_named(trial.config.task)
    whole_model(adapter, base, task, trust=trial.trusts("student")).save_pretrained(target)
    for path in sorted({path for pattern in BESIDE for path in adapter.glob(pattern)}):
        shutil.copyfile(path, target / path.name)


def whole_model(adapter: Path, base: Path, task: Task, *, trust: bool) -> Any:
    """Returns the model of an adapter and its base, merged on the CPU in the base's own dtype."""
    import torch

    load = partial(
        task.runtime().load_model,
        device=torch.device("cpu"),
        attention=None,
        dtype=adapters.stored_dtype(base),
        trust=trust,
    )
    return adapters.merged(adapter, base, load)


def _trained(request: PrepareRequest) -> Iterator[tuple[Role, str, Adapter]]:
    """The adapters that are trained: by trials, or by fits."""
    if request.adapter is not None:
        yield "student", "student.adapter", request.adapter
    for role in ROLES:
        fit = request.source(role).fit
        if fit is not None and fit.adapter is not None:
            yield role, f"{role}.fit.adapter", fit.adapter


def _config(source: ModelSource, role: Role) -> dict[str, Any]:
    if source.config is not None:
        return source.config
    return locate.read_config(locate.whole_folder(source, role, with_weights=False))
