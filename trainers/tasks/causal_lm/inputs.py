"""What decides a language model's inputs, and what is known of them before they are prepared; no
torch."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from trainers.files import fingerprints
from trainers.files.keyed import keyed_folder
from trainers.parts import SPLIT_NAMES
from trainers.tasks import locate
from trainers.tasks.causal_lm import records, templates, tokenizer
from trainers.tasks.causal_lm.facts import TOKENIZER_FOLDER, read_prepared
from trainers.tasks.causal_lm.record import Record
from trainers.tasks.causal_lm.tokenizer_files import brings_code, has_vocabulary, load, load_quickly
from trainers.tasks.causal_lm.vocabulary import (
    check_rows,
    check_same_tokens,
    read_vocabulary,
)
from trainers.tasks.described import described
from trainers.trial.facts import Facts, ModelFacts, PreparedFacts
from trainers.trial.sources import ROLES, ModelSource, PrepareRequest, Role
from trainers.trial.subset import Subset

# A guess for English; the exact number is known once the data was tokenised.
CHARACTERS_PER_TOKEN = 3.5
Describe = Callable[[Mapping[str, Any], str, int | None], ModelFacts]
NUM_TRIED = 4  # records of a split that a plan encodes


class TextKeys:
    """What decides records, tokenizer and tokenised data. See `trainers.parts.InputKeys`."""

    def __init__(self, request: PrepareRequest):
        self._request = request

    @cached_property
    def records(self) -> dict[str, Any]:
        """What decides the records of both splits."""
        data = self._request.data
        return {
            "train": records.fingerprint(data, "train"),
            "validation": records.fingerprint(data, "validation"),
            "source": data.model_dump(exclude={"train", "validation"}),
        }

    @cached_property
    def tokenizer(self) -> dict[str, Any]:
        """What decides the tokenizer."""
        folder = tokenizer.find(self._request)
        if folder is None:
            source = self._request.tokenizer
            return {"train": source and source.model_dump(), "text": self.records}
        # with its own code it may make other tokens of the same files
        own = {"code": self._request.trusts("tokenizer")} if brings_code(folder) else {}
        return {"files": fingerprints.of_tokenizer(folder), **own}

    @property
    def data(self) -> dict[str, Any]:
        """What decides the tokenised data."""
        return {
            "text": self.records,
            "tokenizer": self.tokenizer,
            "lengths": [self._request.max_prompt_tokens, self._request.max_tokens],
            **self._turns,
        }

    @property
    def _turns(self) -> dict[str, Any]:
        """How turns are found in conversations: earlier versions learned other tokens of some, and
        did not note what ends them."""
        return (
            {"turns": "by character", "ends": "noted"}
            if self._request.data.template == "chat"
            else {}
        )

    @property
    def model(self) -> dict[str, Any]:
        """What decides a model made from a config: the tokenizer gives it its vocabulary."""
        return {"tokenizer": self.tokenizer}

    def tokenizer_folder(self, home: Path) -> Path:
        """Returns where a trained tokenizer is stored."""
        return keyed_folder(home, "tokenizers", self.tokenizer)


def inspect(
    request: PrepareRequest,
    configs: Mapping[str, Mapping[str, Any]],
    *,
    data: Path,
    home: Path,
) -> Facts:
    """See `trainers.parts.Task.inspect`."""
    found = {"tokenizer": _describe_tokenizer(request)}
    prepared = read_prepared(data) if data.is_dir() else None
    tokens = _tokenizer_folder(request, home)
    if tokens is not None and brings_code(tokens):  # transformers may have a class of its own
        load(tokens, "tokenizer", trust=request.trusts("tokenizer"))
    vocab_size = _vocab_size(request, prepared, tokens)
    check_vocabulary(request, configs, vocab_size, tokens)
    for role in ROLES:
        locate.check_code(request.source(role), role, configs[role])
        before = request.soft_prompt_tokens if role == "teacher" else 0
        _check_length(request.max_tokens, before, role, configs[role])
    place = ", ".join(_describe_split(request, name) for name in SPLIT_NAMES)
    # Records are checked whenever they are planned with, also where their data was prepared: an
    # earlier version may have taken what is refused now.
    rows = {name: _read(request, name, home) for name in SPLIT_NAMES}
    _try_template(request, [one for found in rows.values() for one in found[:NUM_TRIED]], tokens)
    train, validation = (_estimate(rows[name]) for name in SPLIT_NAMES)
    # Of records some may be dropped: their number is the largest that there can be of examples.
    check_subset(request, train[0] if prepared is None else prepared.num_train_examples)
    if prepared is not None:
        return Facts(
            num_train_examples=prepared.num_train_examples,
            num_train_tokens=prepared.num_train_learned,
            num_validation_examples=prepared.num_validation_examples,
            vocab_size=vocab_size,
            found=found | {"data": f"{place} (ready in {data})"},
        )
    return Facts(
        num_train_examples=train[0],
        num_train_tokens=train[1],
        num_validation_examples=validation[0],
        vocab_size=vocab_size,
        found=found | {"data": place},
    )


def _describe_split(request: PrepareRequest, split_name: str) -> str:
    place = records.place_of(request.data, split_name)
    is_on_hub = records.is_on_hub(request.data, split_name)
    return f"{place} (no file here: to be loaded from the hub)" if is_on_hub else place


def _describe_tokenizer(request: PrepareRequest) -> str:
    folder = tokenizer.find(request)
    if request.tokenizer is None:
        return f"the teacher's ({folder})"
    if request.tokenizer.train is not None:
        return f"trained on the data, {request.tokenizer.train.vocab_size} entries"
    return f"{request.tokenizer.model} ({folder})"


def described_model(
    request: PrepareRequest, role: Role, home: Path, describer: Callable[[], Describe]
) -> ModelFacts:
    """See `trainers.parts.Task.describe_model`. `describer` loads torch, so it is called only for a
    config that was not described before."""
    config = request.source(role).config
    assert config is not None
    entries = _vocab_size(request, None, _tokenizer_folder(request, home))
    asked = {"config": config, "entries": entries}
    return described(asked, home, lambda: describer()(config, role, entries))


def check_prepared(request: PrepareRequest, data: Path) -> None:
    """See `trainers.parts.Task.check_models`."""
    sources = {"teacher": request.teacher, "student": request.student}
    configs = {role: _config(source, role) for role, source in sources.items()}
    prepared = read_prepared(data)
    check_vocabulary(request, configs, prepared.num_classes, data / TOKENIZER_FOLDER)
    check_subset(request, prepared.num_train_examples)


def check_request(request: PrepareRequest) -> None:
    """Raises `ValueError` for a template that is none, and a seed by which nothing is drawn."""
    templates.check(request.data.template)
    if request.subset_seed and request.student_examples is None:
        raise ValueError(
            "data.subset_seed: it draws the examples of data.student_examples, but got "
            f"{request.subset_seed} without it (max_train_examples takes the first). Leave it out."
        )


def check_subset(request: PrepareRequest, num_examples: int | None) -> None:
    """Raises `ValueError` where trials are to learn from more examples than there are; None passes:
    it is not known yet."""
    subset = Subset.of(request)
    if subset is not None and num_examples is not None:
        subset.check(num_examples)


def check_vocabulary(
    request: PrepareRequest,
    configs: Mapping[str, Mapping[str, Any]],
    vocab_size: int | None,
    tokens: Path | None,
) -> None:
    """Raises `ValueError` unless both models have a row for each of the `vocab_size` entries of the
    tokenizer in the folder `tokens`, and the tokenizers beside them, if any, mean the same by every
    id. What is None is not known yet and passes."""
    rows = {role: _vocab_rows(config) for role, config in configs.items()}
    check_rows(rows, vocab_size)
    if tokens is None:
        return
    for role, source in (("teacher", request.teacher), ("student", request.student)):
        own = _own_tokenizer(source, role)
        if own is not None and own != tokens:
            place = f"{role}.model: {own}"
            theirs = read_vocabulary(own, trust=source.trust_remote_code)
            ours = read_vocabulary(tokens, trust=request.trusts("tokenizer"))
            check_same_tokens(place, theirs, ours)


def _config(source: ModelSource, role: str) -> Mapping[str, Any]:
    if source.config is not None:
        return source.config
    return locate.read_config(locate.whole_folder(source, role, with_weights=False))


def _own_tokenizer(source: ModelSource, role: str) -> Path | None:
    if source.model is None:
        return None
    folder = locate.model_folder(source, role, with_weights=False)
    return folder if has_vocabulary(folder) else None


def _tokenizer_folder(request: PrepareRequest, home: Path) -> Path | None:
    """The folder of the sweep's tokenizer, or None when it is still to be trained."""
    named = tokenizer.find(request)
    if named is not None:
        return named
    trained = TextKeys(request).tokenizer_folder(home)
    return trained if trained.is_dir() else None


