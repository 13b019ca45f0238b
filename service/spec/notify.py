"""Who is told of a sweep: the document's section `notify`. It names variables and a program, since
all of the document is recorded and most addresses to notify are as good as a password; and those
addresses that cannot hold one."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from trainers.trial.kinds import Name
from trainers.trial.strict import Strict

PREFIX = "env:"
_VARIABLE = re.compile(PREFIX + r"[A-Za-z_][A-Za-z0-9_]*")
# Of kinds that say no more than a machine, and for a mail between whom. Of most others the host is
# a token already, and a path may be one.
_HOST = r"[\w.\-]+(:\d+)?/?"
_OPTION = r"(to|from|name)=[^&\s]*"
_OPEN = re.compile(
    rf"((json|xml|form)s?|rsyslog)://{_HOST}|syslog://|mailtos?://{_HOST}(\?{_OPTION}(&{_OPTION})*)?"
)


def _address(text: str) -> str:
    if _VARIABLE.fullmatch(text) is None and _OPEN.fullmatch(text) is None:
        # What came is not repeated: it may well be the address itself.
        raise ValueError(
            "must be env:NAME, since it is recorded with the plan, or an address that cannot hold "
            "a secret, such as json://host:8080 or mailto://host?from=a@b.org&to=c@d.org, but got "
            "another text. Set the variable NAME to the apprise URL where the sweep runs: export "
            "SLACK_URL=slack://…, and write env:SLACK_URL"
        )
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Address = Annotated[str, AfterValidator(_address)]


class Notify(Strict):
    """Who is told when a sweep ends, fails, or finds a new best."""

    urls: Annotated[tuple[Address, ...], BeforeValidator(_as_list)] = Field(
        default=(),
        description="env:NAME each: variables that hold apprise URLs, where the driver runs; or "
        "apprise URLs of a host alone",
    )
    command: Name | None = Field(
        default=None,
        description="a program that gets what there is to tell as JSON and in its environment",
    )

    def addresses(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Returns the apprise URLs that each of `urls` stands for; none for a variable that is not
        set."""
        return {
            name: environment.get(name.removeprefix(PREFIX), "")
            if name.startswith(PREFIX)
            else name
            for name in self.urls
        }

    def names(self) -> list[str]:
        """Returns what is told, in words."""
        return [*self.urls, *([self.command] if self.command else [])]


def as_section(value: Any) -> Any:
    """The addresses may be written without their name."""
    return {"urls": value} if isinstance(value, str | list | tuple) else value
