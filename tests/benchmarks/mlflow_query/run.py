"""How long `best` takes in a store of 10,000 trials: seconds, and ratios to the store without
statistics.

A few trials are recorded as a sweep records them, then copied inside the database with other
values.

Usage: python tests/benchmarks/mlflow_query/run.py [--trials N] [--uri postgresql://...]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import sqlalchemy
from records_support import plan_of, record_sweep

from service.home import spool_folder
from service.record.runs import Runs
from service.record.store import ensure_store
from service.record.tracking import Tracker
from service.results.evidence import Evidence
from service.results.standings import Standing

ORIGINALS = 10
SWEEPS = 20
ALL = "all sweeps, each ranked"
EVALUATIONS = 5
METRICS = ("cross_entropy", "kl_teacher_student", "rouge_l", "student_entropy", "top1_agreement")


def originals(uri: str, home: Path) -> None:
    """Records one sweep of ten trials as the driver does."""
    rows = [
        (
            {"divergence": ("forward_kl", "reverse_kl")[number % 2], "tau": 1.0 + number},
            {name: 0.1 + number / 100 for name in METRICS},
        )
        for number in range(ORIGINALS)
    ]
    record_sweep(uri, home, plan_of(), rows)


def multiply(uri: str, num_trials: int) -> None:
    """Copies the trials in the database until there are `num_trials`, in twenty sweeps."""
    engine = sqlalchemy.create_engine(uri)
    pick = (
        "select run_uuid, row_number() over (order by start_time) as place from runs "
        "where run_uuid in "
        "(select run_uuid from tags where key = 'kd_sweep.kind' and value = 'trial')"
    )
    with engine.begin() as database:
        found = database.execute(sqlalchemy.text(pick)).all()
        for copy in range(1, num_trials // ORIGINALS):
            for run_uuid, place in found:
                new = f"{copy:06x}{place:04x}" + run_uuid[10:]
                _copy_run(database, run_uuid, new, copy)
    engine.dispose()


def _copy_run(database: sqlalchemy.Connection, old: str, new: str, copy: int) -> None:
    values = {"old": old, "new": new, "sweep": f"s-{copy % SWEEPS}", "shift": (copy * 7919) % 1000}
    for table, columns, special in (
        ("runs", _columns(database, "runs"), {"run_uuid": ":new"}),
        ("params", _columns(database, "params"), {"run_uuid": ":new"}),
        (
            "tags",
            _columns(database, "tags"),
            {
                "run_uuid": ":new",
                "value": "case when key = 'kd_sweep.sweep_id' then :sweep else value end",
            },
        ),
        (
            "latest_metrics",
            _columns(database, "latest_metrics"),
            {"run_uuid": ":new", "value": "value + :shift / 10000.0"},
        ),
    ):
        chosen = ", ".join(special.get(name, name) for name in columns)
        database.execute(
            sqlalchemy.text(
                f"insert into {table} ({', '.join(columns)}) select {chosen} from {table} "
                "where run_uuid = :old"
            ),
            {name: value for name, value in values.items() if f":{name}" in chosen + ":old"},
        )
    _copy_history(database, old, new)


def _copy_history(database: sqlalchemy.Connection, old: str, new: str) -> None:
    columns = _columns(database, "metrics")
    for step in range(EVALUATIONS):
        special = {"run_uuid": ":new", "step": f"step * 100 + {step}"}
        chosen = ", ".join(special.get(name, name) for name in columns)
        database.execute(
            sqlalchemy.text(
                f"insert into metrics ({', '.join(columns)}) select {chosen} from metrics "
                "where run_uuid = :old"
            ),
            {"old": old, "new": new},
        )


_known: dict[str, list[str]] = {}


def _columns(database: sqlalchemy.Connection, table: str) -> list[str]:
    if table not in _known:
        found = sqlalchemy.inspect(database).get_columns(table)
        _known[table] = [column["name"] for column in found]
    return _known[table]


def seconds(question: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Returns the medians of wall and CPU seconds, after one round that is not counted."""
    question()
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        question()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def ranked(runs: Runs, sweep_id: str) -> list[Standing]:
    """Returns the sweep's configs by the objective, as `best` ranks them."""
    return Evidence(tuple(runs.trials(sweep_id)), (("rouge_l", "maximize"),)).ranked("rouge_l")


def ask(uri: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Returns the seconds of each question, asked in this process."""
    runs = Runs(uri)
    questions: dict[str, Callable[[], object]] = {
        ALL: lambda: [ranked(runs, f"s-{number}") for number in range(SWEEPS)],
        "a sweep of 500, ranked": lambda: ranked(runs, "s-1"),
        "the list of sweeps": runs.sweeps,
        "all trials of a sweep of 500": lambda: runs.trials("s-1"),
    }
    chosen = questions if rounds > 1 else {ALL: questions[ALL]}
    return {name: seconds(question, rounds) for name, question in chosen.items()}


def ask_afresh(uri: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Returns what `ask` does in a process of its own: a connection reads the statistics once."""
    command = [sys.executable, __file__, "--uri", uri, "--ask", str(rounds)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: (wall, cpu) for name, (wall, cpu) in json.loads(answer).items()}


def main() -> None:
    """Fills a store and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--uri", help="an empty PostgreSQL database; default: a SQLite file")
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        print(json.dumps(ask(given.uri, given.ask)))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        uri = given.uri or f"sqlite:///{home}/mlflow.db"
        ensure_store(uri, home)
        originals(uri, home)
        multiply(uri, given.trials)
        before = ask_afresh(uri, 1)[ALL]
        tracker = Tracker(uri, spool=spool_folder(home, uri))
        tracker.analyze()
        tracker.close()
        after = ask_afresh(uri, given.rounds)
    print(f"{given.trials} trials in {uri.split(':')[0]}; median seconds:   wall      CPU")
    print(f"{'without statistics: ' + ALL:42} {before[0]:8.3f} {before[1]:8.3f}")
    for name, (wall, cpu) in after.items():
        print(f"{name:42} {wall:8.3f} {cpu:8.3f}")
    print(f"statistics make it {before[1] / after[ALL][1]:.0f} times faster (CPU)")


if __name__ == "__main__":
    main()
