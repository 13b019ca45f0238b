"""The rules of the house as tables, checked on the source text: which room imports which, where
each heavy dependency lives, who may know a task, who may know the terminal."""

import ast
import re
from pathlib import Path

import pytest
from source_tree import (
    FRONT,
    PACKAGES,
    ROOT,
    all_imports,
    arrows_between_files,
    arrows_between_rooms,
    circle_in,
    files_of_tests,
    loaded_at_import,
    modules,
    name_of,
    reached,
    sources,
    tree,
)

# package: the packages of ours that it may import
LAYERS: dict[str, set[str]] = {
    "search_spaces": set(),
    "trainers": set(),
    "service": {"search_spaces", "trainers"},
}

# Files beside the rooms that every room of their package may import; they import no room.
GROUND: dict[str, set[str]] = {
    "service": {
        "errors.py",
        "events.py",
        "frames.py",
        "home.py",
        "provenance.py",
        "signals.py",
        "states.py",
        "which.py",
        "wire.py",
        "words.py",
        "workspace.py",
    },
    "trainers": {
        "nearest.py",
        "responses.py",
        "sampled.py",
        "signal.py",
        "top_k.py",
        "world.py",
    },
    "search_spaces": set(),
}

# What whoever handles trials imports, beside what it is about.
OF_A_TRIAL = {"files", "numerics.py", "parts.py", "trial"}

# room: the rooms of the same package that it may import, beside the ground
ROOMS: dict[str, dict[str, set[str]]] = {
    "service": {
        "__main__.py": {"cli"},
        "cli": {
            "accounts",
            "actions",
            "cluster",
            "evaluation",
            "plan",
            "record",
            "rerun",
            "results",
            "web",
        },
        "web": {"accounts", "actions", "api", "report"},
        "api": {"accounts", "actions", "report", "spec"},
        "actions": {
            "accounts",
            "client",
            "cluster",
            "driver",
            "evaluation",
            "own_code",
            "plan",
            "record",
            "report",
            "rerun",
            "results",
            "spec",
        },
        "cluster": {"driver", "plan", "report", "slots"},
        "driver": {"own_code", "plan", "record", "search", "slots"},
        "rerun": {"own_code", "record"},
        "report": {"plan", "record", "results", "statistics"},
        "results": {"record", "statistics"},
        "evaluation": {"record"},
        "record": {"plan"},
        "slots": {"plan"},
        "own_code": {"plan", "spec"},
        "plan": {"spec"},
        "spec": {"search"},
        "search": set(),
        "accounts": set(),
        "client": set(),
        "presets": set(),
        "statistics": set(),
    },
    "trainers": {
        "__main__.py": {"files", "tasks", "teachers", "training", "trial"},
        "worker.py": {"training", "trial"},
        "evaluating": OF_A_TRIAL | {"students", "tasks", "teachers", "training"},
        "preparing": OF_A_TRIAL | {"batch_source.py", "students", "tasks", "teachers", "training"},
        "training": OF_A_TRIAL | {"batch_source.py", "losses", "students", "tasks", "teachers"},
        "teachers": {"files", "numerics.py", "parts.py", "trial"},
        "tasks": {"files", "numerics.py", "parts.py", "students", "trial"},
        "students": {"files", "trial"},
        "losses": {"trial"},
        "batch_source.py": {"parts.py", "trial"},
        "parts.py": {"costs.py", "trial"},
        "costs.py": {"trial"},
        "numerics.py": {"trial"},
        "trial": {"files"},
        "files": set(),
    },
    "search_spaces": {
        "numbers.py": set(),
        "domains.py": {"numbers.py"},
        "space.py": {"domains.py", "numbers.py", "parsing.py"},
        "parsing.py": {"domains.py", "numbers.py"},
        "grid.py": {"numbers.py", "space.py"},
        "samplers.py": {"domains.py", "grid.py", "numbers.py", "space.py"},
        "samples.py": {"domains.py", "space.py"},
        "importance.py": {"numbers.py", "space.py"},
    },
}