def _vocab_size(
    request: PrepareRequest, prepared: PreparedFacts | None, tokens: Path | None
) -> int | None:
    """Entries of the tokenizer."""
    if prepared is not None:
        return prepared.num_classes
    if request.tokenizer is not None and request.tokenizer.train is not None:
        return request.tokenizer.train.vocab_size
    if tokens is None:
        return None
    return read_vocabulary(tokens, trust=request.trusts("tokenizer")).num_entries


def _vocab_rows(config: Mapping[str, Any]) -> int | None:
    """Rows of the output matrix that a config names."""
    return locate.first_of(config, "vocab_size")


def _check_length(max_tokens: int, before: int, role: str, config: Mapping[str, Any]) -> None:
    """before: tokens of a soft prompt, which take positions, too."""
    limit = locate.first_of(config, "max_position_embeddings", "n_positions")
    if limit is not None and max_tokens + before > limit:
        less = f" less the {before} of soft_prompt_tokens" if before else ""
        raise ValueError(
            f"data.max_tokens: it must be at most the {role}'s {limit} positions{less}, "
            f"but got {max_tokens}. Lower it, or take a longer model."
        )


def _read(request: PrepareRequest, split_name: str, home: Path) -> list[Record]:
    """The records of a split; none of a hub data set, which would have to be downloaded."""
    if records.is_on_hub(request.data, split_name):
        return []
    return records.read(request.data, split_name, home)


def _try_template(request: PrepareRequest, rows: list[Record], tokens: Path | None) -> None:
    """Encodes the first records as preparing will, where that can fail and is quick: any text fits
    into any template but a tokenizer's own. Raises `ValueError` as `templates.encode` does."""
    if request.data.template != "chat":
        return
    if request.tokenizer is not None and request.tokenizer.train is not None:
        raise ValueError(
            "data.template: chat needs a tokenizer with a chat template, but one that is trained "
            "on the data has none. Use alpaca, or the tokenizer of a chat model."
        )
    loaded = None if tokens is None else load_quickly(tokens)
    for record in rows if loaded is not None else ():
        templates.encode("chat", record, loaded)


def _estimate(rows: list[Record]) -> tuple[int | None, int | None]:
    """Examples of a split, and about how many response tokens."""
    if not rows:
        return None, None
    characters = sum(len(row.response) for row in rows)
    return len(rows), round(characters / CHARACTERS_PER_TOKEN) + len(rows)
