"""A store with as many trials as are asked for: a few are recorded as a sweep records them, then
copied inside the database with other values."""

import sqlite3
from contextlib import closing
from pathlib import Path

from records_support import plan_of, record_sweep

from service.home import record_file
from service.record.store import ensure_store
from service.workspace import Workspace
from trainers.tasks import table
from trainers.trial.metrics import TRAINING_METRICS

ORIGINALS = 10
EVALUATIONS = 5
# what a copy has of its own: table → column → its value; `n` counts the copies of an
# original, which has the `place`
COPIED: dict[str, dict[str, str]] = {
    "runs": {"run_uuid": "new", "start_time": "start_time + n"},
    "params": {
        "run_uuid": "new",
        "value": "case key when 'tau' then 0.5 + ((n * 7919 + place * 977) % 75000) / 10000.0 "
        "else value end",
    },
    "tags": {
        "run_uuid": "new",
        "value": f"case key when 'kd_sweep.trial' then value + {ORIGINALS} * n else value end",
    },
    "latest_metrics": {"run_uuid": "new", "value": "value + (n * 7919 % 1000) / 10000.0"},
    "metrics": {"run_uuid": "new", "step": "step * 100 + e", "value": "value + n / 1000.0"},
}


def make_home(home: Path, num_trials: int) -> str:
    """Makes the record of one sweep of `num_trials` in `home`; returns its address."""
    uri = Workspace(home).tracking_uri
    ensure_store(uri, home)
    metrics = [*TRAINING_METRICS, *table.known_directions()]
    rows = [
        (
            {"divergence": ("forward_kl", "reverse_kl")[number % 2], "tau": 1.0 + number},
            {name: 0.1 + number / 100 for name in metrics},
        )
        for number in range(ORIGINALS)
    ]
    record_sweep(uri, home, plan_of(), rows)
    with closing(sqlite3.connect(record_file(home))) as database, database:
        _multiply(database, num_trials)
    return uri


def _multiply(database: sqlite3.Connection, num_trials: int) -> None:
    """Copies the trials until there are `num_trials`, each run's rows together as they would be."""
    for statement in (
        "create temp table old as select run_uuid as id, row_number() over () as place from tags "
        "where key = 'kd_sweep.kind' and value = 'trial'",
        "create temp table copies as with recursive counted(n) as (select 1 union all "
        f"select n + 1 from counted where n < {num_trials // ORIGINALS - 1}) select n, id, "
        "place, printf('%06x%04x', n, place) || substr(id, 11) as new from counted, old",
        "create temp table evaluations as with recursive counted(e) as "
        f"(select 0 union all select e + 1 from counted where e < {EVALUATIONS - 1}) "
        "select e from counted",
    ):
        database.execute(statement)
    for name, changed in COPIED.items():
        columns = [row[1] for row in database.execute(f"pragma table_info({name})")]
        values = ", ".join(changed.get(column, f"{name}.{column}") for column in columns)
        more = ", evaluations" if name == "metrics" else ""
        database.execute(
            f"insert into {name} ({', '.join(columns)}) select {values} from {name} "
            f"join copies on copies.id = {name}.run_uuid{more} order by n, new, {name}.rowid"
        )
    database.execute("analyze")
