"""Makes the home folder beside this file, with the code of commit 1e61dfc; see README.md.

    python make_home.py finished|stopped|killed|pack|ask HOME

`finished` is a sweep run to its end; `stopped` and `killed` are two drivers of another sweep, the
first ended by the user and the second by SIGKILL; `pack` writes home.tar.gz and `ask` answers.json.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from service.planning import plan_here

from service.driver import Place, Tools, run_at
from service.events import TrialEvaluated, TrialStarted
from trainers.worker import standing_trainer

MODEL = {"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_positions": 48}
WORDS = ("crimson", "turquoise", "violet", "amber", "orange", "magenta", "indigo", "silver")
DOCUMENT: dict[str, Any] = {
    "teacher": {
        "config": MODEL | {"n_embd": 16},
        "fit": {"steps": 20, "batch_size": 8, "learning_rate": 1e-2},
    },
    "student": {"config": MODEL | {"n_embd": 8}},
    "tokenizer": {"train": {"vocab_size": 300}},
    "data": {
        "train": "train.jsonl",
        "validation": "validation.jsonl",
        "template": "{instruction}\n",
        "max_tokens": 32,
        "max_prompt_tokens": 24,
    },
    "training": {"steps": 12, "batch_size": 4, "learning_rate": 1e-2},
    "evaluation": {"evaluations": 4, "generation_prompts": 2, "max_new_tokens": 4},
    "search": {
        "divergence": {"choice": ["forward_kl", "reverse_kl"]},
        "tau": {"float": [0.5, 4], "log": True},
    },
    "sampler": {"kind": "random", "seed": 0},
    "early_stopping": {"kind": "successive_halving", "grace": 0.25},
    "objective": {"metric": "cross_entropy", "direction": "minimize"},
    "controls": "none",
    "trials": 4,
    "resources": {"slots": 1},
}


HERE = Path(__file__).parent
PLATFORM_TAG = "kd_sweep.provenance.platform"
# What no later command reads, and what would be large.
LEFT_OUT = (
    "*.lock",
    "slots",
    "spool",
    "step-0000000[67]",
    "trials/*/student",
    "tune-*",
)
GONE_ON = ("trial", "state", "attempt", "hyperparameters", "objective")
COMMANDS = (
    "sweeps",
    "trials finished",
    "trials interrupted",
    "best --sweep finished",
    "best --sweep finished --where divergence=reverse_kl --metric top1_agreement",
    "best --sweep finished --per divergence --top 1",
    "best --sweep all --metric cross_entropy --top 3",
    "compare finished/0 finished/1",
    "compare finished/0 interrupted/0",
    "cache list",
    "cache verify",
)


def run(life: str, home: Path) -> None:
    """One life of a sweep; `killed` ends this process in the middle of its third trial."""
    data = home / "data"
    data.mkdir(parents=True, exist_ok=True)
    rows = [{"instruction": f"Say {a} {b}", "output": f"{a} {b}"} for a in WORDS for b in WORDS]
    for split, part in (("train", rows[:52]), ("validation", rows[52:])):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (data / f"{split}.jsonl").write_text(lines)
    document = DOCUMENT | {"name": "finished"}
    if life != "finished":
        document |= {"name": "interrupted", "early_stopping": {"kind": "none"}}
    file = data / f"{document['name']}.yaml"
    file.write_text(yaml.safe_dump(document))
    stop = threading.Event()

    def on_event(event: object) -> None:
        if life == "stopped" and isinstance(event, TrialStarted) and event.trial == 1:
            stop.set()
        if life == "killed" and isinstance(event, TrialEvaluated):
            if (event.trial, event.evaluation) == (2, 2):
                os.kill(os.getpid(), signal.SIGKILL)

    # A checkpoint at every step: a trial of seconds has none otherwise.
    tools = Tools(trainer=partial(standing_trainer, checkpoint_every_s=0.0))
    place = Place(home, f"sqlite:///{home}/mlflow.db", tools=tools)
    run_at(place, plan_here(file.name, [], folder=data, home=home), on_event=on_event, stop=stop)


def pack(home: Path) -> None:
    """Packs the home without what nobody reads again."""
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        # The kernel that it was made on helps nobody.
        database.execute(f"UPDATE tags SET value = 'Linux' WHERE key = '{PLATFORM_TAG}'")
        database.commit()
        database.execute("VACUUM")
    with tarfile.open(HERE / "home.tar.gz", "w:gz") as archive:
        for path in sorted(home.rglob("*")):
            parts = (path, *path.parents)
            if path.is_file() and not any(one.match(name) for one in parts for name in LEFT_OUT):
                archive.add(path, path.relative_to(home).as_posix(), filter=_nobody)


def _nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def ask(home: Path) -> None:
    """Keeps what the command line answers about the home."""
    answers = {command: json.loads(_command(command, home)) for command in COMMANDS}
    folder = home / "exported"
    exported = json.loads(_command(f"export finished/0 {folder}", home))
    answers["export finished/0"] = exported["names"]
    shutil.rmtree(folder)
    # Last, since they change the home.
    for command in ("resume interrupted", "extend finished --trials 1"):
        _command(command, home)
        rows = json.loads(_command(f"trials {command.split()[1]}", home))
        answers[command] = [{name: row[name] for name in GONE_ON} for row in rows]
    (HERE / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")


def _command(command: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "service", *command.split(), "--json"],
        env=os.environ | {"KD_SWEEP_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    word, place = sys.argv[1], Path(sys.argv[2])
    if word in ("pack", "ask"):
        {"pack": pack, "ask": ask}[word](place)
    else:
        run(word, place)