# dependency: the files and folders that may import it, anywhere in their text
HOMES: dict[str, set[str]] = {
    "torch": {"trainers", "service/actions/doctor.py"},
    "transformers": {"trainers"},
    "datasets": {"trainers"},
    "ray": {"trainers/worker.py", "service"},
    "mlflow": {"service/record"},
    "sqlalchemy": {
        "service/accounts",
        "service/record/sql_reader.py",
        "service/search/journal.py",
    },
    "fastapi": {"service/api", "service/web"},
    "starlette": {"service/api", "service/web"},
    "uvicorn": {"service/web/serving.py"},
    "prometheus_client": {"service/api"},
    "requests": {
        "service/client",
        "service/evaluation/judges.py",
        "service/record",
        "service/rerun/engines.py",
    },
    "optuna": {"search_spaces", "service/search"},
    "docker": {"service/rerun/engines.py", "service/actions/doctor.py"},
    "typer": {"service/cli"},
    "rich": {"service/cli"},
    "IPython": {"service/cli/notebook.py"},
    "apprise": {"service/driver/notify.py"},
    "pyarrow": {"trainers/files/columns.py", "trainers/tasks/causal_lm"},
    "lm_eval": {"trainers/evaluating/harness.py"},
    "peft": {"trainers/students/lora.py"},
    "sacrebleu": {"trainers/tasks/causal_lm/answers.py"},
    "jinja2": {"service/report/rendering.py", "service/web/site.py"},
    "kaleido": {"service/report/pictures.py"},
    "plotly": {"service/results/rho_picture.py"},
    "pandas": {"service/frames.py", "service/results/compare.py"},
    "scipy": {"service/statistics"},
}

# Each costs 0.1 to 6 seconds, so only the function that needs it loads it.
HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "ray",
    "mlflow",
    "sqlalchemy",
    "fastapi",
    "starlette",
    "uvicorn",
    "requests",
    "optuna",
    "docker",
    "plotly",
    "jinja2",
    "kaleido",
    "scipy",
    "pandas",
    "IPython",
    "lm_eval",
    "peft",
    "pyarrow",
    "sacrebleu",
}
ANSWER_AT_ONCE = (
    "kd_sweep",
    "service.cli.main",
    "service.spec.parse",
    "service.plan.plan",
    "trainers.tasks.table",
    "search_spaces.space",
    "trainers.tasks.table",
)
WITHOUT_TORCH = (
    "trainers.trial.config",
    "trainers.trial.catalogue",
    "trainers.trial.sources",
    "trainers.trial.trial_file",
    "trainers.trial.reporting",
)

# module: the only rooms and modules that may import it
ENTRANCES: dict[str, tuple[str, ...]] = {
    "service.cli.main": ("service.__main__",),
    "service.driver.driver": ("service.actions.", "service.cluster."),
}

# Beside `trainers/tasks`, the only file that names a task: the enum that a spec and a trial use.
KNOWS_A_TASK = {"trainers/trial/fields.py", "trainers/trial/text_fields.py"}
A_TASK = re.compile(r"tasks\.\w+\b|causal_lm")


def package_and_room(room: str) -> tuple[str, str]:
    package, _, name = room.partition("/")
    return package, name


def forbidden(arrows: dict[str, dict[str, str]]) -> list[str]:
    """The arrows between rooms of one package that the tables do not allow, as sentences."""
    found = []
    for room, targets in arrows.items():
        package, name = package_and_room(room)
        if package not in ROOMS:  # the front, which has its own test
            continue
        allowed = ROOMS[package].get(name, set()) | GROUND[package]
        for target, example in targets.items():
            other_package, other = package_and_room(target)
            if other_package == package and other not in allowed:
                found.append(f"{room} may not import {target}, but {example}")
    return found


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_imports_only_those_below_it(package: str) -> None:
    forbidden_packages = LAYERS.keys() - LAYERS[package] - {package}
    offences = [
        f"{name_of(path)} imports {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in all_imports(path)
        if name.split(".")[0] in forbidden_packages
    ]
    assert not offences


def test_every_room_is_in_the_table() -> None:
    rooms = {room for room in arrows_between_rooms() if not room.endswith("__init__.py")}
    known = {
        f"{package}/{room}" for package in ROOMS for room in {*ROOMS[package], *GROUND[package]}
    }
    assert {room for room in rooms if "/" in room} == known


def test_rooms_import_only_those_that_the_table_allows() -> None:
    assert not forbidden(arrows_between_rooms())


