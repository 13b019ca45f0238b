"""Builds transformers models from configs as sweeps write them, on the meta device: shapes without
numbers. Whatever is wrong with a config is said with its field."""

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import CONFIG_MAPPING

from trainers.nearest import nearest

# What any config.json says beside the model.
ALWAYS = ("_name_or_path", "auto_map", "_commit_hash")

# What every config has by these names or by its own, and what must be there of each.
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)


def names_of(model_type: str) -> set[str]:
    """Returns the keys that a config of that type has."""
    kind = CONFIG_MAPPING[model_type]
    return set(kind().to_dict()) | set(kind.attribute_map)


@dataclass(frozen=True)
class ConfigBuild:
    """One config and what is made of it. given: its keys, `model_type` in them; role: teacher or
    student, for errors; auto: transformers' class that makes the model; never_wrong: keys that the
    user did not write."""

    given: Mapping[str, Any]
    role: str
    auto: Any
    never_wrong: Collection[str] = ()

    def model(self, check: Callable[[Any], None] = lambda config: None) -> Any:
        """Returns the model; `check` may refuse its config before it is built. Raises `ValueError`
        naming the key that is wrong."""
        self._check_keys()
        config = self._attempt(lambda: _config(self.given))
        check(config)
        return self._attempt(lambda: self._on_meta(config))

    def _on_meta(self, config: Any) -> Any:
        with torch.device("meta"):
            return self.auto.from_config(config)

    def _check_keys(self) -> None:
        model_type, names = self.given["model_type"], names_of(self.given["model_type"])
        unknown = [name for name in sorted(set(self.given) - names) if not self._is_heeded(name)]
        if unknown:
            listed = ", ".join(f"'{name}'" for name in unknown)
            raise ValueError(
                f"{self.role}.config: every key must be one that transformers heeds in a "
                f"{model_type}, but got {listed}.{nearest(unknown[0], sorted(names))} Correct or "
                "remove what has no effect."
            )

    def _is_heeded(self, name: str) -> bool:
        """Whether transformers makes something of a key that its config does not have, such as an
        earlier version's name: what it knows nothing of it keeps as it is, and nothing else
        changes."""
        if name in ALWAYS:
            return True
        try:
            found, without = _config(self.given).to_dict(), _config(self._less(name)).to_dict()
        except Exception:  # what raises is for the build to say, which names the field
            return True
        return name not in found or {**without, name: found[name]} != found

    def _attempt(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Exception as error:  # configs and models raise what they like for a wrong value
            raise ValueError(f"{self.role}.config{self._culprit(error)}") from error

    def _culprit(self, error: Exception) -> str:
        """Says which key a failed build is about: the one without which there is none."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        problem = f"{type(error).__name__}: {' '.join(lines)[:200]}"
        kind = self.given["model_type"]
        for name, value in self.given.items():
            may_be_wrong = name != "model_type" and name not in self.never_wrong
            if may_be_wrong and self._makes_a_model(self._less(name)):
                return f".{name}: it must fit {kind}, but got {value!r:.80} ({problem})."
        return f": it must make a {kind}, but got {problem}."

    def _makes_a_model(self, given: Mapping[str, Any]) -> bool:
        try:
            self._on_meta(_config(given))
        except Exception:  # they raise what they like, and any error is the answer
            return False
        return True

    def _less(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in self.given.items() if key != name}


def check_sizes(config: Any, given: Mapping[str, Any], role: str) -> None:
    """Raises `ValueError` naming the size in a config that is none, where a model is built of it
    all the same: a number of layers below zero makes no layers."""
    text = config.get_text_config()
    for name in SIZES:
        size = getattr(text, name, None)
        if isinstance(size, int) and size < 1:
            written = name if name in given else text.attribute_map.get(name, name)
            raise ValueError(f"{role}.config.{written}: it must be at least 1, but got {size}.")


def _config(given: Mapping[str, Any]) -> Any:
    # copied, since transformers completes what it is given
    values = {name: deepcopy(value) for name, value in given.items() if name != "model_type"}
    return CONFIG_MAPPING[given["model_type"]](**values)
