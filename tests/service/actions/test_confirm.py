"""A search's best configs as a study on fresh seeds, and which searches have none."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import make_sweep_plan
from records_support import make_store, make_tracker, record_sweep, trial_of

from service.actions import confirm
from service.actions.confirm import confirm_sweep, plan_confirmation
from service.actions.plan import input_facts
from service.actions.run_result import RunResult
from service.errors import PlanError, TrackingError
from service.plan.plan import SweepPlan
from service.spec.parse import parse_spec
from service.states import TrialState
from service.workspace import Workspace

ROWS = [
    ({"tau": 1.5}, {"rouge_l": 10.0}),
    ({"tau": 3.0}, {"rouge_l": 30.0}),
    ({"tau": 2.5}, {"rouge_l": 20.0}),
]
CONTROL = "forward KL, tau 2"


def recorded(home: Path, *, control: float | None = 15.0, **changes: Any) -> SweepPlan:
    """A search of three configs and one control, all finished, in a record of its own."""
    uri = make_store(home)
    known = changes.pop("facts", None)
    plan = make_sweep_plan(**{"controls": "default"} | changes)
    facts = known or input_facts(plan.spec, home)
    plan = plan.model_copy(update={"facts": facts})
    record_sweep(uri, home, plan, changes.get("rows", ROWS))
    if control is not None:
        tracker = make_tracker(uri, home)
        sweep = tracker.start_sweep(plan)
        trial = trial_of(plan, 9, {"tau": 2.0, "seed": 0})
        run = tracker.start_trial(sweep, trial, hyperparameters={"tau": 2.0}, label=CONTROL)
        tracker.log_metrics(run, 4, {"rouge_l": control})
        tracker.finish_trial(run, TrialState.COMPLETED, objective=control)
        tracker.finish_sweep(sweep, TrialState.COMPLETED)
        assert tracker.close()
    return plan


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def test_the_best_configs_and_the_best_control_get_fresh_seeds(place: Workspace) -> None:
    search = recorded(place.home)
    plan = plan_confirmation(search.sweep_id, place, top=2, seeds=3)
    assert plan.study is not None
    cells = [(one.label, one.values.get("tau"), one.control) for one in plan.study.cells]
    assert cells == [(CONTROL, 2.0, CONTROL), ("tau=3", 3.0, None), ("tau=2.5", 2.5, None)]
    assert plan.study.seeds == (1, 2, 3), "the search had seed 0"
    assert (plan.confirms, plan.num_trials) == (search.sweep_id, 9)
    assert plan.spec.name == f"{search.spec.name}-confirm"
    assert plan.spec.training == search.spec.training
    assert plan_confirmation(search.sweep_id, place, top=2, seeds=3).sweep_id == plan.sweep_id


def test_two_searches_of_the_same_configs_are_confirmed_apart(
    place: Workspace, tmp_path: Path
) -> None:
    first = recorded(place.home)
    other = Workspace(tmp_path / "other")
    second = recorded(other.home, training={"steps": 4, "seed": 0})
    assert first.sweep_id != second.sweep_id
    ids = [plan_confirmation("latest", one, top=1, seeds=2).sweep_id for one in (place, other)]
    assert ids[0] != ids[1]


def test_the_study_is_run_here(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(place.home)
    ran: list[SweepPlan] = []

    def run(plan: SweepPlan, workspace: Workspace, **named: Any) -> str:
        ran.append(plan)
        return "result"

    monkeypatch.setattr(confirm, "run_sweep", run)
    found: RunResult | Any = confirm_sweep("latest", place, top=1, seeds=2)
    assert found == "result"
    assert [plan.confirms for plan in ran] == [ran[0].confirms]
    assert ran[0].num_trials == 4


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"top": 1, "seeds": 1}, "one seed has no interval.* but got 1 and 1"),
        ({"top": 0, "seeds": 2}, "--top 1 or more, but got 2 and 0"),
        ({"top": 4, "seeds": 2}, "at most the number of configs that completed in tiny-.*, 3, but"),
    ],
)
def test_what_is_asked_for_has_to_be_there(
    place: Workspace, asked: dict[str, int], message: str
) -> None:
    recorded(place.home)
    with pytest.raises(PlanError, match=message):
        plan_confirmation("latest", place, **asked)


def test_one_config_without_a_control_is_compared_with_nothing(place: Workspace) -> None:
    recorded(place.home, control=None, controls="none")
    with pytest.raises(PlanError, match="compared with nothing. Use --top 2 or more"):
        plan_confirmation("latest", place, top=1, seeds=2)
    plan = plan_confirmation("latest", place, top=2, seeds=2)
    assert plan.study is not None
    assert not any(cell.control for cell in plan.study.cells)


def test_a_search_without_a_finished_trial_has_nothing_to_confirm(place: Workspace) -> None:
    uri = make_store(place.home)
    record_sweep(uri, place.home, make_sweep_plan(), [])
    with pytest.raises(PlanError, match="must have a searched trial that completed"):
        plan_confirmation("latest", place, top=1, seeds=2)


def test_an_unknown_search_is_not_confirmed(place: Workspace) -> None:
    recorded(place.home)
    with pytest.raises(TrackingError, match="no sweep is called so"):
        plan_confirmation("absent", place, top=1, seeds=2)


def test_a_search_of_what_compared_configs_share_is_refused(place: Workspace) -> None:
    search = {"tau": {"float": [1, 4]}, "batch_size": {"choice": [8, 16]}}
    recorded(place.home, search=search, control=None)
    with pytest.raises(PlanError, match="share the order of their data, but tiny-.* batch_size"):
        plan_confirmation("latest", place, top=1, seeds=2)


def test_a_search_with_two_objectives_is_refused(place: Workspace) -> None:
    both = [{"metric": "rouge_l"}, {"metric": "cross_entropy"}]
    recorded(place.home, objective=both, control=None)
    with pytest.raises(PlanError, match="one objective, but tiny-.* has 2"):
        plan_confirmation("latest", place, top=1, seeds=2)


def test_a_study_is_not_confirmed_again(place: Workspace) -> None:
    recorded(place.home)
    plan = plan_confirmation("latest", place, top=1, seeds=2)
    record_sweep(place.tracking_uri, place.home, plan, [])
    with pytest.raises(PlanError, match="is a study, whose cells have seeds already"):
        plan_confirmation(plan.sweep_id, place, top=1, seeds=2)


def test_a_search_whose_data_have_changed_is_refused(place: Workspace) -> None:
    search = make_sweep_plan()
    facts = input_facts(search.spec, place.home)
    other = facts.model_copy(update={"fingerprints": {"text": "another"}})
    recorded(place.home, facts=other)
    with pytest.raises(PlanError, match="but changed since: data. Bring them back"):
        plan_confirmation("latest", place, top=1, seeds=2)


def test_the_documents_example_is_a_study() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "studies.md"
    (example, tune, *_) = page.read_text().split("```yaml\n")[1:]

    document = yaml.safe_load(example.partition("```")[0])
    document |= {"teacher": {"model": "t"}, "data": {"train": "a", "validation": "b"}}
    spec = parse_spec(document)
    assert len(list(spec.points())) == 22
    given = yaml.safe_load(tune.partition("```")[0])
    del document["training"]["learning_rate"]
    assert parse_spec(document | given).tune is not None
