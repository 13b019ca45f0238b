"""From a sweep's name to its plan: reads files, asks the machine, spends nothing."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.actions.record import open_record
from service.client.asking import route, tell
from service.errors import JobError, PlanError, SpecError
from service.evaluation.sets import SPLIT, NamedSet
from service.home import make_home
from service.own_code.sweep import find_own_modules, own_modules_of
from service.plan.estimates import InputFacts
from service.plan.known_cache import KnownCache
from service.plan.measured import known_times
from service.plan.places import storage_folder, teacher_caches_folder
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources, local_resources
from service.plan.search_rows import search_rows
from service.provenance import code_version
from service.spec.document import SweepSpec
from service.spec.file import LoadedSweep, load_sweep, read_text
from service.workspace import Server, Workspace
from trainers.files.fingerprints import of_model
from trainers.preparing.inspection import inspect, same_split
from trainers.students.folders import is_adapter
from trainers.tasks import locate
from trainers.teachers import cache_inventory
from trainers.trial.sources import ModelSource


def plan_sweep(
    reference: str,
    workspace: Workspace | Server,
    *,
    overrides: Sequence[str] = (),
    resources: Resources | None = None,
    code: Path | None = None,
    warm_start: str | None = None,
) -> SweepPlan:
    """Returns the plan of the sweep file or preset `reference`.

    overrides: `a.b=value` each; resources: what the sweep may take, this machine's by default;
    code: where modules of the user's own are; by default they are looked for where the sweep's
    relative paths are, beside its file and then in the workspace's folder; warm_start: an earlier
    sweep in the same storage (id, beginning, name or `latest`), whose trials the sampler starts
    with.

    A service gets the file's text, looks for what it names among its own data, and takes the place
    of `resources` and `code`. Raises `SpecError` for a wrong document, `PlanError` for inputs or
    resources that are not there, or an earlier sweep that cannot be learned from, `TrackingError`
    when there is none.
    """
    if isinstance(workspace, Server):
        return _plan_there(reference, workspace, overrides, code, warm_start)
    loaded = load_sweep(reference, overrides, workspace.folder, workspace.storage)
    spec = loaded.spec
    _check_command(spec)
    place, told = find_own_modules(spec, loaded.folders) if code is None else (code, [])
    own = own_modules_of(spec, place)
    make_home(workspace.home)  # what is found out of inputs is remembered there
    facts = _facts_of(loaded, workspace.home)
    _check_test_sets(spec)
    found = facts.fingerprints | own.fingerprints()
    made = make_plan(
        spec,
        facts.model_copy(update={"fingerprints": found}),
        resources or local_resources(storage_folder(spec, workspace.home)),
        code_version=code_version(),
        own_modules=own.kept,
    )
    made = made.model_copy(update={"warnings": (*loaded.notes, *told, *made.warnings)})
    return made if warm_start is None else _with_warm_start(made, warm_start, workspace)


def _plan_there(
    reference: str,
    server: Server,
    overrides: Sequence[str],
    code: Path | None,
    warm_start: str | None,
) -> SweepPlan:
    if code is not None:
        raise SpecError(
            f"--code: a service takes modules from its own data alone, but got {code}. Have its "
            "admin put them there."
        )
    wanted = {"spec": read_text(reference, server.here.folder), "overrides": list(overrides)}
    return tell(server, route("plan"), SweepPlan, {**wanted, "warm_start": warm_start})


def read_sweep(reference: str, workspace: Workspace, *, overrides: Sequence[str] = ()) -> SweepSpec:
    """Returns the sweep file or preset `reference` as it was meant, and looks at none of what it
    names. Raises `SpecError` for a wrong document."""
    return load_sweep(reference, overrides, workspace.folder, workspace.storage).spec


def _with_warm_start(plan: SweepPlan, reference: str, workspace: Workspace) -> SweepPlan:
    """Returns the plan under an id of its own: what the sampler knows at the start is part of what
    the sweep is."""
    if plan.study is not None:
        raise SpecError(
            f"--from: a sampler starts with what an earlier sweep found, but got {reference} with "
            "a study, which samples nothing. Leave it out."
        )
    source = open_record(workspace).resolve_sweep(reference).sweep_id
    digest = hashlib.sha256(source.encode()).hexdigest()[:4]
    started = {"sweep_id": f"{plan.sweep_id}-w{digest}", "warm_start": source}
    plan = plan.model_copy(update=started)
    told = (_checked_warm_start(plan, workspace), *plan.warnings)
    return plan.model_copy(update={"warnings": told})


def _checked_warm_start(plan: SweepPlan, workspace: Workspace) -> str:
    """Returns what the user should know of the sweep that the plan starts with."""
    # They load Optuna.
    from service.driver.open_study import check_warm_start, trials_to_start_with

    try:
        trials = trials_to_start_with(plan, workspace.home)
    except (JobError, PlanError) as error:
        if workspace.cluster is not None:  # whose nodes alone may see it
            return f"how much the sampler can learn from {plan.warm_start} is seen on the cluster"
        raise PlanError(
            f"--from {plan.warm_start}: its study must be in this sweep's storage, but got: "
            f"{error} Set storage.path or storage.study_url to those of {plan.warm_start}."
        ) from error
    return check_warm_start(plan, trials)


def _facts_of(loaded: LoadedSweep, home: Path) -> InputFacts:
    try:
        return input_facts(loaded.spec, home)
    except PlanError as error:
        if len(loaded.folders) == 1:
            raise
        folders = ", then in ".join(map(str, loaded.folders))
        text = f"{error} (Relative paths in the sweep's file are looked for in {folders}.)"
        raise PlanError(text) from error


def plan_json(plan: SweepPlan) -> dict[str, Any]:
    """Returns the plan's JSON, with the search space in words."""
    return plan.model_dump(mode="json") | {"search_space": explain_search(plan)}


