"""Entries and rows: what a tokenizer's files hold, and which models fit it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_support import gpt2, request
from transformers import AutoTokenizer

from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.tasks.causal_lm.vocabulary import check_rows, num_entries, read_vocabulary
from trainers.trial.sources import ModelSource, Prepared, TokenizerSource


@pytest.fixture
def tokens(prepared: Prepared, tmp_path: Path) -> Path:
    """A tokenizer of 300 entries in a folder of its own."""
    folder = tmp_path / "tokens"
    shutil.copytree(Path(prepared.data) / "tokenizer", folder)
    return folder


@pytest.fixture
def student(prepared: Prepared, tokens: Path, tmp_path: Path) -> Path:
    """A model of 300 rows with that tokenizer beside it."""
    folder = tmp_path / "student"
    shutil.copytree(prepared.student, folder)
    shutil.copytree(tokens, folder, dirs_exist_ok=True)
    return folder


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("entries", "rows"),
    [
        (151_665, {"teacher": 152_064, "student": 151_936}),  # Qwen2.5
        (50_295, {"teacher": 51_200, "student": 51_200}),  # phi-2
        (100_015, {"teacher": 102_400, "student": 102_400}),  # DeepSeek
        (300, {"teacher": 300, "student": 100_000}),
        (300, {"teacher": None, "student": 300}),
        (None, {"teacher": 300, "student": 200}),
    ],
)
def test_rows_beyond_the_entries_are_padding(
    entries: int | None, rows: dict[str, int | None]
) -> None:
    check_rows(rows, entries)


@pytest.mark.parametrize(("rows", "role"), [((299, 300), "teacher"), ((300, 299), "student")])
def test_fewer_rows_than_entries_are_refused(rows: tuple[int, int], role: str) -> None:
    message = f"^{role}: .*tokenizer's 300 entries, but got 299 rows"
    with pytest.raises(ValueError, match=message):
        check_rows(dict(zip(("teacher", "student"), rows, strict=True)), 300)


def test_a_loaded_model_is_checked_by_the_rows_that_it_has(prepared: Prepared) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(prepared.student)
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel: .*301 entries, but got 300 rows"):
        LanguageModel.of(model, 301)


def test_padded_models_are_planned_and_prepared(tokens: Path, tmp_path: Path) -> None:
    asked = request(
        tmp_path,
        teacher=ModelSource(config=gpt2(1, 16, vocab_size=1000)),
        student=ModelSource(config=gpt2(1, 8, vocab_size=450)),
        tokenizer=TokenizerSource(model=str(tokens)),
    )
    assert inspect(asked, tmp_path / "home").vocab_size == 300
    assert prepare(asked, tmp_path / "home").vocab_size == 300


def no_change(folder: Path) -> None:
    pass


def added_token(folder: Path) -> None:
    edit(
        folder / "tokenizer.json",
        lambda c: c["added_tokens"].append({**c["added_tokens"][0], "id": 300, "content": "<x>"}),
    )


def holes(folder: Path) -> None:
    edit(
        folder / "tokenizer.json",
        lambda c: c["added_tokens"].append({**c["added_tokens"][0], "id": 350, "content": "<x>"}),
    )


def padding_token_named_beside(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", lambda c: c.update(pad_token="<pad>"))


def more_special_tokens(folder: Path) -> None:
    edit(
        folder / "tokenizer_config.json",
        lambda c: c.update(extra_special_tokens=["<a>", "<b>"], pad_token="<a>"),
    )


def word_pieces(folder: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    shutil.rmtree(folder)
    vocab = {token: i for i, token in enumerate(["[UNK]", "a", "b", "##c"])}
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]").save_pretrained(folder)


def unigram(folder: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    shutil.rmtree(folder)
    made = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], unk_id=0))
    PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", eos_token="</s>"
    ).save_pretrained(folder)


def ids_left_out(folder: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    shutil.rmtree(folder)
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 9}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", eos_token="</s>"
    ).save_pretrained(folder)


FORMS = [
    no_change,
    ids_left_out,
    added_token,
    holes,
    padding_token_named_beside,
    more_special_tokens,
    word_pieces,
    unigram,
]


@pytest.mark.parametrize("change", FORMS, ids=lambda change: change.__name__)
def test_entries_are_counted_as_transformers_numbers_them(
    tokens: Path, change: Callable[[Path], None]
) -> None:
    change(tokens)
    loaded = AutoTokenizer.from_pretrained(tokens)
    found = read_vocabulary(tokens)
    assert found.num_entries == num_entries(loaded)
    assert found.tokens == {number: token for token, number in loaded.get_vocab().items()}


def split_files(tokens: Path, *, wrong: bool = False) -> None:
    """The same tokenizer as vocab.json and merges.txt."""
    content = json.loads((tokens / "tokenizer.json").read_text())
    (tokens / "tokenizer.json").unlink()
    (tokens / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    merges = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
    if wrong:
        merges.reverse()
    (tokens / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


def renamed_special(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<|endoftext|>", "<|end|>"))


def swapped_tokens(folder: Path) -> None:
    def swap(content: Any) -> None:
        vocab = content["model"]["vocab"]
        a, b = [token for token, number in vocab.items() if number in (100, 101)]
        vocab[a], vocab[b] = vocab[b], vocab[a]

    edit(folder / "tokenizer.json", swap)


def other_merges(folder: Path) -> None:
    edit(folder / "tokenizer.json", lambda content: content["model"]["merges"].reverse())


def look(student: Path, tokens: Path, tmp_path: Path) -> Any:
    return request(
        tmp_path,
        student=ModelSource(model=str(student)),
        tokenizer=TokenizerSource(model=str(tokens)),
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (renamed_special, r"token 0 is '<\|end\|>' there and '<\|endoftext\|>' here"),
        (swapped_tokens, r"token 100 is '.+' there and '.+' here"),
        (other_merges, "the same tokens are made by other merges"),
        (lambda folder: split_files(folder, wrong=True), "made by other merges"),
    ],
)
def test_a_student_of_another_tokenizer_at_equal_size_is_refused(
    student: Path, tokens: Path, tmp_path: Path, change: Callable[[Path], None], problem: str
) -> None:
    change(student)
    message = f"student.model: .*student was trained with another tokenizer.*{problem}"
    with pytest.raises(ValueError, match=message):
        inspect(look(student, tokens, tmp_path), tmp_path / "home")


def reformatted(folder: Path) -> None:
    edit(folder / "tokenizer.json", lambda content: None)


def joined_merges(folder: Path) -> None:
    def join(content: Any) -> None:
        pairs = content["model"]["merges"]
        content["model"]["merges"] = [p if isinstance(p, str) else " ".join(p) for p in pairs]

    edit(folder / "tokenizer.json", join)


@pytest.mark.parametrize("change", [reformatted, joined_merges, split_files, added_token])
def test_the_same_tokens_in_other_files_are_the_same(
    student: Path, tokens: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    change(student)
    inspect(look(student, tokens, tmp_path), tmp_path / "home")


def test_a_trained_tokenizer_is_compared_once_it_is_there(student: Path, tmp_path: Path) -> None:
    swapped_tokens(student)
    asked = request(tmp_path, student=ModelSource(model=str(student)))
    inspect(asked, tmp_path / "home")  # the tokenizer is not trained yet
    message = r"student.model: .*another tokenizer than the sweep's: token 100"
    with pytest.raises(ValueError, match=message):
        prepare(asked, tmp_path / "home")
    with pytest.raises(ValueError, match=message):
        inspect(asked, tmp_path / "home")


def test_a_damaged_tokenizer_is_named(student: Path, tokens: Path, tmp_path: Path) -> None:
    (student / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"student: its tokenizer must be one that transformers"):
        inspect(look(student, tokens, tmp_path), tmp_path / "home")
