"""What a study trains: its cells once each, seed by seed, and what they share."""

from typing import Any

import pytest
from fakes import make_study_document

from service.plan.estimates import InputFacts
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.plan.search_rows import search_rows
from service.plan.study import StudyPlan, free_seeds, key_of, with_more
from service.spec.parse import parse_spec
from service.states import Role

LAPTOP = Resources(num_cpus=4)
TUNE = {"learning_rate": [1e-3, 1e-2], "seed": 9}


def plan_of(**changes: Any) -> SweepPlan:
    spec = parse_spec(make_study_document(**changes))
    return make_plan(spec, InputFacts(), LAPTOP, code_version="1")


def study_of(**changes: Any) -> StudyPlan:
    study = plan_of(**changes).study
    assert study is not None
    return study


def compared(study: StudyPlan, **rates: float) -> list[tuple[str, int]]:
    return [(cell.label, values["seed"]) for cell, values in study.compared_trials(rates)]


def test_trials_are_cells_times_seeds() -> None:
    plan = plan_of(seeds=3)
    assert plan.num_trials == 2 * 3
    assert plan.controls == ()


def test_trials_come_seed_by_seed_over_all_cells() -> None:
    assert compared(study_of(seeds=[5, 2])) == [
        ("tau=1", 5),
        ("tau=2", 5),
        ("tau=1", 2),
        ("tau=2", 2),
    ]


def test_controls_are_cells_and_come_first() -> None:
    study = study_of(controls="default", cells=[{"divergence": "reverse_kl", "tau": 2}])
    labels = [(cell.label, cell.control) for cell in study.cells]
    assert labels[0] == ("hard loss only", "hard loss only")
    assert labels[-1] == ("reverse_kl tau=2", None)
    assert len(labels) == 5


def test_cells_that_train_alike_are_one_and_that_is_said() -> None:
    cells = [{"tau": [1, 2]}, {"tau": 2.0, "policy": "fixed"}, {"tau": 1}]
    plan = plan_of(cells=cells)
    assert plan.study is not None
    assert [cell.label for cell in plan.study.cells] == ["tau=1", "tau=2"]
    (told,) = [one for one in plan.warnings if one.startswith("cells: ")]
    assert (
        told == "cells: policy=fixed tau=2 (tau=2), tau=1 are earlier ones again and trained once"
    )


def test_a_cell_that_is_a_control_is_the_control() -> None:
    plan = plan_of(controls="default", cells=[{"tau": [1, 3]}])
    assert plan.study is not None
    assert [(cell.label, cell.control) for cell in plan.study.cells] == [
        ("hard loss only", "hard loss only"),
        ("tau=1", "forward KL, tau 1"),
        ("forward KL, tau 2", "forward KL, tau 2"),
        ("forward KL, tau 4", "forward KL, tau 4"),
        ("tau=3", None),
    ]
    assert not any(one.startswith("cells: ") for one in plan.warnings)


def test_labels_are_unique_where_words_are_not() -> None:
    study = study_of(cells=[{"tau": [1.00001, 1.00002]}])
    assert [cell.label for cell in study.cells] == ["tau=1", "tau=1 (2)"]


def test_what_all_cells_share_is_said() -> None:
    held = study_of(training={"steps": 7, "optimizer": "sgd"}).held_fixed
    assert (held["steps"], held["optimizer"], held["evaluations"]) == (7, "sgd", 2)
    assert not {"seed", "tau", "divergence", "hard_weight"} & held.keys()
    varied = study_of(cells=[{"learning_rate": [0.1, 0.2]}]).held_fixed
    assert "learning_rate" in held
    assert "learning_rate" not in varied
    assert "learning_rate" not in study_of(tune=TUNE).held_fixed


def test_tuning_comes_before_and_is_counted() -> None:
    plan = plan_of(tune=TUNE, seeds=3)
    assert plan.num_trials == 2 * 2 + 2 * 3
    assert plan.study is not None
    tried = [(cell.label, values) for cell, values in plan.study.tuning_trials()]
    assert [(label, values["learning_rate"]) for label, values in tried] == [
        ("tau=1", 1e-3),
        ("tau=2", 1e-3),
        ("tau=1", 1e-2),
        ("tau=2", 1e-2),
    ]
    assert {values["seed"] for _, values in tried} == {9}