def explain_search(plan: SweepPlan) -> list[dict[str, str]]:
    """Returns one row a searched hyperparameter: `name`, `domain`, `condition`."""
    return search_rows(plan.spec, plan.facts.vocab_size)


def input_facts(spec: SweepSpec, home: Path) -> InputFacts:
    """Returns what is known of the inputs. Raises `PlanError` that says exactly what is missing."""
    try:
        facts = inspect(spec.prepare_request(), home)
        models = _fingerprints_of_models(spec)
    except ValueError as error:
        raise PlanError(str(error)) from error
    found = facts.model_dump() | {"fingerprints": facts.fingerprints | models}
    return InputFacts(**found, **_measured(spec, home), caches=_caches(spec, home, facts.prepared))


def _caches(spec: SweepSpec, home: Path, prepared: Mapping[str, str]) -> list[KnownCache]:
    """Returns what is there of the teacher and the data as they are prepared; nothing of caches
    that are stored elsewhere than on a disk, which the sweep finds when it begins."""
    if not prepared or spec.teacher_cache.url:
        return []
    return [
        KnownCache(stored=one.dtype, bias=one.bias, conversion=one.conversion)
        for one in cache_inventory.list_caches(teacher_caches_folder(spec, home))
        if one.fingerprints == prepared
    ]


def _measured(spec: SweepSpec, home: Path) -> dict[str, Any]:
    """Returns what is known of trials from an earlier sweep of these inputs."""
    times = known_times(home, spec)
    if times is None:
        return {}
    ends = times.fastest_s, times.slowest_s
    return {
        "trial_s": times.trial_s,
        "num_trials_measured": times.num_trials,
        "trial_range_s": None if None in ends else ends,
        "start_s": times.start_s,
    }


def _check_command(spec: SweepSpec) -> None:
    command = spec.notify.command
    if command is not None and not (Path(command).is_file() and os.access(command, os.X_OK)):
        what = "may not be run (chmod +x it)" if Path(command).is_file() else "is no file"
        raise PlanError(
            f"notify.command: must be a program's file, without arguments, but {command} {what}. "
            "Write what it is to do into a script, and name that."
        )


def _check_test_sets(spec: SweepSpec) -> None:
    """Raises `PlanError` for a test set that is missing, or that trials learn from or are selected
    by."""
    request = spec.prepare_request()
    for name, place in spec.data.test.items():
        try:
            split = same_split(request, NamedSet(name, place).source(request.data, SPLIT))
        except ValueError as error:
            reason = str(error).replace("data.validation", f"data.test.{name}")
            raise PlanError(reason) from error
        if split is not None:
            raise PlanError(
                f"data.test.{name}: a test set must be data that trials neither learn from nor are "
                f"selected by, but got {place}, which is that of data.{split}, "
                f"{getattr(spec.data, split)}. Name another, or leave it out."
            )


def _fingerprints_of_models(spec: SweepSpec) -> dict[str, str]:
    """Returns the hash of each model that is a local folder: other weights make another sweep."""
    sources = {"teacher": spec.teacher.model, "student": spec.student.model}
    return {
        role: _fingerprint(Path(name), role)
        for role, name in sources.items()
        if name and Path(name).is_dir()
    }


def _fingerprint(folder: Path, role: str) -> str:
    if not is_adapter(folder):
        return of_model(folder)
    return locate.fingerprint(ModelSource(model=str(folder.resolve())), role, with_weights=False)
