"""The command that measures finished students on evaluation sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from service import actions
from service.cli import completing
from service.cli.app import AsJson, errors, show, workspace_of
from service.cli.tables import table
from service.errors import SpecError
from service.evaluation.judges import KEY_VARIABLE
from service.words import number
from trainers.tasks import table as task_table

if TYPE_CHECKING:
    from service.evaluation.evaluate import SetResult

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN…", help="Run ids, or SWEEP/NUMBER.", autocompletion=completing.trials
    ),
]
On = Annotated[
    list[str],
    typer.Option(
        "--on",
        metavar="[NAME=]PLACE",
        help="An evaluation set, as data.train names data; default: the sweep's data.test.",
    ),
]
Tasks = Annotated[
    list[str],
    typer.Option("--harness", metavar="TASK", help="A task of lm-evaluation-harness, by name."),
]
TaskFolder = Annotated[
    Path | None, typer.Option("--harness-tasks", help="A folder with tasks of your own.")
]
Split = Annotated[str, typer.Option(help="Of a set that has several splits.")]
Seeds = Annotated[
    str | None,
    typer.Option(metavar="N,N,…", help="Seeds of sampled answers; default: 10,20,30,40,50."),
]
Student = Annotated[
    Path | None,
    typer.Option(help="A folder in place of the run's own student, such as a rerun's."),
]
AtTemperatures = Annotated[
    bool,
    typer.Option(
        "--temperatures", help="Sample also at temperatures chosen on the validation split."
    ),
]
JudgeAt = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="URL|MODEL",
        help="What compares answers: a model's folder or hub name, or an OpenAI-compatible address"
        " (its key: KD_SWEEP_JUDGE_KEY).",
    ),
]
JudgeModel = Annotated[
    str | None, typer.Option("--judge-model", metavar="NAME", help="Of the address of --judge.")
]
Again = Annotated[bool, typer.Option("--again", help="Measure again what was reported.")]


def evaluate(
    context: typer.Context,
    runs: Runs,
    on: On = [],  # noqa: B006
    harness: Tasks = [],  # noqa: B006
    harness_tasks: TaskFolder = None,
    split: Split = "test",
    seeds: Seeds = None,
    student: Student = None,
    temperatures: AtTemperatures = False,
    judge: JudgeAt = None,
    judge_model: JudgeModel = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Measure chosen trials' students on test sets, which report once and never select.

    Example: kd-sweep evaluate latest/7 --on self_inst.jsonl --on vicuna=data/vicuna.jsonl
    """
    fields: dict[str, Any] = {} if seeds is None else {"generation_seeds": _numbers(seeds)}
    key = context.obj.get(KEY_VARIABLE)
    judges = None if judge is None else actions.evaluate.judge_named(judge, judge_model, key)
    console = errors()
    found = actions.evaluate.evaluate_trials(
        runs,
        workspace_of(context),
        on=on,
        harness=harness,
        how=actions.evaluate.HowToEvaluate(
            split, fields, student, again, harness_tasks, temperatures, judges
        ),
        say=lambda line: console.print(Text(line), soft_wrap=True),
    )
    show([one.to_json() for one in found], evaluation_view(found), as_json)


def evaluation_view(found: "list[SetResult]") -> RenderableType:
    """Returns a table for each set: its metrics in rows, the trials beside each other."""
    by_set: dict[str, list[SetResult]] = {}
    for one in found:
        by_set.setdefault(one.name, []).append(one)
    return Group(*(part for name, of_set in by_set.items() for part in _of_set(name, of_set)))


def _of_set(name: str, found: "list[SetResult]") -> list[RenderableType]:
    measured = dict.fromkeys(metric for one in found for metric in one.metrics)
    known = [metric for metric in task_table.known_metrics() if metric in measured]
    metrics = dict.fromkeys([*known, *measured])
    rows = [
        (metric, *(number(one.metrics.get(metric, "–")) for one in found)) for metric in metrics
    ]
    trials = [f"{one.record.sweep_id}/{one.record.trial}" for one in found]
    title = f"{name}: {found[0].recorded.facts.num_examples} examples"
    notices = [
        f"{trial}: {n}" for trial, one in zip(trials, found, strict=True) for n in one.notices
    ]
    return [table(title, ("metric", *trials), rows), *map(Text, notices), Text()]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SpecError(f"--seeds: must be whole numbers like 10,20, but got '{text}'.") from None
