"""What the command line shows of a plan. Pure."""

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from service import actions
from service.cli.tables import table
from service.words import count, duration, size
from trainers.trial.sharding import Sharding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.plan.estimates import InputFacts
    from service.plan.own_text import OwnText
    from service.plan.plan import SweepPlan
    from service.plan.soft_prompt import SoftPromptCost
    from service.plan.study import Cell, StudyPlan
    from service.plan.teacher_text import TeacherTextCost

UNKNOWN = "not known yet"


def plan_view(plan: "SweepPlan") -> RenderableType:
    """Returns the plan: what is searched, on what, with what, for how long; then its warnings."""
    space = [tuple(row.values()) for row in actions.plan.explain_search(plan)]
    what = "sweep" if plan.study is None else "study"
    views: list[RenderableType] = [
        table(f"{what} {plan.sweep_id}", ("", ""), _plan_rows(plan)),
        Text(),
        table("search", ("hyperparameter", "domain", "only when"), space)
        if plan.study is None
        else table("cells", ("", "cell", ""), _cell_rows(plan.study)),
    ]
    views += [Text(f"warning: {warning}", style="yellow") for warning in plan.warnings]
    return Group(*views)


def _plan_rows(plan: "SweepPlan") -> list[tuple[str, str]]:
    facts, spec = plan.facts, plan.spec
    objectives = ", ".join(f"{one.direction} {one.metric}" for one in spec.objective)
    modules = f"{', '.join(sorted(plan.own_modules))}; kept with the sweep"
    rows = [
        ("teacher", facts.found.get("teacher", _source(spec.teacher)) + _asked_in(facts)),
        ("student", facts.found.get("student", _source(spec.student))),
        ("data", facts.found.get("data", f"{spec.data.train}, {spec.data.validation}")),
        *([("test sets", _test_sets(spec.data.test))] if spec.data.test else []),
        *([("own modules", modules)] if plan.own_modules else []),
        ("teacher's entropy", _entropy(facts.teacher_entropy_share)),
        ("objective", objectives),
        ("before trials", _own_scores(plan)),
        *_design_rows(plan),
        ("at once", f"{plan.slots}, each with {_workers(plan)}"),
        *([("told", ", ".join(spec.notify.names()))] if spec.notify.names() else []),
    ]
    return rows + _estimate_rows(plan) + _memory_rows(plan)


def _asked_in(facts: "InputFacts") -> str:
    return "" if facts.teacher_dtype is None else f", asked in {facts.teacher_dtype}"


def _test_sets(sets: "Mapping[str, str]") -> str:
    return f"{', '.join(sets)}: for kd-sweep evaluate alone; they select nothing"


def _own_scores(plan: "SweepPlan") -> str:
    """What teacher and undistilled student score themselves, where a student without its teacher
    has the metric."""
    facts, shown = plan.facts, []
    if not facts.undistilled_scores:
        return "teacher and undistilled student are scored once, as trials are"
    for objective in plan.spec.objective:
        for who, scores in (
            ("teacher", facts.teacher_scores),
            ("undistilled student", facts.undistilled_scores),
        ):
            if objective.metric in scores:
                shown.append(f"{who} {objective.metric} {scores[objective.metric]:.4g}")
    return ", ".join(shown)


def _design_rows(plan: "SweepPlan") -> list[tuple[str, str]]:
    """How trials are chosen: by a sampler, or as cells that are compared."""
    spec, study = plan.spec, plan.study
    if study is None:
        sampler = f"{spec.sampler.kind}, early stopping {spec.early_stopping.kind}"
        return [("sampler", sampler), ("trials", _trials(plan))]
    shared = ", ".join(f"{name} {value}" for name, value in study.held_fixed.items())
    compared = f"{len(study.cells)} cells x {len(study.seeds)} seeds"
    rate, total = "the same for all cells, as given", compared
    if study.tune is not None:
        rates = study.tune.learning_rate
        rate = (
            f"tuned for each cell on seed {study.tune.seed}, which is not compared: "
            f"{', '.join(map(str, rates))}"
        )
        total = f"{len(study.cells)} cells x {len(rates)} rates to tune, then {compared}"
    elif "learning_rate" in spec.varied_names():
        rate = "as each cell says"
    return [
        *([("confirms", plan.confirms)] if plan.confirms else []),
        ("trials", f"{plan.num_trials}: {total}"),
        ("seeds", ", ".join(map(str, study.seeds))),
        ("learning rate", rate),
        ("held fixed", f"initial weights, order of the data (by seed), {shared}"),
    ]


def _cell_rows(study: "StudyPlan") -> list[tuple[int, str, str]]:
    return [
        (number, cell.label, _as_control(cell)) for number, cell in enumerate(study.cells, start=1)
    ]


def _as_control(cell: "Cell") -> str:
    if cell.control is None:
        return ""
    return "control" if cell.control == cell.label else f"control: {cell.control}"


def _trials(plan: "SweepPlan") -> str:
    controls = f"{len(plan.controls)} controls"
    if plan.is_open_ended and plan.time_budget_s is not None:
        return f"as many as begin within {duration(plan.time_budget_s)}, and {controls}"
    own = plan.num_trials - len(plan.controls)
    return f"{plan.num_trials}: {own} searched, {controls}"


