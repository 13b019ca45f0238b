"""Who judges: a model behind an OpenAI-compatible address, or one that is loaded in this process.
Both answer prompts greedily, and are asked the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from service.errors import PlanError, SpecError
from trainers.files.urls import without_secrets

if TYPE_CHECKING:
    from trainers.evaluating.chat_model import ChatModel

KEY_VARIABLE = "KD_SWEEP_JUDGE_KEY"
TIMEOUT_S = 120.0
ROLE = "judge"


class Judge(Protocol):
    """A language model that answers prompts. All of it raises `PlanError` where it cannot."""

    def check(self, prompts: Sequence[str]) -> None:
        """Raises where something is known to keep it from answering these."""

    def ask(self, prompts: Sequence[str]) -> list[str]:
        """Returns its answers, in the order of the prompts."""

    def describe(self) -> dict[str, str]:
        """Returns what is recorded of it; `judge` is its name."""


@dataclass(frozen=True)
class ModelAt:
    """A model behind an OpenAI-compatible address (`http://host:8000/v1`); the key is shown and
    recorded nowhere."""

    address: str
    model: str
    key: str | None = field(default=None, repr=False)

    def check(self, prompts: Sequence[str]) -> None:
        """Raises where nothing answers at the address: what suits it, only it knows."""
        import requests

        try:
            requests.get(self._url("models"), headers=self._headers, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise self._refused(error) from None

    def ask(self, prompts: Sequence[str]) -> list[str]:
        """Returns what the model answers, one prompt after another."""
        return [self._answer(prompt) for prompt in prompts]

    def describe(self) -> dict[str, str]:
        """Returns the model's name and where it is asked."""
        return {"judge": self.model, "address": without_secrets(self.address)}

    def _answer(self, prompt: str) -> str:
        import requests

        messages = [{"role": "user", "content": prompt}]
        document = {"model": self.model, "messages": messages, "temperature": 0}
        url = self._url("chat/completions")
        try:
            answer = requests.post(url, json=document, headers=self._headers, timeout=TIMEOUT_S)
            answer.raise_for_status()
            return str(answer.json()["choices"][0]["message"]["content"])
        except (requests.RequestException, ValueError, LookupError, TypeError) as error:
            raise self._refused(error) from None

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def _url(self, path: str) -> str:
        return f"{self.address.rstrip('/')}/{path}"

    def _refused(self, error: Exception) -> PlanError:
        return PlanError(
            f"--judge: {without_secrets(self.address)} must answer as OpenAI's chat/completions, "
            f"but got: {without_secrets(str(error))}. A key it needs is read from {KEY_VARIABLE}."
        )


@dataclass(frozen=True)
class ModelHere:
    """A model of transformers, by its folder or its name on the Hugging Face hub, that this process
    loads when it is asked first."""

    name: str

    def check(self, prompts: Sequence[str]) -> None:
        """Raises for a folder that is no model, and for prompts longer than its context."""
        try:
            self._model.check(prompts)
        except ValueError as error:
            raise _refused(error) from error

    def ask(self, prompts: Sequence[str]) -> list[str]:
        """Returns what the model answers, a batch of prompts after another."""
        try:
            return self._model.answer(prompts)
        except ValueError as error:
            raise _refused(error) from error

    def describe(self) -> dict[str, str]:
        """Returns the model's name, the folder that was loaded, and how it was prompted."""
        form = "chat template" if self._model.has_template else "plain text"
        return {"judge": self.name, "folder": str(self._model.folder), "prompted_by": form}

    @cached_property
    def _model(self) -> "ChatModel":
        from trainers.evaluating.chat_model import ChatModel

        try:
            return ChatModel.named(self.name, ROLE)
        except ValueError as error:
            raise ValueError(f"{error} An address begins with http:// or https://.") from error


def judge_named(place: str, model: str | None, key: str | None) -> Judge:
    """Returns the judge that a user means: an address, whose `model` is asked with `key`, or a
    model here. Raises `SpecError` for no name, and for a model of what is no address."""
    if not place.strip():
        raise SpecError(
            "--judge: must be a model's folder or hub name, or an address (http://… or https://…), "
            "but got nothing. Name one."
        )
    if place.startswith(("http://", "https://")):
        return ModelAt(place, model or "default", key)
    if model is not None:
        raise SpecError(
            "--judge-model: names a model behind an address (http://… or https://…), but --judge "
            f"is '{place}'. Leave it out, or give the address."
        )
    return ModelHere(place)


def _refused(error: ValueError) -> PlanError:
    return PlanError(f"--judge: {str(error).removeprefix(f'{ROLE}.model: ')}")
