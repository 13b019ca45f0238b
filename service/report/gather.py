"""Reads what a report is made from: a sweep's record, the curves of some trials, its plan."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from service.errors import SpecError, TrackingError
from service.plan.estimates import as_trials_learn, tokens_held
from service.plan.plan import SweepPlan
from service.record.plans import read_plan
from service.record.records import SweepRecord
from service.record.runs import Runs
from service.report.curves import chosen, points
from service.report.diagnostics import first_of_each
from service.report.examples import ends_of, gains
from service.report.source import Diagnostics, ExampleScores, Source, TeacherCache
from service.results.by_example import score_pairs, scores_of
from service.results.evidence import Evidence
from service.words import describe
from trainers.files.json_files import checked_object, parse_json
from trainers.tasks import table
from trainers.trial.reporting import DIAGNOSTICS


def gather(
    runs: Runs, sweep: SweepRecord, evidence: Evidence, plan: SweepPlan | None = None
) -> Source:
    """Returns what the report of a recorded sweep is made from. evidence: of all its trials; plan:
    None is the recorded one. Raises `TrackingError` when the record does not answer."""
    plan = plan or _plan(runs, sweep.sweep_id)
    source = Source(sweep, evidence)
    if plan is not None:
        named = tuple(plan.spec.data.test)
        source = replace(source, setting=setting_of(plan), cache=_cache_of(plan), test_sets=named)
    found = {one.trial: points(runs.history(one.run_id, source.metric)) for one in chosen(source)}
    best = [one.typical for one in first_of_each(source)]
    looked = {one.trial: seen for one in best if (seen := _diagnostics(runs, one.run_id))}
    source = replace(source, curves=found, diagnostics=looked)
    return replace(source, examples=_examples(runs, source, plan))


def _examples(runs: Runs, source: Source, plan: SweepPlan | None) -> ExampleScores | None:
    """Returns the scores of single examples of winner and control, of a sweep that is over."""
    winner, control = source.winner, source.control
    if source.is_running or len(source.evidence.objectives) > 1 or not (winner and control):
        return None
    try:
        found = ExampleScores(score_pairs(control, winner, scores_of(runs)))
    except (SpecError, TrackingError):  # of other metrics alone, or damaged
        return ExampleScores({})
    shown = [one for end in ends_of(gains(source, found)) for one in end]
    return replace(found, texts=_texts(runs, winner.typical.run_id, plan, shown))


def _texts(runs: Runs, run_id: str, plan: SweepPlan | None, ids: Sequence[int]) -> dict[int, str]:
    """Returns what people read of examples; empty where a trial's data is not on this machine."""
    if plan is None or not ids:
        return {}
    request = plan.spec.prepare_request()
    try:
        data = Path(runs.trial_file(run_id).paths.data)
        task = table.task_named(request.task)
        return task.example_texts(request, data, ids) if data.is_dir() else {}
    except (TrackingError, ValueError):  # there is no such file any more, or it is damaged
        return {}


def setting_of(plan: SweepPlan) -> dict[str, str]:
    """Returns what the plan says that all trials share, in words."""
    spec = plan.spec.model_dump(mode="json", exclude_none=True)
    found = {role: _model(spec[role]) for role in ("teacher", "student")}
    data = spec["data"]
    found["training data"] = _text(data.get("train"))
    found["validation data"] = _text(data.get("validation"))
    sizes = {
        "training": plan.facts.num_train_examples,
        "validation": plan.facts.num_validation_examples,
    }
    counted = [f"{number:,} for {name}" for name, number in sizes.items() if number is not None]
    return found | ({"examples": ", ".join(counted)} if counted else {})


def _plan(runs: Runs, sweep_id: str) -> SweepPlan | None:
    """Returns the plan; None where it is of another version, or was removed."""
    try:
        return read_plan(runs, sweep_id)
    except TrackingError:
        return None


def _diagnostics(runs: Runs, run_id: str) -> Diagnostics:
    """Returns what was seen of a trial's loss; empty where it was not looked at."""
    if not runs.has_artifact(run_id, DIAGNOSTICS):
        return {}
    with TemporaryDirectory(prefix="kd-report-") as folder:
        text = runs.download(run_id, DIAGNOSTICS, Path(folder)).read_text(encoding="utf-8")
    try:
        return checked_object(parse_json(text, DIAGNOSTICS), DIAGNOSTICS)
    except ValueError:  # edited, or cut off
        return {}


def _cache_of(plan: SweepPlan) -> TeacherCache | None:
    if plan.teacher.dtype is None:
        return None
    held = tokens_held(as_trials_learn(plan.spec, plan.facts))
    named = table.task_named(plan.spec.task).position_name
    return TeacherCache(plan.estimate.teacher_cache_s, held, plan.estimate.tokens, named)


def _model(source: Mapping[str, Any]) -> str:
    """Returns e.g. `gpt2, n_embd=48 n_layer=1; fitted: steps=100`."""
    config = dict(source.get("config") or {})
    kind = config.pop("model_type", None)
    parts = [str(source.get("model") or kind or "")]
    parts += [describe(config)] if config else []
    text = ", ".join(part for part in parts if part)
    fit = source.get("fit")
    return f"{text}; fitted: {describe(fit)}" if fit else text


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
