"""What `test_added_metric.py` does in a process of its own: make the new metric a sweep's
objective, train with it, and ask the record for the best trials by it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_support import call, document, make_folder, plan, rows_of
from records_support import make_store, record_sweep
from training_support import request, trial

from service.home import HOME_VARIABLE
from service.plan.estimates import InputFacts
from service.plan.plan import make_plan
from service.plan.resources import Resources
from service.spec.parse import parse_spec
from trainers.preparing.prepare import prepare
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.training.run import run_trial
from trainers.trial.reporting import SilentReporter
from trainers.trial.sources import Prepared

TAUS = (0.5, 4.0)


def trained(prepared: Prepared, tau: float, output: Path) -> dict[str, Any]:
    """The metrics of a small trial, and what its student itself says of the validation split."""
    file = trial(prepared, tau=tau, generation_prompts=0)
    result = run_trial(file, output, reporter=SilentReporter())
    return {"metrics": result.metrics, "own": largest_probability(prepared, output / "student")}


def largest_probability(prepared: Prepared, student: Path) -> float:
    """Mean of the student's largest probability over all response tokens, one example at a time."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(student).eval()
    split = TokenSplit.open(Path(prepared.data), "validation")
    found = []
    for example in range(len(split)):
        ids = torch.from_numpy(split.tokens(example).astype(np.int64))
        with torch.no_grad():
            probabilities = model(input_ids=ids[None]).logits[0].softmax(-1)
        where = torch.from_numpy(split.learned(example)[1:].copy())
        found.append(probabilities[:-1][where].amax(-1))
    return float(torch.cat(found).double().mean())


def asked(name: str, folder: Path, metrics: list[dict[str, float]]) -> dict[str, Any]:
    """A sweep with that objective: its plan as shown, and the best of its trials."""
    made = document(objective={"metric": name})
    shown = plan(folder, made).stdout
    spec = parse_spec(made)
    sweep = make_plan(
        spec, InputFacts(fingerprints={"data": "d"}), Resources(num_cpus=2), code_version="1"
    )
    home = folder / "home"
    rows = [({"tau": tau}, values) for tau, values in zip(TAUS, metrics, strict=True)]
    record_sweep(make_store(home), home, sweep, rows)
    return {
        "direction": spec.objective[0].direction,
        "planned": shown,
        "order": [row["trial"] for row in rows_of("best")],
        "by_cross_entropy": [row["trial"] for row in rows_of("best", "--metric", "cross_entropy")],
        "best": call("best", "--metric", "cross_entropy").stdout,
    }


def main(name: str, folder: str) -> dict[str, Any]:
    """Returns what is measured, ranked and shown."""
    torch.set_num_threads(1)
    work = Path(folder)
    for part in ("asked", "inputs"):
        (work / part).mkdir()
    prepared = prepare(request(work / "inputs"), work / "prepared")
    trials = [trained(prepared, tau, work / f"tau-{tau}") for tau in TAUS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(work / "asked" / "home"))
        place = make_folder(work / "asked", patch)
        found = asked(name, place, [one["metrics"] for one in trials])
    return {"trials": trials, **found}
