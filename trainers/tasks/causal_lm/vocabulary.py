"""What a tokenizer's ids mean, read from its files, and whether models fit them; no torch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainers.tasks.causal_lm.tokenizer_files import VOCABULARY_FILES, brings_code, load

SPECIAL_TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True)
class Vocabulary:
    """The entries of a tokenizer: token by id, the added ones among them. `rules`: what decides how
    text is cut into tokens, in order (merges of BPE, scores of Unigram); None where no file says
    it."""

    tokens: Mapping[int, str]
    rules: tuple[str, ...] | None

    @property
    def num_entries(self) -> int:
        """How many rows a model needs: the largest id and one. Not the number of tokens, since some
        tokenizers leave ids out."""
        return max(self.tokens, default=-1) + 1


def num_entries(tokenizer: Any) -> int:
    """Returns the entries of a loaded tokenizer, as `Vocabulary.num_entries` counts them."""
    return int(max(tokenizer.get_vocab().values())) + 1


def check_rows(rows: Mapping[str, int | None], num_entries: int | None) -> None:
    """Raises `ValueError` unless each model (rows of its output matrix, by role) has a row for each
    of the tokenizer's entries. Rows beyond them are padding, however many. None is not known yet
    and passes."""
    for role, count in rows.items():
        if count is not None and num_entries is not None and count < num_entries:
            raise ValueError(
                f"{role}: its output matrix must have a row for each of the tokenizer's "
                f"{num_entries} entries, but got {count} rows. Take a model of the tokenizer's "
                "family, or leave vocab_size out of a config."
            )


def check_same_tokens(place: str, theirs: Vocabulary, ours: Vocabulary) -> None:
    """Raises `ValueError` when an id means one token in the tokenizer beside a model (`theirs`; the
    model's folder is `place`) and another one in the sweep's (`ours`), or text is cut differently.
    Ids that only one of them has are no difference: they are rows of padding for the other."""
    problem = _difference(theirs, ours)
    if problem is not None:
        raise ValueError(
            f"{place} was trained with another tokenizer than the sweep's: {problem}. Teacher and "
            "student must share one. Take a model of the same family; if the ids do mean the same, "
            "delete the tokenizer's files from that folder."
        )


def read_vocabulary(folder: Path, *, trust: bool = False) -> Vocabulary:
    """Returns the vocabulary of the tokenizer in `folder`, as transformers numbers it; code that it
    brings along runs only when `trust`. Raises `ValueError` when there is none that can be read."""
    names = (*VOCABULARY_FILES, "*.json", "*.py")
    files = sorted({path for pattern in names for path in folder.glob(pattern)})
    return _read(
        folder, tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files), trust
    )


@lru_cache(maxsize=4)
def _read(folder: Path, state: tuple[tuple[str, int, int], ...], trust: bool) -> Vocabulary:
    """`state` names the files' versions, so that a changed file is read again."""
    try:
        if (folder / "tokenizer.json").is_file():
            return _of_tokenizer_json(folder)
        if (folder / "vocab.json").is_file() and not brings_code(folder):
            return _of_vocab_json(folder)
    except Exception as error:  # whatever a damaged file or the loading library raises
        raise ValueError(
            f"{folder}: its tokenizer must be one that transformers reads, but got "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    return _of_loaded(folder, trust)


def _of_tokenizer_json(folder: Path) -> Vocabulary:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = content["model"]
    vocab, rules = model["vocab"], model.get("merges")
    if isinstance(vocab, list):  # Unigram: the id is the place in a list of [token, score]
        tokens, rules = dict(enumerate(token for token, _ in vocab)), [s for _, s in vocab]
    else:
        tokens = {number: token for token, number in vocab.items()}
    added = [token["content"] for token in content.get("added_tokens") or ()]
    return _completed(folder, tokens, added, rules)


def _of_vocab_json(folder: Path) -> Vocabulary:
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    merges = folder / "merges.txt"
    rules = None
    if merges.is_file():
        lines = merges.read_text(encoding="utf-8").split("\n")
        rules = [line for line in lines if line and not line.startswith("#version")]
    return _completed(folder, {number: token for token, number in vocab.items()}, [], rules)


def _of_loaded(folder: Path, trust: bool) -> Vocabulary:
    """For forms that only the libraries read (SentencePiece, tiktoken)."""
    loaded = load(folder, "tokenizer", trust=trust)
    return Vocabulary({number: token for token, number in loaded.get_vocab().items()}, None)


def _completed(
    folder: Path, tokens: dict[int, str], added: list[str], rules: Iterable[Any] | None
) -> Vocabulary:
    """The entries of a tokenizer's model with the `added` ones and those that stand beside it."""
    described = _json(folder, "tokenizer_config.json")
    decoder = described.get("added_tokens_decoder") or {}
    by_id = {int(number): _content(token) for number, token in decoder.items()}
    by_id |= {number: token for token, number in _json(folder, "added_tokens.json").items()}
    special = _special_tokens(_json(folder, "special_tokens_map.json") | described)
    numbered = [by_id[number] for number in sorted(by_id)]
    merged = None if rules is None else tuple(" ".join(map(str, _listed(r))) for r in rules)
    return Vocabulary(_extended(tokens, [*added, *numbered, *special]), merged)


def _extended(tokens: dict[int, str], added: Iterable[str]) -> dict[int, str]:
    """`tokens` of a model and those `added` that it does not have, numbered as the library does it:
    one after another behind as many as the model has, whatever ids the files give them."""
    extended, known, following = dict(tokens), set(tokens.values()), len(tokens)
    for token in added:
        if token not in known:
            known.add(token)
            extended[following] = token
            following += 1
    return extended


def _special_tokens(described: Mapping[str, Any]) -> list[str]:
    named = [described.get(f"{name}_token") for name in SPECIAL_TOKENS]
    for name in ("additional_special_tokens", "extra_special_tokens"):
        more = described.get(name) or ()
        named += more.values() if isinstance(more, dict) else more
    return [_content(token) for token in named if token]


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _listed(rule: Any) -> Any:
    """A merge is written as one text or as a pair; a score is a number."""
    return rule if isinstance(rule, list) else [rule]


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content


def _difference(theirs: Vocabulary, ours: Vocabulary) -> str | None:
    for number in sorted(theirs.tokens.keys() & ours.tokens.keys()):
        its, sweeps = theirs.tokens[number], ours.tokens[number]
        if its != sweeps:
            return f"token {number} is {its!r} there and {sweeps!r} here"
    if theirs.rules is not None and ours.rules is not None and theirs.rules != ours.rules:
        return "the same tokens are made by other merges or scores"
    return None