def _estimate_rows(plan: "SweepPlan") -> list[tuple[str, str]]:
    from trainers.tasks import table as task_table

    estimate = plan.estimate
    tokens = UNKNOWN
    if estimate.tokens_range is not None and estimate.tokens_per_trial is not None:
        each = count(estimate.tokens_per_trial)
        name = task_table.task_named(plan.spec.task).position_name
        between = _between(estimate.tokens_range, count)
        tokens = f"{between} {name}, {each} a complete trial{_of_how_many(plan)}"
    time = UNKNOWN
    if estimate.duration_range_s is not None:
        time = f"{_between(estimate.duration_range_s, duration)} ({estimate.basis})"
    free = plan.cluster.disk_free
    rows = [("learned from", tokens)]
    if estimate.teacher_text is not None:
        rows.append(("teacher's text", _teacher_text(estimate.teacher_text)))
    if estimate.own_text is not None:
        rows.append(("students' own text", _own_text(estimate.own_text)))
    if estimate.soft_prompt is not None:
        rows.append(("soft prompt", _soft_prompt(estimate.soft_prompt)))
    rows.append(("time", time))
    if estimate.cpu_hours is not None:
        gpus = f", {estimate.gpu_hours:.2g} GPU hours" if estimate.gpu_hours else ""
        rows.append(("hours", f"about {estimate.cpu_hours:.2g} CPU hours{gpus}"))
    rows.append(("teacher's signal", _signal(plan)))
    parts = [("checkpoints", estimate.checkpoint_bytes)]
    if plan.teacher.dtype is not None:
        parts.append(("teacher cache", estimate.teacher_cache_bytes))
    disk = [
        f"{name} {UNKNOWN if value is None else 'about ' + size(value)}" for name, value in parts
    ]
    rows.append(("disk", ", ".join(disk) + (f"; {size(free)} free" if free is not None else "")))
    return rows


def _teacher_text(text: "TeacherTextCost") -> str:
    num = "" if text.responses is None else f"{count(text.responses)} "
    told = (
        f"{num}responses of up to {text.max_tokens} tokens to the training prompts, "
        f"at temperature {text.temperature:g}"
    )
    if text.write_s == 0:
        return f"{told}: there already"
    time = "" if text.write_s is None else f", about {duration(text.write_s)}"
    return f"{told}, written once{time}, and kept for later sweeps"


def _own_text(text: "OwnText") -> str:
    asked = "" if text.ask_s is None else f" and {duration(text.ask_s)} to ask the teacher"
    return (
        f"up to {text.share:.0%} of it, the mean over trials: {count(text.responses)} responses of "
        f"up to {text.max_tokens} tokens a trial, about {duration(text.write_s)} to write{asked}"
    )


def _soft_prompt(prompt: "SoftPromptCost") -> str:
    whose = "all trials" if prompt.share == 1 else f"{prompt.share:.0%} of the trials"
    time = "" if prompt.train_s is None else f", about {duration(prompt.train_s)} more a trial"
    return (
        f"up to {prompt.tokens} tokens before the teacher's input in {whose}; in each of their "
        "steps it runs three times forwards and once backwards, "
        f"in place of once forwards{time}"
    )


def _memory_rows(plan: "SweepPlan") -> list[tuple[str, str]]:
    from service.plan.memory import EXACT, GUESSED

    memory = plan.memory
    if memory is None:
        return [("memory", UNKNOWN)]
    parts = [
        ", ".join(f"{name} {size(getattr(memory, name) or 0)}" for name in names)
        for names in (EXACT, GUESSED)
    ]
    available = "" if memory.available is None else f" of {size(memory.available)}"
    total = f"about {size(memory.total)}{available} a worker"
    return [("memory", f"{total}: {parts[0]}, exactly; {parts[1]}, as a guess")]


def _of_how_many(plan: "SweepPlan") -> str:
    """Where trials learn from fewer examples than the teacher did, how many."""
    asked, there = plan.spec.data.student_examples, plan.facts.num_train_examples
    if asked is None or there is None:
        return ""
    return f", from {count(asked)} of {count(there)} examples"


def _between(ends: "tuple[float, float]", words: "Callable[[float], str]") -> str:
    low, high = map(words, ends)
    return f"about {low}" if low == high else f"{low} to {high}"


def _signal(plan: "SweepPlan") -> str:
    if plan.teacher.dtype is None:
        return f"asked in every trial: {plan.teacher.reason}"
    seconds = plan.estimate.teacher_cache_s
    time = "" if seconds is None or seconds < 1 else f", about {duration(seconds)}"
    kept = plan.teacher.dtype.replace("+", " and ")
    text = f"computed once{time}, kept in {kept} for all trials and later sweeps"
    if plan.teacher_errors:
        text += f"; {'; '.join(plan.teacher_errors)}"
    elif plan.spec.teacher_cache.storage is not None:
        limit = plan.spec.teacher_cache.max_bias
        text += f"; how far that is off is measured first, and more than {limit:g} refused"
    return f"{text}; or asked where {plan.teacher.reason}" if plan.teacher.reason else text


def _source(source: Any) -> str:
    name = source.model or f"from config ({source.config['model_type']})"
    return name + (", fitted on the data first" if source.fit is not None else "")


def _entropy(share: float | None) -> str:
    if share is None:
        return "known once the teacher was prepared"
    return f"{share:.2f} of ln V at tau = 1"


def _workers(plan: "SweepPlan") -> str:
    gpus = f" and {plan.gpus_per_worker:g} GPU" if plan.gpus_per_worker else ""
    shared = ", which share the student (fsdp)" if plan.sharding == Sharding.FSDP else ""
    return f"{plan.workers_per_trial} worker of {plan.cpus_per_worker:g} CPU{gpus}{shared}"
