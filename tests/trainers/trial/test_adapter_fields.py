"""The fields of an adapter: left out where there is none, filled in where there is one."""

from typing import Any

import pytest

from trainers.trial.adapters import Adapter, adapter_of, first_adapter
from trainers.trial.config import TrialConfig


def dumped(**values: Any) -> dict[str, Any]:
    found = TrialConfig.model_validate(values).model_dump(mode="json")
    return {name: value for name, value in found.items() if name.startswith("adapter_")}


def test_a_trial_without_an_adapter_reads_as_before_there_were_any() -> None:
    assert dumped() == {}
    assert adapter_of(TrialConfig()) is None


def test_what_an_adapter_leaves_out_is_written_out() -> None:
    assert dumped(adapter_kind="lora") == {
        "adapter_kind": "lora",
        "adapter_rank": 16,
        "adapter_alpha": 32.0,
        "adapter_dropout": 0.0,
    }
    assert dumped(adapter_kind="lora", adapter_rank=4)["adapter_alpha"] == 8.0


def test_the_document_and_the_trial_say_the_same() -> None:
    written = Adapter(rank=8, alpha=4, dropout=0.1, targets=("q_proj",))
    config = TrialConfig.model_validate(written.fields())
    assert adapter_of(config) == written
    assert Adapter().fields() == {"adapter_kind": "lora"}
    # a field that a plan's document gave by default could not be searched any more
    assert Adapter().model_dump() == {}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"adapter_rank": 4},
            "adapter_rank belongs to adapter_kind 'lora', but got adapter_ra",
        ),
        ({"adapter_kind": "lora", "adapter_rank": 0}, "adapter_rank\n.*greater than or equal to 1"),
        ({"adapter_kind": "lora", "adapter_alpha": -1}, "adapter_alpha\n.*greater than 0"),
        ({"adapter_kind": "lora", "adapter_dropout": 1}, "adapter_dropout\n.*less than 1"),
        ({"adapter_kind": "lora", "adapter_targets": ()}, "adapter_targets\n.*at least 1 item"),
    ],
)
def test_what_makes_no_adapter_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        TrialConfig.model_validate(values)


def test_of_a_sweeps_trials_the_first_adapter_is_found() -> None:
    points = [{"adapter_kind": "none"}, {"adapter_kind": "lora", "adapter_rank": 2}]
    assert first_adapter({}, points) == Adapter(rank=2)
    assert first_adapter({"adapter_kind": None}, [{"tau": 2}]) is None
