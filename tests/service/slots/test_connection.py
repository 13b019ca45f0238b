"""What a user reads when Ray does not start, or breaks. No Ray is started."""

import pytest
from fakes import make_sweep_plan

from service.errors import JobError


# The module is imported by the tests alone: it loads Ray, which reads its settings then.
def test_a_ray_that_does_not_start_is_one_sentence() -> None:
    from service.slots.connection import start_errors_explained

    message = r"a Ray must answer at auto, but got Exception: timed out\. Does the cluster"
    with (
        pytest.raises(JobError, match=message),
        start_errors_explained("a Ray must answer at auto", "Does the cluster still run?"),
    ):
        raise Exception("timed out.\nA long story")


def test_a_ray_that_breaks_is_one_sentence_with_the_way_on() -> None:
    import ray

    from service.slots.connection import ray_errors_explained

    plan = make_sweep_plan()
    message = f"{plan.sweep_id}: Ray must stay up .* ActorDiedError: .*resume {plan.sweep_id}"
    with pytest.raises(JobError, match=message), ray_errors_explained(plan.sweep_id):
        raise ray.exceptions.ActorDiedError
    with pytest.raises(ValueError, match="ours"), ray_errors_explained(plan.sweep_id):
        raise ValueError("ours")
