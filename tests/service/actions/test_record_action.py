"""Questions to a small record, without a terminal."""

from pathlib import Path

import pytest
from fakes import make_study_document
from records_support import make_store, plan_of, record_sweep

from service.actions.record import (
    best_trials,
    compare_trials,
    list_sweeps,
    list_trials,
    write_best_trial,
)
from service.errors import SpecError, TrackingError
from service.plan.estimates import InputFacts
from service.plan.plan import make_plan
from service.plan.resources import Resources
from service.spec.parse import parse_spec
from service.workspace import Workspace
from trainers.trial.trial_file import TrialFile

ROWS = [
    ({"divergence": "forward_kl", "tau": 1.0}, {"rouge_l": 10.0, "cross_entropy": 2.0}),
    ({"divergence": "reverse_kl", "tau": 2.0}, {"rouge_l": 30.0, "cross_entropy": 4.0}),
    ({"divergence": "forward_kl", "tau": 4.0}, {"rouge_l": 20.0, "cross_entropy": 3.0}),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    home = tmp_path_factory.mktemp("home")
    record_sweep(make_store(home), home, plan_of(), ROWS)
    return Workspace(home)


def test_sweeps_and_their_trials_are_records(workspace: Workspace) -> None:
    (sweep,) = list_sweeps(workspace)
    assert (sweep.sweep_id, sweep.state) == (plan_of().sweep_id, "completed")
    found = list_trials("latest", workspace)
    assert found.sweep == sweep
    assert [trial.hyperparameters["tau"] for trial in found.trials] == [1.0, 2.0, 4.0]
    assert [row["trial"] for row in found.to_json()] == [0, 1, 2]


def test_the_best_are_ranked_filtered_and_grouped(workspace: Workspace) -> None:
    def numbers(**question: object) -> list[int]:
        return [one.trial for one in best_trials("latest", workspace, **question).records]  # type: ignore[arg-type]

    assert numbers() == [1, 2, 0]
    assert numbers(metric="cross_entropy") == [0, 2, 1]
    assert numbers(where=["divergence=forward_kl"], top=1) == [2]
    assert numbers(per="divergence") == [1, 2]
    assert best_trials("all", workspace).winners["cross_entropy"].typical.trial == 0


def test_the_best_trial_is_written_as_a_file(workspace: Workspace, tmp_path: Path) -> None:
    write_best_trial(best_trials("toy", workspace), workspace, tmp_path / "trial.json")
    assert TrialFile.read(tmp_path / "trial.json").config.tau == 2.0


def test_trials_are_compared(workspace: Workspace) -> None:
    found = compare_trials(["latest/0", "latest/2"], workspace)
    assert found.differs == {"tau": [1.0, 4.0]}
    with pytest.raises(SpecError, match="two runs or more must be named, but got 1"):
        compare_trials(["latest/0"], workspace)
    with pytest.raises(TrackingError, match="run 'latest/9'"):
        compare_trials(["latest/0", "latest/9"], workspace)


def test_a_sweep_and_a_trial_are_compared_by_their_seeds(workspace: Workspace) -> None:
    found = compare_trials(["toy"], workspace, significance=True).significance
    assert found is not None
    assert found.family.control == "forward_kl tau=1"
    assert [row["name"] for row in found.rows()] == ["reverse_kl tau=2", "forward_kl tau=4"]
    assert found.rows()[0]["verdict"] == "untested"
    run = list_trials("toy", workspace).trials[1].run_id
    by_name = compare_trials(
        ["toy/0", run], workspace, significance=True, metric="cross_entropy", control="toy/2"
    ).significance
    assert by_name is not None and by_name.family.control == "forward_kl tau=4"
    assert [row["difference"]["mean_difference"] for row in by_name.rows()] == [-1.0, 1.0]


def test_sweeps_of_other_inputs_are_told_apart(tmp_path: Path) -> None:
    uri = make_store(tmp_path)
    for name in ("toy", "other"):
        record_sweep(uri, tmp_path, plan_of(name), ROWS)
    found = compare_trials(["toy", "other"], Workspace(tmp_path), significance=True).significance
    assert found is not None
    assert {row["name"].partition("-")[0] for row in found.rows()} == {"toy", "other"}
    assert not any("inputs" in note for note in found.notes)


def test_what_goes_with_significance_is_refused_without_it(workspace: Workspace) -> None:
    trials = ["latest/0", "latest/2"]
    with pytest.raises(SpecError, match="--metric: goes with --significance alone, but"):
        compare_trials(trials, workspace, metric="x")
    with pytest.raises(SpecError, match="--control: goes with --significance alone"):
        compare_trials(trials, workspace, control="latest/0")
    with pytest.raises(TrackingError, match="'none': must be a sweep, SWEEP/NUMBER or a run's id"):
        compare_trials(["none"], workspace, significance=True)
    with pytest.raises(TrackingError, match="run 'latest/9'"):
        compare_trials(["latest"], workspace, significance=True, control="latest/9")


def test_a_record_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="127.0.0.1:9"):
        list_sweeps(Workspace(tmp_path, tracking="http://127.0.0.1:9"))


RATES = (1e-3, 3e-3, 1e-2)


@pytest.mark.parametrize(("chosen", "ends"), [(1e-2, "the upper"), (1e-3, "the lower"), (3e-3, "")])
def test_a_tuned_rate_at_an_end_of_its_list_is_said_wherever_cells_are_compared(
    tmp_path: Path, chosen: float, ends: str
) -> None:
    document = make_study_document(seeds=3, tune={"learning_rate": list(RATES)})
    plan = make_plan(parse_spec(document), InputFacts(), Resources(num_cpus=2), code_version="1")
    assert plan.study is not None
    first, second = (cell.label for cell in plan.study.cells)
    trials = [*plan.study.tuning_trials()]
    trials += plan.study.compared_trials({first: 3e-3, second: chosen})
    rows = [(one, {"rouge_l": 10 * one["tau"] + one["seed"] % 7}) for _, one in trials]
    record_sweep(make_store(tmp_path), tmp_path, plan, rows)
    workspace = Workspace(tmp_path)
    compared = compare_trials(["latest"], workspace, significance=True).significance
    assert compared is not None
    for said in (best_trials("latest", workspace).lines, compared.notes):
        about = [line for line in said if "tuned learning_rate" in line]
        assert len(about) == (1 if ends else 0)
        if ends:
            assert "the tuned learning_rate of 1 of 2 cells lies at an end" in about[0]
            assert f"(0.001 to 0.01): learning_rate={chosen:g} {second} at {ends} one" in about[0]
