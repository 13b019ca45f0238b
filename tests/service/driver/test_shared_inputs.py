"""Which trials of a sweep read which text, and which cache of the teacher's."""

from pathlib import Path

import pytest
from fakes import make_sweep_plan, prepare_nothing

from service.driver.shared_inputs import CachedAs, SharedInputs
from service.plan.teacher_choice import HiddenStates
from trainers.trial.fields import Precision
from trainers.trial.sources import PreparedText, PrepareRequest
from trainers.trial.text_fields import Responses


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


@pytest.mark.parametrize(("dtype", "said"), [(None, None), ("float32", None), ("float16",) * 2])
def test_a_trial_says_what_its_teacher_computes_in_where_that_is_not_its_precision(
    dtype: str | None, said: str | None
) -> None:
    plan = make_sweep_plan()
    prepared = prepare_nothing(plan.spec.prepare_request(), Path("/home"), lambda *_: None)
    prepared = prepared.model_copy(update={"teacher_dtype": dtype})
    shared = SharedInputs(prepared, {each: {"precision": "float32"} for each in Precision})
    trial = shared.trial(shared.template(plan), plan.spec.budget())
    assert trial.teacher_dtype == said
    assert ("teacher_dtype" in trial.model_dump_json()) == (said is not None)


def test_a_trial_on_the_teachers_text_has_its_data_its_fingerprint_and_its_cache() -> None:
    plan = make_sweep_plan(search={"responses": {"choice": ["data", "teacher"]}})
    request = plan.spec.prepare_request()
    assert request.teacher_text is not None
    text = PreparedText(data="/text", fingerprint="x", num_examples=1, num_tokens=1)
    prepared = prepare_nothing(request, Path("/home"), lambda *_: None)
    caches = {
        HiddenStates(Precision.AUTO, None, responses): CachedAs("cache:float32", f"/{responses}")
        for responses in Responses
    }
    shared = SharedInputs(
        prepared.model_copy(update={"teacher_text": text}), {each: {} for each in Precision}, caches
    )
    trials = {
        responses: shared.trial(
            shared.template(plan), plan.spec.trial_config({"responses": responses})
        )
        for responses in Responses
    }
    of_data, of_teacher = trials[Responses.DATA], trials[Responses.TEACHER]
    assert (of_data.paths.data, of_data.paths.teacher_cache) == ("/data", "/data")
    assert (of_teacher.paths.data, of_teacher.paths.teacher_cache) == ("/text", "/teacher")
    assert of_teacher.fingerprints == of_data.fingerprints | {"data": "x"}