def test_the_front_imports_what_the_command_line_may_and_is_imported_by_nobody() -> None:
    arrows = arrows_between_rooms()
    front = FRONT.name
    allowed = {"cli"} | ROOMS["service"]["cli"] | GROUND["service"]
    assert arrows[front].keys() <= {f"service/{room}" for room in allowed}
    assert [room for room, targets in arrows.items() if front in targets] == []


def test_the_table_allows_no_more_than_what_is_imported() -> None:
    arrows = arrows_between_rooms()
    unused = [
        f"{package}/{room} imports nothing of {target}: take it out of ROOMS"
        for package, rooms in ROOMS.items()
        for room, allowed in rooms.items()
        for target in sorted(allowed)
        if f"{package}/{target}" not in arrows[f"{package}/{room}"]
    ]
    assert not unused


def test_an_arrow_against_the_table_is_named() -> None:
    example = "service.plan.plan imports service.driver.driver"
    assert forbidden({"service/plan": {"service/driver": example}}) == [
        f"service/plan may not import service/driver, but {example}"
    ]
    assert not forbidden({"service/driver": {"service/plan": "", "service/errors.py": ""}})


def test_neither_files_nor_rooms_import_in_circles() -> None:
    assert not circle_in(arrows_between_files())
    assert not circle_in({room: set(targets) for room, targets in arrows_between_rooms().items()})


def test_a_circle_is_named() -> None:
    assert set(circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    assert not circle_in({"a": {"b", "c"}, "b": {"c"}})


def test_imports_are_absolute() -> None:
    relative = [
        f"{name_of(path)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def is_at_home(name: str, homes: set[str]) -> bool:
    return any(name == home or name.startswith(f"{home}/") for home in homes)


@pytest.mark.parametrize("dependency", HOMES)
def test_each_heavy_dependency_has_one_home(dependency: str) -> None:
    offences = [
        name_of(path)
        for path in sources()
        if dependency in {name.split(".")[0] for name in all_imports(path)}
        and not is_at_home(name_of(path), HOMES[dependency])
    ]
    assert not offences, f"{dependency} belongs to {sorted(HOMES[dependency])} alone"


@pytest.mark.parametrize(
    ("start", "absent"),
    [(module, HEAVY) for module in ANSWER_AT_ONCE]
    + [(module, {"torch"}) for module in WITHOUT_TORCH],
)
def test_light_modules_load_nothing_heavy(start: str, absent: set[str]) -> None:
    offences = [
        f"{module} (loaded by {origin or 'the test'}) imports {name}"
        for module, origin in reached(start).items()
        for name in loaded_at_import(tree(modules()[module]))
        if name.split(".")[0] in absent
    ]
    assert not offences


def loads_ray(path: Path) -> bool:
    names = set(loaded_at_import(tree(path)))
    names |= {name for start in names & modules().keys() for name in reached(start)}
    of_ours = [tree(modules()[name]) for name in names & modules().keys()]
    loaded = names.union(*(loaded_at_import(module) for module in of_ours))
    return "ray" in {name.split(".")[0] for name in loaded}


def test_no_test_loads_ray_before_it_runs() -> None:
    """Ray reads its settings when it is loaded; a session makes them, in the first test that has
    one, whatever other files were collected."""
    files = [path for path in files_of_tests() if path.name.startswith(("test_", "conftest"))]
    assert [name_of(path) for path in files if loads_ray(path)] == []


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_entrances_are_imported_by_nobody_else(entrance: str) -> None:
    users = [module for module, path in modules().items() if entrance in all_imports(path)]
    assert users
    assert [user for user in users if not user.startswith(ENTRANCES[entrance])] == []


def names_a_task(text: str) -> bool:
    return A_TASK.search(text) is not None


def test_only_the_tasks_know_a_task() -> None:
    knowing = {
        name_of(path)
        for path in sources()
        if "tasks" not in path.parts and names_a_task(path.read_text(encoding="utf-8"))
    }
    assert knowing == KNOWS_A_TASK


def test_a_task_is_recognised_however_it_is_named() -> None:
    assert names_a_task("from trainers.tasks.causal_lm import data")
    assert names_a_task('task: Literal["causal_lm"]')
    assert not names_a_task("from trainers.tasks import table")


def test_the_packages_are_those_of_the_tables() -> None:
    assert set(PACKAGES) == LAYERS.keys() == ROOMS.keys() == GROUND.keys()
