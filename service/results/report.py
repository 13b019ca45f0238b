"""What a sweep found, in order of weight: first what speaks against believing it, then what won, by
how much and how surely. The end of `run`, `best` and the picture all print from it. Pure."""

import math
from collections.abc import Iterator, Sequence

from service.results.confirmation import confirmations, unbalanced
from service.results.edges import edge_of
from service.results.evidence import Evidence
from service.results.findings import (
    AllAgree,
    AtEdge,
    AtFloor,
    Certainty,
    Failed,
    FewExamples,
    Finding,
    Front,
    NoResult,
    Outcome,
    Rivals,
    SeedsDifferAsMuch,
    StoppedAhead,
    TeacherNoBetter,
)
from service.results.rates import tuned_at_edges
from service.results.standings import SEED, Standing, corrected, front
from service.states import TrialState
from service.statistics.spread import seed_spread
from service.words import brief
from trainers.trial.bounds import bounds

# A difference of two means with the same standard error is noise up to about twice its own error,
# which is the square root of two larger.
NOISE = 2 * math.sqrt(2)
# With fewer, a mean is known to more than a tenth (1 / sqrt(n)) of what single examples differ by.
FEW_EXAMPLES = 100
# Where no error is known: less than so much of the student's own score is hardly better.
HARDLY = 0.02
# Less than one prediction in a hundred is left to tell such trials apart.
AGREED = 0.99


def report(evidence: Evidence) -> tuple[Finding, ...]:
    """Returns what was found, the weightiest first."""
    metric = evidence.objectives[0][0]
    ranked = evidence.ranked(metric)
    failed = tuple(_failed(evidence))
    if not any(one.is_searched for one in ranked):
        return (*failed, NoResult(metric))
    doubts = tuple(_doubts(evidence))
    if len(evidence.objectives) > 1:
        members = tuple(front(ranked, evidence.objectives))
        names = tuple(name for name, _ in evidence.objectives)
        return (*doubts, *_low_texts(evidence), Front(names, members), *failed)
    outcome = outcome_of(ranked, evidence.sign(metric), is_doubted=bool(doubts))
    return (
        *doubts,
        *_at_edges(outcome, evidence),
        *_tuned_at_edges(outcome, evidence),
        *_stopped_ahead(outcome, evidence),
        *_low_texts(evidence),
        outcome,
        *_how_sure(outcome, ranked, evidence),
        *_rivals(outcome, evidence),
        *failed,
    )


def outcome_of(ranked: Sequence[Standing], sign: int, *, is_doubted: bool = False) -> Outcome:
    """Returns the best searched config against the best control among the other configs, of those
    that can be paired with it by two seeds or more, where there are any. ranked: the best first, a
    searched one among them; sign: 1 where more is better, else -1."""
    winner = next(one for one in ranked if one.is_searched)
    others = [one for one in ranked if one.is_control and one is not winner]
    # One lucky seed says less of a control than the mean of several.
    repeated = [one for one in others if len(winner.seeds & one.seeds) > 1]
    control = max(repeated or others, key=lambda one: sign * one.mean, default=None)
    gain = None if control is None else sign * (winner.mean - control.mean)
    return Outcome(winner, control, gain, is_doubted)


def _doubts(evidence: Evidence) -> Iterator[Finding]:
    """Yields what makes the order of configs mean little."""
    yield from unbalanced(evidence)
    objectives = [metric for metric, _ in evidence.objectives]
    for metric in objectives:
        yield from _at_floor(evidence, metric)
    yield from _teacher_no_better(evidence)
    yield from _all_agree(evidence)
    for metric in objectives:
        yield from _seeds_differ_as_much(evidence, metric)
    for metric in objectives:
        yield from _few_examples(evidence, metric)


def _low_texts(evidence: Evidence) -> Iterator[Finding]:
    """Yields the metrics of texts, beside the objectives, that are at their floor."""
    objectives = [metric for metric, _ in evidence.objectives]
    for metric in evidence.metrics:
        if metric not in objectives:
            yield from _at_floor(evidence, metric)


def _at_floor(evidence: Evidence, metric: str) -> Iterator[Finding]:
    floor_of, ranked = evidence.known(metric).floor, evidence.ranked(metric)
    if floor_of is None or not ranked:
        return
    best = ranked[0]
    floor, error = best.average(floor_of), _error(best, evidence)
    if floor is not None and best.mean <= floor + 2 * (error or 0.0):
        yield AtFloor(best, floor, error)


def _teacher_no_better(evidence: Evidence) -> Iterator[Finding]:
    metric = _metric_of_teachers(evidence)
    teacher, undistilled = evidence.teacher.get(metric), evidence.undistilled.get(metric)
    if teacher is None or undistilled is None:
        return
    name = evidence.known(metric).error or ""
    errors = [scores.get(name, 0.0) for scores in (evidence.teacher, evidence.undistilled)]
    noise = 2 * math.hypot(*errors)
    least = max(noise, HARDLY * abs(undistilled))
    if evidence.sign(metric) * (teacher - undistilled) <= least:
        yield TeacherNoBetter(metric, teacher, undistilled, noise or None)


def _metric_of_teachers(evidence: Evidence) -> str:
    """Returns the objective; but what compares a student with the teacher says nothing of the
    teacher itself, so in its place the first that neither does nor needs text."""
    metric = evidence.objectives[0][0]
    if not evidence.known(metric).needs_teacher:
        return metric
    known = evidence.metrics.items()
    plain = (k for k, v in known if v.direction and not v.needs_teacher and not v.needs_text)
    return next(plain, metric)


