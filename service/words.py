"""Numbers and hyperparameters in words, as tables and lines show them. Pure."""

import re
from collections.abc import Mapping
from typing import Any

GIB = 1024**3
MIB = 1024**2
LEAST_PROBABILITY = 0.0001
# What stands for a sweep in commands: the newest, and every one.
LATEST = "latest"
EVERY_SWEEP = "all"
RESERVED = (LATEST, EVERY_SWEEP)


def describe(hyperparameters: Mapping[str, Any]) -> str:
    """Returns e.g. `forward_kl policy=cist rho=2.1`: the divergence first, then the policy, then
    the others by name."""
    rest = {name: value for name, value in hyperparameters.items() if value is not None}
    divergence = rest.pop("divergence", None)
    words = [] if divergence is None else [str(divergence)]
    named = sorted(rest.items(), key=lambda item: (item[0] != "policy", item[0]))
    words += [f"{name}={number(value)}" for name, value in named]
    return " ".join(words) or "defaults"


def name_of(label: str | None, hyperparameters: Mapping[str, Any]) -> str:
    """Returns what a trial is called in lines: a control's label, with its seed where it has one of
    its own, else its hyperparameters."""
    if label is None:
        return describe(hyperparameters)
    seed = hyperparameters.get("seed")
    return label if seed is None else f"{label} seed={seed}"


def in_short(hyperparameters: Mapping[str, Any], longest: int = 60) -> str:
    """Returns e.g. `forward_kl fixed tau=2.1`, of `longest` characters at most: the divergence
    first, then other names, then numbers with what they are."""
    rest = {name: value for name, value in hyperparameters.items() if value is not None}
    names = [rest.pop("divergence", None), *(v for v in rest.values() if isinstance(v, str))]
    words = [str(one) for one in names if one is not None]
    words += [f"{k}={number(v)}" for k, v in sorted(rest.items()) if not isinstance(v, str)]
    return shortened(" ".join(words) or "defaults", longest)


def shortened(text: str, longest: int) -> str:
    """Returns the text, cut where it is longer."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def number(value: Any) -> str:
    """Returns a value for people: a real number with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def probability(value: float) -> str:
    """Returns e.g. `0.031`, or `< 0.0001`."""
    return f"{value:.2g}" if value >= LEAST_PROBABILITY else f"< {LEAST_PROBABILITY:g}"


def duration(seconds: float) -> str:
    """Returns e.g. `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: float) -> str:
    """Returns e.g. `14 KiB`, `120 MiB` or `3.2 GiB`."""
    if num_bytes < MIB:
        return f"{num_bytes / 1024:.0f} KiB"
    return f"{num_bytes / GIB:.1f} GiB" if num_bytes >= GIB else f"{num_bytes / MIB:.0f} MiB"


def count(value: float) -> str:
    """Returns e.g. `950`, `12,000`, `3.2 million`."""
    return f"{value / 1e6:.1f} million" if value >= 1e6 else f"{value:,.0f}"


def brief(text: str) -> str:
    """Returns one line of a text that may hold a traceback: what it begins with, and its last."""
    lines = text.strip().splitlines() or [""]
    if len(lines) == 1:
        return lines[0]
    return f"{lines[0].partition('File ')[0].rstrip(': ')}: {lines[-1].strip()}".lstrip(": ")


# What a terminal would obey instead of showing it, and what turns the reading direction of a line.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Returns the text with a `?` for each control character but line ends and tabs."""
    return _CONTROL.sub("?", text)
