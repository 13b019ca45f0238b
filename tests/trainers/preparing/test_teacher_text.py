"""The teacher's text in place of the data's responses: what it is, that it goes on to the bit, and
what makes it anew."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_support import gpt2, request

from trainers.preparing import teacher_text
from trainers.preparing.inventory import prepared_folders
from trainers.preparing.prepare import prepare
from trainers.sampled import Sample
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.data import TokenData, TokenSplit
from trainers.tasks.causal_lm.text_writer import TextWriter
from trainers.trial.sources import FitConfig, ModelSource, Prepared, TeacherText

END, LONGEST = 0, 9


@pytest.fixture(scope="module")
def home(prepared: Prepared) -> Path:
    return Path(prepared.data).parents[2]


def written(home: Path, changed: dict[str, Any] | None = None, **asked: Any) -> Prepared:
    """The session's prepared inputs with the teacher's text as asked for; what is `changed` of the
    request is another one's."""
    text = TeacherText.model_validate({"max_tokens": LONGEST} | asked)
    return prepare(request(home.parent, teacher_text=text, **(changed or {})), home)


def train_of(prepared: Prepared) -> TokenSplit:
    assert prepared.teacher_text is not None
    return TokenData.open(Path(prepared.teacher_text.data)).splits["train"]


def responses(prepared: Prepared) -> list[list[int]]:
    split = train_of(prepared)
    return [
        split.tokens(example)[split.num_prompt_tokens[example] :].tolist()
        for example in range(len(split))
    ]


def naive(
    prepared: Prepared, prompt: list[int], luck: Any, temperature: float, top_p: float
) -> Any:
    """A response token by token: all of the text through the model, probabilities in float64, the
    largest ones up to `top_p`, and the one at which their sum passes the next of `luck`."""
    model = models.load(Path(prepared.teacher), attention=None, dtype=torch.float64)
    ids: list[int] = []
    while len(ids) < LONGEST and END not in ids:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids]), use_cache=False).logits[0, -1].numpy()
        if temperature == 0:
            ids.append(int(logits.argmax()))
            continue
        weights = np.exp((logits - logits.max()) / temperature)
        order = np.argsort(-weights, kind="stable")
        mass = np.cumsum(weights[order]) / weights.sum()
        kept = np.sort(order[: int((mass < top_p).sum()) + 1])
        shares = np.cumsum(weights[kept]) / weights[kept].sum()
        ids.append(int(kept[np.searchsorted(shares, luck[len(ids)], side="right")]))
    return ids


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (0.6, 0.8)])
def test_the_text_is_what_the_teacher_answers(
    prepared: Prepared, home: Path, temperature: float, top_p: float
) -> None:
    asked = {"temperature": temperature, "top_p": top_p, "seed": 5, "samples_per_prompt": 1}
    found = written(home, **asked)
    before, split = TokenData.open(Path(prepared.data)).splits["train"], train_of(found)
    assert len(split) == len(before) == 60
    for example in (0, 17, 59):
        prompt = before.prompt(example).tolist()
        # the luck of seed, the teacher (1), prompt and sample
        entropy = np.random.SeedSequence(5, spawn_key=(1, example, 0))
        luck = np.random.Generator(np.random.PCG64(entropy)).random(LONGEST, dtype=np.float32)
        expected = naive(prepared, prompt, luck, temperature, top_p)
        assert split.tokens(example).tolist() == prompt + expected
        assert split.learned(example).tolist() == [False] * len(prompt) + [True] * len(expected)


def test_everything_else_of_the_data_stays(prepared: Prepared, home: Path) -> None:
    found = written(home)
    assert found.model_copy(update={"teacher_text": None}) == prepared
    assert found.teacher_text is not None
    before, after = (
        TokenData.open(Path(folder)) for folder in (prepared.data, found.teacher_text.data)
    )
    assert after.cache_key() == before.cache_key()
    validation = [data.splits["validation"] for data in (before, after)]
    for example in range(len(validation[0])):
        ours, theirs = (split.tokens(example).tolist() for split in validation)
        assert ours == theirs
        assert validation[0].references(example) == validation[1].references(example)
    assert found.teacher_text.fingerprint != prepared.fingerprints["data"]
    assert found.teacher_text.num_tokens == sum(map(len, responses(found)))
    # the same prompts make each step, whoever answers them
    for step in range(20):
        orders = [data.splits["train"].order(batch_size=8, seed=3) for data in (before, after)]
        assert orders[0].examples(step).tolist() == orders[1].examples(step).tolist()


