"""Sweeps that reports are made of: trials by formulas, as records and in a store."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from records_support import make_sinks, make_tracker, plan_of, record_of, trial_of

from search_spaces.space import SearchSpace
from service.plan.plan import SweepPlan
from service.record.records import SweepRecord
from service.report.curves import points
from service.report.source import Source, TeacherCache
from service.results.evidence import Evidence
from service.states import TrialState

HARD = {"divergence": "forward_kl", "tau": 1.0, "hard_weight": 1.0, "soft_weight": 0.0}
TEACHER = {"rouge_l": 34.0, "cross_entropy": 2.1, "student_entropy": 2.5}
UNDISTILLED = {"rouge_l": 17.5, "cross_entropy": 3.4, "student_entropy": 3.1}
SEARCH = {
    "divergence": {"choice": ["forward_kl", "reverse_kl", "jeffreys"]},
    "policy": {"choice": ["fixed", "cist"]},
    "tau": {"float": [0.5, 8], "log": True, "when": {"policy": "fixed"}},
    "rho_per_log_vocab": {"float": [0.5, 2], "log": True, "when": {"policy": "cist"}},
    "learning_rate": {"float": [1e-4, 1e-2], "log": True},
}
LONG = "a_divergence_of_my_own_with_a_name_that_no_column_was_ever_made_for"


@dataclass(frozen=True)
class Made:
    """A trial as it is to be recorded. curve: the objective on its way."""

    values: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    state: TrialState = TrialState.COMPLETED
    label: str | None = None
    error: str | None = None

    def curve(self) -> list[tuple[int, float]]:
        """Four evaluations, those of a stopped trial fewer."""
        last = self.metrics.get("rouge_l")
        count = 2 if self.state is TrialState.STOPPED_EARLY else 4
        if last is None:
            return []
        return [(step, last - 8 * (1 - step / count) ** 2) for step in range(1, count + 1)]


def score(divergence: str, tau: float) -> float:
    """The rouge_l of a divergence at a temperature: forward KL is ahead below tau = 1.7."""
    lean = math.log2(tau / 1.7)
    height = 26.0 - 0.8 * math.log2(tau) ** 2
    return height + {"forward_kl": -0.9, "reverse_kl": 0.9}.get(divergence, -0.3) * lean


def metrics_of(rouge: float, tau: float, noise: float = 0.0) -> dict[str, float]:
    """What an evaluation measures, as functions of the score and the temperature."""
    return {
        "rouge_l": rouge,
        "rouge_l_shuffled": 9.0 + noise,
        "rouge_l_error": 0.35,
        "cross_entropy": 3.9 - rouge / 25 + noise / 10,
        "top1_agreement": 0.3 + rouge / 100,
        "student_entropy": 2.0 + 0.2 * tau,
        "teacher_entropy_mean": min(6.0, 1.2 + 0.9 * tau),
        "teacher_entropy_std": 0.9 / (1 + 0.2 * tau) + noise / 20,
        "logit_scale_ratio": 0.9,
    }


def study(
    divergences: Sequence[str] = ("forward_kl", "reverse_kl", "jeffreys"),
    taus: Sequence[float] = (0.5, 1.0, 2.0, 4.0, 8.0),
    seeds: int = 4,
) -> list[Made]:
    """A grid over seeds, with the hard loss alone and CIST; seeds shift all cells alike."""
    chance = random.Random(0)
    shifts = [chance.gauss(0, 0.4) for _ in range(seeds)]
    found: list[Made] = []
    for seed, shift in enumerate(shifts):
        hard = metrics_of(22.0 + shift, 1.0)
        found.append(Made(HARD | {"seed": seed}, hard, label="hard loss only"))
        for divergence in divergences:
            for tau in taus:
                rouge = score(divergence, tau) + shift + chance.gauss(0, 0.15)
                values = {"divergence": divergence, "policy": "fixed", "tau": tau, "seed": seed}
                found.append(Made(values, metrics_of(rouge, tau, chance.gauss(0, 0.1))))
        for rho in (0.8, 1.0, 1.3, 1.6):
            rouge = 25.5 - 3 * math.log2(rho) ** 2 + shift + chance.gauss(0, 0.15)
            values = {"divergence": "forward_kl", "policy": "cist", "rho_per_log_vocab": rho}
            measured = metrics_of(rouge, 2 / rho, chance.gauss(0, 0.1))
            found.append(Made(values | {"seed": seed}, measured))
    return found


def search(
    trials: int, names: Sequence[str] = ("forward_kl", "reverse_kl", "jeffreys")
) -> list[Made]:
    """A search's trials: two controls, then points at random, some stopped early, one failed."""
    chance = random.Random(1)
    found = [
        Made(HARD, metrics_of(22.0, 1.0), label="hard loss only"),
        Made(
            {"divergence": "forward_kl", "tau": 1.0},
            metrics_of(25.0, 1.0),
            label="forward KL, tau 1",
        ),
    ][: max(0, trials - 1)]
    while len(found) < trials:
        divergence = chance.choice(list(names))
        rate = 10 ** chance.uniform(-4, -2)
        values = {"divergence": divergence, "learning_rate": rate}
        if chance.random() < 0.6:
            place = 2 ** chance.uniform(-1, 3)
            values |= {"policy": "fixed", "tau": place}
        else:
            place = 2 ** chance.uniform(-1, 1)
            values |= {"policy": "cist", "rho_per_log_vocab": place}
        rouge = score(divergence, place) - (math.log10(rate) + 3) ** 2 + chance.gauss(0, 0.3)
        found.append(_one(values, rouge, place, chance.random(), len(found)))
    return found


