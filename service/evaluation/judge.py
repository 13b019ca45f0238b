"""What a judge is asked of two answers to a prompt, in both orders, and what comes of its verdicts.
A judge that prefers what it reads first changes its mind with the order: that is a tie. Pure."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
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


def summary(judgements: Sequence[Sequence[Judgement]]) -> dict[str, float]:
    """Returns shares in percent of the judgements of each prompt, one for each generation seed.
    `win_rate` (ties count half), `wins`, `ties` and `losses` are means over prompts of what those
    of one prompt that can be read come to, and `win_rate_error` is the standard error of such a
    mean, where two prompts or more have any; `first_shown` (how often the judge took what it read
    first, of all that it did not call a tie: 50 without a bias) and `unreadable` are of all."""
    of_all = [one for of_prompt in judgements for one in of_prompt]
    readable = [
        found
        for of_prompt in judgements
        if (found := [one.outcome for one in of_prompt if one.outcome != UNREADABLE])
    ]
    wins, ties, losses = (
        [_share(found.count(outcome), len(found)) for found in readable]
        for outcome in (FIRST, TIE, SECOND)
    )
    rates = [won + tied / 2 for won, tied in zip(wins, ties, strict=True)]
    orders = [
        one.verdicts[i] == shown
        for one in of_all
        if one.outcome != UNREADABLE
        for i, shown in enumerate((FIRST, SECOND))
        if one.verdicts[i] != TIE
    ]
    error = {"win_rate_error": stdev(rates) / math.sqrt(len(rates))} if len(rates) > 1 else {}
    unreadable = sum(one.outcome == UNREADABLE for one in of_all)
    return {
        "win_rate": _mean(rates),
        **error,
        "wins": _mean(wins),
        "ties": _mean(ties),
        "losses": _mean(losses),
        "first_shown": _share(sum(orders), len(orders)) if orders else 50.0,
        "unreadable": _share(unreadable, len(of_all)),
    }


def document(judge: Mapping[str, str], judgements: Sequence[Sequence[Judgement]]) -> dict[str, Any]:
    """Returns what is kept of it: the judge as it describes itself, its prompt, and each answer and
    verdict, prompt by prompt (`example`, from 0) in the order of the generation seeds."""
    rows = [
        {"example": number, **asdict(one), "outcome": one.outcome}
        for number, of_prompt in enumerate(judgements)
        for one in of_prompt
    ]
    return {**judge, "template": PROMPT, "judgements": rows}


def _shown(prompt: str, a: str, b: str) -> str:
    # in one pass: an answer may hold braces, or the name of another slot
    return _SLOTS.sub(lambda found: {"prompt": prompt, "a": a, "b": b}[found[1]], PROMPT)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def _share(count: int, of: int) -> float:
    return 100.0 * count / max(of, 1)