def test_a_cell_that_could_not_be_tuned_is_left_out() -> None:
    study = study_of(tune=TUNE)
    assert compared(study, **{"tau=2": 1e-3}) == [("tau=2", 0), ("tau=2", 1)]


def test_a_trials_values_say_its_cell_and_what_it_is_for() -> None:
    study = study_of(tune=TUNE)
    for cell, values in study.tuning_trials():
        assert study.cell_of(values) == cell
        assert study.role_of(values) is Role.TUNING
    for cell, values in study.compared_trials({"tau=1": 1e-3, "tau=2": 1e-2}):
        assert study.cell_of(values) == cell
        assert study.role_of(values) is Role.COMPARED
    assert study.cell_of({"tau": 3, "seed": 0, "learning_rate": 1e-3}) is None


def test_a_learning_rate_is_of_the_cell_where_none_is_tuned() -> None:
    study = study_of(cells=[{"learning_rate": [0.1, 0.2]}])
    found = [study.cell_of(values) for _, values in study.compared_trials({})]
    assert [cell and cell.label for cell in found] == ["learning_rate=0.1", "learning_rate=0.2"] * 2


def test_more_seeds_are_the_lowest_that_are_free() -> None:
    plan = plan_of(seeds=[0, 2], tune=TUNE | {"seed": 1})
    assert plan.study is not None
    more, told = with_more(plan.study, plan.spec, seeds=2, points=[])
    assert (more.seeds, told) == ((0, 2, 3, 4), ())
    assert free_seeds({0, 1, 5}, 4) == (2, 3, 4, 6)


def test_more_cells_stand_behind_those_that_there_are() -> None:
    plan = plan_of()
    assert plan.study is not None
    more, told = with_more(plan.study, plan.spec, seeds=0, points=[{"tau": 2}, {"tau": 4}])
    assert [cell.label for cell in more.cells] == ["tau=1", "tau=2", "tau=4"]
    assert more.seeds == plan.study.seeds
    assert told == ("cells: tau=2 is an earlier one again and trained once",)


def test_the_plan_is_read_back_as_it_was_written() -> None:
    plan = plan_of(tune=TUNE, controls="default")
    assert SweepPlan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    "changes", [{"seeds": 3}, {"cells": [{"tau": [1, 4]}]}, {"tune": TUNE}, {"seeds": [1, 0]}]
)
def test_other_cells_or_seeds_are_another_study(changes: dict[str, Any]) -> None:
    assert plan_of(**changes).sweep_id != plan_of().sweep_id
    assert plan_of(**changes).sweep_id == plan_of(**changes).sweep_id


def test_what_cells_differ_in_is_said_in_words() -> None:
    cells = [{"tau": [1, 2]}, {"policy": "cist", "rho_per_log_vocab": [0.5, 1], "tau": None}]
    rows = {row["name"]: row["domain"] for row in search_rows(plan_of(cells=cells).spec, 1000)}
    assert rows == {
        "tau": "one of 1, 2",
        "policy": "one of cist",
        "rho_per_log_vocab": "one of 0.5, 1 (rho 3.45, 6.91)",
    }


def test_a_key_knows_values_by_what_they_are() -> None:
    assert key_of({"a": 1, "b": None}) == key_of({"b": None, "a": 1})
    assert key_of({"a": True}) != key_of({"a": 1})


def test_twins_among_cells_are_told() -> None:
    cells = [
        {"divergence": "forward_kl", "tau": 2},
        {"divergence": "skew_forward_kl", "alpha": 0, "tau": 2},
    ]
    told = " ".join(plan_of(cells=cells).warnings)
    assert "skew_forward_kl with alpha 0.0 has exactly the gradient of forward_kl" in told


def test_a_study_of_tau_without_scaling_is_warned_of() -> None:
    told = " ".join(plan_of(cells=[{"tau": [2, 8], "scaling": "none"}]).warnings)
    assert "also searches the soft : hard ratio" in told
