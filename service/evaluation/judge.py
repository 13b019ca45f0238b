"""What a judge is asked of two answers to a prompt, in both orders, and what comes of its verdicts.
A judge that prefers what it reads first changes its mind with the order: that is a tie. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

FIRST, SECOND, TIE, UNREADABLE = "first", "second", "tie", "unreadable"
PROMPT = """Two assistants answered the same request. Say which answer is better: more helpful, more
correct, and as long as it has to be. The order in which they are shown says nothing.

[Request]
{prompt}

[Answer A]
{a}

[Answer B]
{b}

End with one line: [[A]] if A is better, [[B]] if B is better, [[C]] if neither is."""
_VERDICT = re.compile(r"\[\[([ABC])\]\]")
_SLOTS = re.compile(r"\{(prompt|a|b)\}")


@dataclass(frozen=True)
class Judgement:
    """A prompt with two answers: what the judge wrote in each order, whose answer it took each time
    (`FIRST` is the first trial's, wherever it was shown), and what comes of both."""

    prompt: str
    first: str
    second: str
    texts: tuple[str, str]
    verdicts: tuple[str, str]

    @property
    def outcome(self) -> str:
        """`FIRST` or `SECOND` where both orders say so, else a tie; unreadable where one is."""
        if UNREADABLE in self.verdicts:
            return UNREADABLE
        one, other = self.verdicts
        return one if one == other else TIE


def asked(prompt: str, first: str, second: str) -> tuple[str, str]:
    """Returns what a judge is asked of two answers, in both orders."""
    return _shown(prompt, first, second), _shown(prompt, second, first)


def judgement(prompt: str, first: str, second: str, texts: tuple[str, str]) -> Judgement:
    """Returns what comes of the judge's `texts`, its answers to what `asked` returned."""
    verdicts = (verdict(texts[0], (FIRST, SECOND)), verdict(texts[1], (SECOND, FIRST)))
    return Judgement(prompt, first, second, texts, verdicts)


def verdict(text: str, shown: tuple[str, str]) -> str:
    """Returns which of `shown` (as A, as B) the judge took: the last verdict that it wrote."""
    found = _VERDICT.findall(text)
    return {"A": shown[0], "B": shown[1], "C": TIE}[found[-1]] if found else UNREADABLE


def summary(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Returns shares in percent: `win_rate` (ties count half), `wins`, `ties`, `losses` of those
    that can be read, `first_shown` (how often the judge took what it read first, of all that it did
    not call a tie: 50 without a bias), and `unreadable` of all."""
    readable = [one for one in judgements if one.outcome != UNREADABLE]
    wins, ties, losses = (
        _share(sum(one.outcome == outcome for one in readable), len(readable))
        for outcome in (FIRST, TIE, SECOND)
    )
    orders = [
        one.verdicts[i] == shown
        for one in readable
        for i, shown in enumerate((FIRST, SECOND))
        if one.verdicts[i] != TIE
    ]
    return {
        "win_rate": wins + ties / 2,
        "wins": wins,
        "ties": ties,
        "losses": losses,
        "first_shown": _share(sum(orders), len(orders)) if orders else 50.0,
        "unreadable": _share(len(judgements) - len(readable), len(judgements)),
    }


def document(judge: Mapping[str, str], judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Returns what is kept of it: the judge as it describes itself, its prompt, and each answer and
    verdict."""
    rows: list[Mapping[str, Any]] = [asdict(one) | {"outcome": one.outcome} for one in judgements]
    return {**judge, "template": PROMPT, "judgements": rows}


def _shown(prompt: str, a: str, b: str) -> str:
    # in one pass: an answer may hold braces, or the name of another slot
    return _SLOTS.sub(lambda found: {"prompt": prompt, "a": a, "b": b}[found[1]], PROMPT)


def _share(count: int, of: int) -> float:
    return 100.0 * count / max(of, 1)