def _one(values: dict[str, Any], rouge: float, place: float, luck: float, number: int) -> Made:
    if number % 17 == 5:
        error = "CUDA out of memory"
        return Made(values, state=TrialState.FAILED, error=error)
    if luck < 0.3:
        return Made(values, metrics_of(rouge - 4, place), TrialState.STOPPED_EARLY)
    return Made(values, metrics_of(rouge, place))


def sweep_record(
    trials: Sequence[Made], *, state: str = "completed", name: str = "toy", second: bool = False
) -> SweepRecord:
    """The sweep of these trials."""
    tags = {"kind": "sweep"}
    if second:
        tags |= {
            "second_objective_metric": "cross_entropy",
            "second_objective_direction": "minimize",
        }
    return SweepRecord(
        sweep_id=f"{name}-1a2b3c4d",
        name=name,
        run_id="f" * 32,
        state=state,
        objective_metric="rouge_l",
        objective_direction="maximize",
        num_trials=len(trials),
        started_at=1_790_000_000.0,
        duration_s=60.0 * len(trials),
        tags=tags,
    )


def cell_of(trial: Made) -> str:
    """What a study calls the trial's cell: of a control that it does not list, the control."""
    return trial.label or json.dumps(
        {name: value for name, value in trial.values.items() if name != "seed"}
    )


def source_of(
    trials: Sequence[Made],
    *,
    search: dict[str, Any] | None = None,
    second: bool = False,
    state: str = "completed",
    scores: bool = True,
) -> Source:
    """What a report of these trials is made from."""
    records = [
        record_of(
            number,
            one.values,
            one.metrics,
            state=one.state,
            label=one.label,
            tags={"cell": cell_of(one)} | ({} if one.error is None else {"error": one.error}),
        )
        for number, one in enumerate(trials)
    ]
    sweep = sweep_record(trials, state=state, second=second)
    sweep.tags["search"] = json.dumps(search or {})
    seeds = {record.seed for record in records}
    if len(seeds) > 1:  # what has several is a study here
        cells = {record.tags["cell"] for record in records}
        sweep.tags["study"] = json.dumps({"cells": len(cells), "seeds": len(seeds)})
    evidence = Evidence(
        tuple(records),
        sweep.objectives,
        sweep=sweep,
        teacher=TEACHER if scores else {},
        undistilled=UNDISTILLED if scores else {},
        domains=SearchSpace.parse(search or {}).domains,
        num_examples=500,
    )
    return Source(
        sweep,
        evidence,
        setting={"teacher": "gpt2, n_layer=4", "student": "gpt2, n_layer=1"},
        curves={number: points(one.curve()) for number, one in enumerate(trials)},
        cache=TeacherCache(30.0, tokens_held=1000, tokens_read=40_000, named="response tokens"),
    )


def record_trials(
    uri: str, home: Path, trials: Sequence[Made], plan: SweepPlan | None = None
) -> str:
    """Records these trials in the store at `uri` and returns the sweep's id."""
    plan = plan or plan_of()
    tracker, sinks = make_tracker(uri, home), make_sinks(uri, home)
    sweep = tracker.start_sweep(plan)
    for number, one in enumerate(trials):
        trial = trial_of(plan, number, one.values)
        run = tracker.start_trial(sweep, trial, hyperparameters=one.values, label=one.label)
        sink = sinks(run)
        for step, value in one.curve()[:-1]:
            sink.log(step, {"rouge_l": value})
        sink.log(4, one.metrics)
        assert sink.close(10)
        tracker.finish_trial(run, one.state, objective=one.metrics.get("rouge_l"), error=one.error)
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert tracker.close()
    return plan.sweep_id
