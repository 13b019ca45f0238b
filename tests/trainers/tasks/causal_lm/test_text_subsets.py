"""Students that learn from fewer texts than their teacher did."""

from pathlib import Path

import numpy as np
import pytest
from training_support import Recorder, request, trial

from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.tasks import table
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.teachers.cache import CacheRequest
from trainers.teachers.cache_build import build, plan_cache
from trainers.training.run import run_trial
from trainers.trial.sources import Prepared
from trainers.trial.subset import Subset


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    home = tmp_path_factory.mktemp("home")
    return prepare(request(home, student_examples=10, subset_seed=2), home)


def test_a_subset_is_drawn_by_its_seed_from_the_same_data(
    prepared: Prepared, tmp_path: Path
) -> None:
    folder = Path(prepared.data)
    whole, some = (TokenSplit.open(folder, "train", subset=s) for s in (None, Subset(10, 2)))
    assert (prepared.num_train_examples, len(whole), len(some)) == (60, 60, 10)
    places = np.flatnonzero(np.isin(whole.example_ids, some.example_ids))
    assert len(places) == 10
    assert places.tolist() != list(range(10))
    for at, place in enumerate(places.tolist()):
        assert some.tokens(at).tolist() == whole.tokens(place).tolist()
        assert some.learned(at).tolist() == whole.learned(place).tolist()
        assert some.references(at) == whole.references(place)
        assert some.num_learned[at] == whole.num_learned[place]
        assert some.num_tokens[at] == whole.num_tokens[place]
    other = TokenSplit.open(folder, "train", subset=Subset(10, 3))
    assert set(other.example_ids.tolist()) != set(some.example_ids.tolist())


def test_trials_and_their_cache_ask_for_the_subset_alone(
    prepared: Prepared, tmp_path: Path
) -> None:
    options = {"student_examples": 10, "subset_seed": 2, "steps": None, "epochs": 3}
    online = trial(prepared, **options, generation_prompts=0, evaluations=1)
    online = online.model_copy(
        update={
            "numerics": {
                "device": "cpu",
                "precision": "float32",
                "matmul_precision": "highest",
                "threads": 1,
                "deterministic": True,
            }
        }
    )
    plan = plan_cache(CacheRequest.of_trial(online, table.task_named("causal_lm")), tmp_path)
    folder = Path(prepared.data)
    some = TokenSplit.open(folder, "train", subset=Subset(10, 2)).num_learned.sum()
    validation = TokenSplit.open(folder, "validation").num_learned.sum()
    assert sum(shard.num_positions for shard in plan.shards) == some + validation
    paths = online.paths.model_copy(update={"teacher_cache": str(build(plan))})
    cached = online.model_copy(update={"teacher_source": "cache:float32", "paths": paths})
    losses = []
    for one in (online, cached):
        recorder = Recorder()
        result = run_trial(one, tmp_path / one.teacher_source, reporter=recorder)
        assert result.steps == 3 * 2  # 10 examples in batches of 8
        losses.append([step["loss"] for step in recorder.steps.values()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_subset_that_cannot_be_drawn_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    rule = r"data\.student_examples: it must be at most the 60 .* got 61\. Lower it"
    asked = request(tmp_path, student_examples=61)
    with pytest.raises(ValueError, match=rule):
        inspect(asked, tmp_path)
    with pytest.raises(ValueError, match=rule):
        prepare(asked, tmp_path)
    assert not (tmp_path / "prepared" / "teachers").exists()
    with pytest.raises(ValueError, match=rule):
        run_trial(trial(prepared, student_examples=61), tmp_path, reporter=Recorder())


def test_a_seed_by_which_nothing_is_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.subset_seed: it draws .* got 4 without it"):
        inspect(request(tmp_path, subset_seed=4), tmp_path)
