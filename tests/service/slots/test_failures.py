from collections import Counter

import pytest

from service.slots.failures import Budgets, Decision, decide
from trainers.trial.assignments import Ending

BUDGETS = Budgets(error=1, out_of_memory=2, lost=3, preempted=4)
FAILURES = [ending for ending in Ending if ending is not Ending.DONE]


@pytest.mark.parametrize("ending", FAILURES)
def test_each_kind_of_failure_has_its_own_budget(ending: Ending) -> None:
    budget = BUDGETS.of(ending)
    others = Counter({other: 9 for other in FAILURES if other is not ending})
    decisions = [
        decide(ending, others | Counter({ending: n}), BUDGETS) for n in range(1, budget + 2)
    ]
    assert decisions == [Decision.RETRY] * budget + [Decision.GIVE_UP]


def test_no_budget_gives_up_at_once() -> None:
    assert decide(Ending.ERROR, Counter([Ending.ERROR]), Budgets(error=0)) is Decision.GIVE_UP


def test_what_is_done_did_not_fail() -> None:
    with pytest.raises(ValueError, match="failed attempts, but got one that is done"):
        decide(Ending.DONE, Counter(), BUDGETS)
