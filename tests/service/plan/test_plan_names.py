"""Names in a plan that was read from elsewhere stay in their folders."""

from typing import Any

import pytest
from pydantic import ValidationError
from records_support import plan_of

from service.plan.plan import SweepPlan
from service.spec.document import Tracking

OUTSIDE = ["../x", "/etc/passwd", "a/../../x", "a/./b", "..", "", "a//b", "a/", "a\\..\\b", "a\0b"]


def read(changes: dict[str, Any]) -> SweepPlan:
    return SweepPlan.model_validate(plan_of().model_dump(mode="json") | changes)


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"own_modules"):
        read({"own_modules": {name: "x = 1"}})
    with pytest.raises(ValidationError, match=r"sweep_id"):
        read({"sweep_id": name})
    with pytest.raises(ValidationError, match=r"experiment"):
        Tracking(experiment=name)


def test_names_below_a_folder_are_taken() -> None:
    made = read({"sweep_id": "a.b-1-2", "own_modules": {"mine/loss.py": "", "ä b.py": ""}})
    assert list(made.own_modules) == ["mine/loss.py", "ä b.py"]
    assert Tracking(experiment="team/ä x").experiment == "team/ä x"


def test_an_experiments_name_fits_into_a_files() -> None:
    with pytest.raises(ValidationError, match="at most 180 bytes"):
        Tracking(experiment="ä" * 91)