def test_each_prompt_has_as_many_samples_as_asked_for(home: Path) -> None:
    split = train_of(written(home, samples_per_prompt=3))
    assert len(split) == 180
    prompts = [split.prompt(example).tolist() for example in range(180)]
    assert all(prompts[i] == prompts[i - i % 3] for i in range(180))
    texts = [tuple(split.tokens(example).tolist()) for example in range(180)]
    assert len({*texts[:3]}) == 3
    one = train_of(written(home))
    assert [one.tokens(i).tolist() for i in range(60)] == [list(text) for text in texts[::3]]


class Cut(Exception):
    """The process died."""


def test_text_that_is_cut_off_goes_on_to_the_same_bits(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written(home, seed=8)
    calls: list[int] = []
    write = TextWriter.write

    def cut_at_the_third(self: TextWriter, asked: Any) -> list[Sample]:
        calls.append(len(asked))
        if len(calls) == 3:
            raise Cut("died")
        return write(self, asked)

    monkeypatch.setattr(TextWriter, "write", cut_at_the_third)
    monkeypatch.setattr(teacher_text, "PART", 16)
    again = tmp_path / "again"
    again.mkdir()
    request(again)
    with pytest.raises(Cut, match="died"):
        written(again / "home", seed=8)
    assert [path.suffix for path in prepared_folders(again / "home")].count(".parts") == 1
    shares: list[float] = []
    asked = TeacherText(max_tokens=LONGEST, seed=8)
    found = prepare(
        request(again, teacher_text=asked),
        again / "home",
        lambda stage, share: shares.append(share) if stage == "teacher's text" else None,
    )
    assert calls == [16, 16, 16, 16, 12]  # 60 in parts of 16, of which two were kept
    assert shares == [0, 16 / 60, 32 / 60, 48 / 60, 1]
    assert found.teacher_text is not None and whole.teacher_text is not None
    assert found.teacher_text.fingerprint == whole.teacher_text.fingerprint
    assert responses(found) == responses(whole)
    assert not [path for path in prepared_folders(again / "home") if path.name[0] == "."]


OTHER = ModelSource(config=gpt2(2, 32), fit=FitConfig(steps=3))
CHANGES: dict[str, tuple[bool, dict[str, Any]]] = {
    "temperature": (True, {"temperature": 0.5}),
    "top-p": (True, {"top_p": 0.9}),
    "seed": (True, {"seed": 1}),
    "samples": (True, {"samples_per_prompt": 2}),
    "longest": (True, {"max_tokens": 5}),
    "teacher": (True, {"changed": {"teacher": OTHER}}),
    "student": (False, {"changed": {"student": ModelSource(config=gpt2(1, 16), init_seed=1)}}),
    # what the lengths leave, written out
    "lengths' rest": (False, {"max_tokens": None}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_makes_it_anew(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    is_anew, change = CHANGES[name]
    before = written(home, **({"max_tokens": 24} if name == "lengths' rest" else {}))
    texts: list[int] = []
    write = TextWriter.write
    monkeypatch.setattr(TextWriter, "write", lambda *given: (texts.append(1), write(*given))[1])
    after = written(home, **change)
    assert before.teacher_text is not None and after.teacher_text is not None
    assert (after.teacher_text.data != before.teacher_text.data) == is_anew
    assert (after.teacher_text.fingerprint != before.teacher_text.fingerprint) == is_anew
    assert bool(texts) == is_anew


def test_several_samples_of_a_greedy_teacher_are_refused() -> None:
    with pytest.raises(ValueError, match="samples_per_prompt must be 1 at temperature 0.* got 2"):
        TeacherText(temperature=0, samples_per_prompt=2)