def _all_agree(evidence: Evidence) -> Iterator[Finding]:
    for metric, known in evidence.metrics.items():
        ranked = evidence.ranked(metric) if known.is_agreement else []
        lowest = min((min(one.values) for one in ranked), default=0.0)
        if lowest >= AGREED:
            yield AllAgree(metric, lowest)


def _seeds_differ_as_much(evidence: Evidence, metric: str) -> Iterator[Finding]:
    spread = seed_spread([one.values for one in evidence.ranked(metric) if one.is_searched])
    if spread is not None and not spread.configs_differ:
        yield SeedsDifferAsMuch(metric, spread)


def _few_examples(evidence: Evidence, metric: str) -> Iterator[Finding]:
    ranked = evidence.ranked(metric)
    if not any(one.is_searched for one in ranked):
        return
    outcome = outcome_of(ranked, evidence.sign(metric))
    rival = outcome.control or next((one for one in ranked if one is not outcome.winner), None)
    lead = None if rival is None else abs(outcome.winner.mean - rival.mean)
    error = _error(outcome.winner, evidence)
    num, unit = _num_examples(outcome.winner, evidence)
    is_few = num is not None and num < FEW_EXAMPLES
    if error is not None and lead is not None:
        is_few = lead <= NOISE * error
    if is_few:
        yield FewExamples(metric, num, unit, error, lead)


def _at_edges(outcome: Outcome, evidence: Evidence) -> Iterator[Finding]:
    tried = next(one for one in outcome.winner.trials if one.is_searched).hyperparameters
    for name, domain in evidence.domains.items():
        edge = edge_of(tried.get(name), domain) if name != SEED else None
        if edge is not None and edge.has_more(*bounds(name)):
            yield AtEdge(name, float(tried[name]), edge)


def _tuned_at_edges(outcome: Outcome, evidence: Evidence) -> Iterator[Finding]:
    """Yields the cells of a study whose tuned value is an end of the list that was tried."""
    found = tuned_at_edges(evidence.configs, evidence.tuning, first=outcome.winner.name)
    if found is not None:
        yield found


def _stopped_ahead(outcome: Outcome, evidence: Evidence) -> Iterator[Finding]:
    metric = outcome.winner.metric
    sign, best = evidence.sign(metric), evidence.ranked(metric)[0].mean
    stopped = [
        (sign * value, one.trial, value)
        for one in evidence.records
        if one.state is TrialState.STOPPED_EARLY and (value := one.metric(metric)) is not None
    ]
    ahead, trial, value = max(stopped, default=(-math.inf, 0, 0.0))
    if ahead > sign * best:
        yield StoppedAhead(trial, metric, value)


def _how_sure(
    outcome: Outcome, ranked: Sequence[Standing], evidence: Evidence
) -> Iterator[Finding]:
    """Yields what the sweep's own seeds say, where there are several, and what fresh ones do."""
    confirmed = tuple(confirmations(outcome, evidence))
    certainty = _certainty(outcome, ranked)
    if certainty is not None and (certainty.test is not None or not confirmed):
        yield certainty
    yield from confirmed


def _certainty(outcome: Outcome, ranked: Sequence[Standing]) -> Certainty | None:
    winner, control = outcome.winner, outcome.control
    if control is None:
        return None
    num_seeds = len(winner.trials), len(control.trials)
    # It won among all of these: the best of many differs from a control by chance alone.
    rivals = {one.name: one.trials for one in ranked if one is not control}
    test, adjusted, num = corrected(control.trials, rivals, winner.metric).get(
        winner.name, (None, None, 0)
    )
    is_repeated = test is not None and test.num_pairs > 1
    return Certainty(test, num_seeds, adjusted, num) if is_repeated else Certainty(None, num_seeds)


def _rivals(outcome: Outcome, evidence: Evidence) -> Iterator[Finding]:
    """Metrics favour different losses (cross-entropy and KL(teacher‖student) forward KL, sampled
    text the sharper student), so a winner under one metric alone has to be told from one under all.
    """
    ranking = [metric for metric, known in evidence.metrics.items() if known.direction]
    others = [metric for metric in ranking if metric != outcome.winner.metric]
    first = {metric: one for metric in others if (one := evidence.winner(metric)) is not None}
    rivals: dict[str, list[str]] = {}
    for metric, standing in first.items():
        if standing.name != outcome.winner.name:
            rivals.setdefault(standing.title(), []).append(metric)
    if first:
        yield Rivals(tuple((title, tuple(metrics)) for title, metrics in rivals.items()))


def _failed(evidence: Evidence) -> Iterator[Finding]:
    trials = (*evidence.records, *evidence.tuning)
    failed = [one for one in trials if one.state is TrialState.FAILED]
    if failed:
        reason = brief(failed[0].tags.get("error", "unknown"))
        yield Failed(tuple(one.trial for one in failed), len(trials), reason)


def _error(standing: Standing, evidence: Evidence) -> float | None:
    name = evidence.known(standing.metric).error
    return None if name is None else standing.average(name)


def _num_examples(standing: Standing, evidence: Evidence) -> tuple[int | None, str]:
    """Returns how many prompts, or examples of the validation split, its value is a mean over, and
    what they are called."""
    if not evidence.known(standing.metric).needs_text:
        return evidence.num_examples, "validation examples"
    asked = standing.trials[0].config.get("generation_prompts")
    known = [int(one) for one in (asked, evidence.num_examples) if isinstance(one, int)]
    return min(known, default=None), "prompts"
