"""Where the prepared things of a request lie: folders named by what decides their content; no
torch."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from trainers.files import fingerprints
from trainers.preparing import locate
from trainers.tasks.causal_lm import records
from trainers.trial.sources import ModelSource, PrepareRequest

# Raise it when tokenised data, tokenizers or fitted models come out differently for the same
# request.
FORMAT = 4
SHORT = 20


class Keys:
    """The folders of one request under `home/prepared`."""

    def __init__(self, request: PrepareRequest, home: Path):
        """Reads the data files' bytes lazily, to hash them."""
        self._request = request
        self._root = home / "prepared"

    @cached_property
    def text(self) -> dict[str, Any]:
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
        folder = locate.tokenizer_folder(self._request)
        if folder is None:
            source = self._request.tokenizer
            return {"train": source and source.model_dump(), "text": self.text}
        return {"files": fingerprints.of_tokenizer(folder)}

    @property
    def tokenizer_folder(self) -> Path:
        """Where a trained tokenizer lies."""
        return self._folder("tokenizers", self.tokenizer)

    @property
    def _data(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "tokenizer": self.tokenizer,
            "lengths": [self._request.max_prompt_tokens, self._request.max_tokens],
        }

    @property
    def data_folder(self) -> Path:
        """Where the tokenised data lies."""
        return self._folder("data", self._data)

    def model_folder(self, source: ModelSource, role: str) -> Path:
        """Where a teacher or student lies that is made from a config or fitted."""
        document: dict[str, Any] = {
            "config": source.config,
            "init_seed": source.init_seed,
            "tokenizer": self.tokenizer,
        }
        if source.model is not None:
            document["model"] = fingerprints.of_model(locate.model_folder(source, role))
        if source.fit is not None:
            document |= {"fit": source.fit.model_dump(), "data": self._data}
        return self._folder(f"{role}s", document)

    def metrics_folder(self, found: Mapping[str, str]) -> Path:
        """Where the metrics of teacher and students' start lie, by the fingerprints of what is
        scored."""
        return self._folder("metrics", dict(found))

    def _folder(self, kind: str, document: Mapping[str, Any]) -> Path:
        key = fingerprints.of_document({"format": FORMAT, **document})
        return self._root / kind / key[:SHORT]
