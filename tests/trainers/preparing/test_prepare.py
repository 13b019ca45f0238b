"""What all trials share: made once, found again, and different whenever its key differs."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_support import gpt2, request, write_lines

from trainers.preparing import prepare as preparing
from trainers.preparing.inspection import inspect
from trainers.preparing.keys import Keys
from trainers.preparing.prepare import prepare
from trainers.tasks import table
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.data import TokenData
from trainers.tasks.causal_lm.inputs import TextKeys
from trainers.tasks.causal_lm.runtime import CausalLmRuntime
from trainers.trial.sources import FitConfig, ModelSource, Prepared, PrepareRequest, TokenizerSource


@pytest.fixture(scope="module")
def home(prepared: Prepared) -> Path:
    return Path(prepared.data).parents[2]


def folders(home: Path) -> set[Path]:
    return {path for path in (home / "prepared").glob("*/*") if path.is_dir()}


def again(prepared: Prepared, home: Path, **changed: Any) -> PrepareRequest:
    """The request of the session's fixture, which lies beside its home."""
    return request(home.parent, **changed)


def test_models_open_and_share_the_tokenizers_vocabulary(prepared: Prepared) -> None:
    from transformers import AutoModelForCausalLM

    for folder in (prepared.teacher, prepared.student):
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert model.config.vocab_size == prepared.vocab_size == 300
        assert model.config.eos_token_id == 0
    assert prepared.num_train_examples == 60
    assert prepared.num_validation_examples == 12
    assert set(prepared.fingerprints) == {"teacher", "student", "tokenizer", "data"}


def test_the_fitted_teacher_knows_more_than_the_start(prepared: Prepared) -> None:
    teacher, student = prepared.teacher_metrics, prepared.student_metrics
    assert teacher["cross_entropy"] < student["cross_entropy"] - 0.05
    assert 0 < teacher["entropy_share"] < 1
    assert "teacher_entropy_mean" not in student


def test_a_teacher_with_dropout_is_scored_without_it(tmp_path: Path) -> None:
    teacher = ModelSource(config=gpt2(1, 16, resid_pdrop=0.5, embd_pdrop=0.5))
    found = prepare(request(tmp_path, teacher=teacher), tmp_path / "home")
    # the student is measured against the teacher that was measured before
    seen, own = found.student_metrics["teacher_entropy"], found.teacher_metrics["entropy"]
    assert seen == pytest.approx(own, rel=1e-12)


def test_a_trusted_teacher_does_not_make_the_students_code_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted: dict[str, bool] = {}
    load = models.load

    def recorded(folder: Path, **options: Any) -> Any:
        trusted[folder.parent.name] = options["trust"]
        return load(folder, **options)

    monkeypatch.setattr(models, "load", recorded)
    teacher = ModelSource(config=gpt2(1, 16), trust_remote_code=True)
    prepare(request(tmp_path, teacher=teacher), tmp_path / "home")
    assert trusted == {"teachers": True, "students": False}


def test_the_second_time_everything_is_found(prepared: Prepared, home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folders(home)}
    stages: list[str] = []
    found = prepare(again(prepared, home), home, lambda stage, share: stages.append(stage))
    assert found == prepared
    assert {path: path.stat().st_mtime_ns for path in folders(home)} == before
    assert "teacher fit" not in stages


def test_progress_names_stages_and_rises_to_one(tmp_path: Path) -> None:
    heard: list[tuple[str, float]] = []
    prepare(request(tmp_path), tmp_path / "home", lambda *news: heard.append(news))
    shares = [share for stage, share in heard if stage == "teacher fit"]
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) == 12


