"""Which trials of a sweep read the teacher's cache."""

from pathlib import Path

import pytest
from fakes import make_sweep_plan, prepare_nothing

from service.driver.shared_inputs import CachedAs, SharedInputs
from service.plan.teacher_choice import HiddenStates
from trainers.trial.fields import Precision
from trainers.trial.sources import PrepareRequest


@pytest.mark.parametrize(("share", "source"), [(0.0, "cache:float32"), (0.5, "online")])
def test_a_trial_whose_student_writes_asks_the_teacher_itself(share: float, source: str) -> None:
    plan = make_sweep_plan(search={"student_share": {"choice": [0, 0.5]}})
    request: PrepareRequest = plan.spec.prepare_request()
    prepared = prepare_nothing(request, Path("/home"), lambda *_: None)
    caches = {HiddenStates(Precision.AUTO, None): CachedAs("cache:float32", "/cache")}
    shared = SharedInputs(prepared, {each: {} for each in Precision}, caches)
    config = plan.spec.trial_config({"student_share": share})
    trial = shared.trial(shared.template(plan), config)
    assert trial.teacher_source == source
    assert (trial.paths.teacher_cache is None) == (source == "online")
