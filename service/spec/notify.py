"""Who is told of a sweep: the document's section `notify`. It names variables and a program alone,
since all of the document is recorded and an address to notify is as good as a password."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from trainers.trial.kinds import Name
from trainers.trial.strict import Strict

PREFIX = "env:"
_VARIABLE = re.compile(PREFIX + r"[A-Za-z_][A-Za-z0-9_]*")


def _variable(text: str) -> str:
    if _VARIABLE.fullmatch(text) is None:
        # What came is not repeated: it may well be the address itself.
        raise ValueError(
            "must be env:NAME, since it is recorded with the plan, but got another text. Set the "
            "variable NAME to the apprise URL where the sweep runs: export "
            "SLACK_URL=slack://…, and write env:SLACK_URL"
        )
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Variable = Annotated[str, AfterValidator(_variable)]


class Notify(Strict):
    """Who is told when a sweep ends, fails, or finds a new best."""

    urls: Annotated[tuple[Variable, ...], BeforeValidator(_as_list)] = Field(
        default=(),
        description="env:NAME each: variables that hold apprise URLs, where the driver runs",
    )
    command: Name | None = Field(
        default=None,
        description="a program that gets what there is to tell as JSON and in its environment",
    )

    def variables(self) -> dict[str, str]:
        """Returns, for each of `urls`, the environment variable that it names."""
        return {name: name.removeprefix(PREFIX) for name in self.urls}

    def names(self) -> list[str]:
        """Returns what is told, in words."""
        return [*self.urls, *([self.command] if self.command else [])]


def as_section(value: Any) -> Any:
    """The variables may be written without their name."""
    return {"urls": value} if isinstance(value, str | list | tuple) else value