TASK = table.task_named("causal_lm")
CHANGES: dict[str, tuple[set[str], Callable[[], dict[str, Any]]]] = {
    "teacher fit": (
        {"teacher"},
        lambda: {"teacher": ModelSource(config=gpt2(2, 32), fit=FitConfig(steps=3))},
    ),
    "student seed": (
        {"student"},
        lambda: {"student": ModelSource(config=gpt2(1, 16), init_seed=1)},
    ),
    "lengths": ({"data", "teacher"}, lambda: {"max_tokens": 80}),
    "tokenizer": (
        {"data", "teacher", "student"},
        lambda: {"tokenizer": TokenizerSource.model_validate({"train": {"vocab_size": 310}})},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_change_makes_anew(prepared: Prepared, home: Path, name: str) -> None:
    expected, change = CHANGES[name]
    other = prepare(again(prepared, home, **change()), home)
    changed = {
        what
        for what in ("teacher", "student", "data")
        if getattr(other, what) != getattr(prepared, what)
    }
    assert changed == expected


def test_other_text_makes_everything_fitted_anew(tmp_path: Path) -> None:
    first = request(tmp_path)
    before = folders_of(first, tmp_path)
    rows = [{"instruction": "new", "output": "text"}]
    second = request(tmp_path)
    write_lines(tmp_path / "train.jsonl", rows)
    data, tokenizer = folders_of(second, tmp_path)
    assert data != before[0] and tokenizer != before[1]


def folders_of(asked: PrepareRequest, home: Path) -> tuple[Path, Path]:
    """Of the tokenised data, and of the tokenizer."""
    return Keys(asked, home, TASK).data_folder, TextKeys(asked).tokenizer_folder(home)


def test_a_local_model_without_a_fit_is_used_where_it_lies(prepared: Prepared, home: Path) -> None:
    local = again(prepared, home, student=ModelSource(model=prepared.student))
    assert prepare(local, home).student == prepared.student


def test_a_fit_can_start_from_a_local_model(prepared: Prepared, home: Path) -> None:
    source = ModelSource(model=prepared.student, fit=FitConfig(steps=8, learning_rate=3e-3))
    fitted = prepare(again(prepared, home, student=source), home)
    assert fitted.student != prepared.student
    before = prepared.student_metrics["cross_entropy"]
    assert fitted.student_metrics["cross_entropy"] < before


def test_a_fit_may_learn_prompts_too(prepared: Prepared, home: Path) -> None:
    """It knows the prompts better then, and has seen more tokens in as many steps."""
    start = ModelSource(config=gpt2(1, 16), init_seed=3)
    found = {}
    for learn in ("responses", "all"):
        fit = FitConfig.model_validate({"steps": 40, "batch_size": 8, "learn": learn})
        source = start.model_copy(update={"fit": fit.model_copy(update={"learning_rate": 3e-3})})
        made = prepare(again(prepared, home, student=source), home)
        assert not (Path(made.student) / "data").exists()
        found[learn] = made
    assert found["all"].data == found["responses"].data  # trials' data stays what it is
    losses = {learn: loss_of_prompts(one) for learn, one in found.items()}
    assert losses["all"] < losses["responses"] - 0.5


def loss_of_prompts(prepared: Prepared) -> float:
    """The mean cross-entropy of the prompts' tokens in the validation split."""
    model = models.load(Path(prepared.student), attention=None, dtype=torch.float32)
    split = TokenData.open(Path(prepared.data)).splits["validation"]
    losses = []
    for example in range(len(split)):
        ids = torch.tensor(split.tokens(example)[: split.num_prompt_tokens[example]]).long()
        losses.append(model(input_ids=ids[None], labels=ids[None]).loss.item())
    return sum(losses) / len(losses)


def test_what_is_learned_with_prompts(prepared: Prepared, tmp_path: Path) -> None:
    CausalLmRuntime().write_all_learned(Path(prepared.data), tmp_path / "all")
    before, after = (TokenData.open(folder) for folder in (Path(prepared.data), tmp_path / "all"))
    for example in range(len(before.splits["train"])):
        ids = after.splits["train"].tokens(example)
        assert ids.tolist() == before.splits["train"].tokens(example).tolist()
        assert after.splits["train"].learned(example).tolist() == [False] + [True] * (len(ids) - 1)
    lengths = after.splits["train"].num_tokens
    assert after.splits["train"].num_learned.tolist() == (lengths - 1).tolist()
    assert after.facts.train.num_response_tokens == int((lengths - 1).sum())
    same = [data.splits["validation"].num_learned.tolist() for data in (before, after)]
    assert same[0] == same[1]
    assert not set(after.splits["train"].example_ids) & set(before.splits["train"].example_ids)


def test_a_fit_that_learns_responses_alone_keeps_its_key() -> None:
    assert "learn" not in FitConfig(steps=3).model_dump()
    assert FitConfig.model_validate({"steps": 3, "learn": "all"}).model_dump()["learn"] == "all"


def test_a_fit_that_diverges_is_named(tmp_path: Path) -> None:
    wild = FitConfig(steps=30, learning_rate=1e30)
    with pytest.raises(ValueError, match=r"student.fit: the loss must stay finite.*learning_rate"):
        prepare(
            request(tmp_path, student=ModelSource(config=gpt2(1, 16), fit=wild)), tmp_path / "home"
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gtp2"}, r"student.config.model_type: .*'gtp2'. Did you mean 'gpt2'"),
        (gpt2(1, 16, n_layers=3), r"student.config: every key must be .*Did you mean 'n_layer'"),
    ],
)
def test_a_misspelt_config_is_refused(
    prepared: Prepared, home: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(again(prepared, home, student=ModelSource(config=config)), home)


def test_a_tokenizer_larger_than_its_text_is_refused(tmp_path: Path) -> None:
    huge = TokenizerSource.model_validate({"train": {"vocab_size": 50_000}})
    with pytest.raises(ValueError, match=r"tokenizer.train.vocab_size: .*of 50000. Lower it"):
        prepare(request(tmp_path, tokenizer=huge), tmp_path / "home")


def prepare_in(folder: Path) -> None:
    prepare(request(folder), folder / "home")


def test_two_processes_prepare_the_same_at_once(tmp_path: Path) -> None:
    request(tmp_path)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=prepare_in, args=(tmp_path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    facts = inspect(request(tmp_path), tmp_path / "home")
    assert facts.teacher_entropy_share is not None


def test_a_fit_is_supervised_and_scored_once() -> None:
    fit = preparing.fit_config(FitConfig(epochs=2, seed=4), request_without_files(), TASK)
    assert (fit.hard_weight, fit.soft_weight, fit.evaluations) == (1.0, 0.0, 1)
    assert (fit.epochs, fit.seed, fit.generation_prompts) == (2, 4, 0)


def request_without_files() -> PrepareRequest:
    return PrepareRequest.model_validate(
        {
            "teacher": {"config": gpt2(1, 16)},
            "student": {"config": gpt2(1, 16)},
            "data": {"train": "a.jsonl", "validation": "b.jsonl"},
            "max_tokens": 96,
            "max_prompt_tokens": 72,
        }
    )
