"""The answer in two sentences: which config, and how surely; then what speaks against it."""

from collections.abc import Sequence

from service.report.page import VERDICTS, Answer, Confidence
from service.report.source import Source
from service.results.findings import (
    AllAgree,
    AtEdge,
    AtFloor,
    Certainty,
    Confirmation,
    FewExamples,
    Finding,
    Front,
    NoResult,
    Outcome,
    SeedsDifferAsMuch,
    StoppedAhead,
    TeacherNoBetter,
    TunedAtEdge,
    Unbalanced,
)
from service.statistics.intervals import ALPHA

AGAINST = (
    Unbalanced,
    AtFloor,
    TeacherNoBetter,
    AllAgree,
    SeedsDifferAsMuch,
    FewExamples,
    AtEdge,
    TunedAtEdge,
    StoppedAhead,
)
# With one of these about an objective the order of configs means little.
DOUBTS = (AtFloor, TeacherNoBetter, AllAgree, SeedsDifferAsMuch, FewExamples)
FRONT = "with two objectives nothing wins: each config on the front is best at its own price"
ALONE = "there is no control to tell the gain from"


def answer(source: Source) -> Answer:
    """Returns the report's answer."""
    findings = source.findings
    found = next((one for one in findings if isinstance(one, Outcome | Front | NoResult)), None)
    against = [one for one in findings if _is_against(one, source)]
    confidence, certainty = _certainty(findings, found, against)
    told = (found, *certainty)
    said = certainty[0].sentence() if certainty else _of_few(found)
    rest = [one for one in findings if not any(one is other for other in told)]
    command = f"kd-sweep best --sweep {source.sweep_id}"
    return Answer(
        found=_found(found, source),
        certainty=_sentence(said.removeprefix(f"{VERDICTS[confidence]}: ")),
        confidence=confidence,
        against=tuple(_sentence(one.sentence()) for one in rest if one in against),
        beside=tuple(_sentence(one.sentence()) for one in rest if one not in against),
        command=command,
    )


def _found(found: Finding | None, source: Source) -> str:
    if found is None or isinstance(found, NoResult):
        waits = "No trial has finished yet" if source.is_running else "There is no result"
        return f"{waits}: no searched trial completed with a finite {source.metric}."
    text = _sentence(found.sentence())
    return f"So far: {text}" if source.is_running else text


def _is_against(finding: Finding, source: Source) -> bool:
    """Whether it speaks against the answer; texts at their floor do where they are the
    objective."""
    if isinstance(finding, AtFloor):
        return finding.best.metric in dict(source.evidence.objectives)
    return isinstance(finding, AGAINST)


def _certainty(
    findings: Sequence[Finding], found: Finding | None, against: Sequence[Finding]
) -> tuple[Confidence, tuple[Finding, ...]]:
    """Returns how much the answer is to be relied on, and the finding that says so."""
    if not isinstance(found, Outcome | Front):
        return "none", ()
    doubt = next((one for one in against if isinstance(one, DOUBTS)), None)
    if doubt is not None:
        return "doubtful", (doubt,)
    fresh = next((one for one in findings if isinstance(one, Confirmation)), None)
    if fresh is not None:
        return _on_fresh_seeds(fresh), (fresh,)
    sure = next((one for one in findings if isinstance(one, Certainty)), None)
    if sure is None or sure.test is None:
        return "unconfirmed", () if sure is None else (sure,)
    p_value = sure.adjusted if sure.adjusted is not None else sure.test.p_value
    return ("shown" if p_value is not None and p_value <= ALPHA else "chance"), (sure,)


def _on_fresh_seeds(found: Confirmation) -> Confidence:
    if found.test is None:
        return "unconfirmed"
    if found.is_confirmed:
        return "confirmed"
    return "refuted" if found.test.shows_difference else "chance"


def _of_few(found: Finding | None) -> str:
    if isinstance(found, Front):
        return FRONT
    return ALONE if isinstance(found, Outcome) else "what did run stands below"


def _sentence(text: str) -> str:
    """Returns a finding as a sentence of its own. A name at its beginning stays as it is."""
    first = text.split(" ", 1)[0]
    is_name = not first.isalpha() or first.endswith("_kl")
    begun = text if is_name else text[:1].upper() + text[1:]
    return begun if begun.endswith((".", "?", "!")) else f"{begun}."
