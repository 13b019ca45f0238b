"""What can be found of a sweep, as small values: each says itself in one sentence. Which of them
hold, and in which order, is decided in `report`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.results.edges import Edge
from service.results.standings import Standing
from service.statistics.paired import PairedTest
from service.statistics.spread import SeedSpread

SHOWN = 5


class Finding(Protocol):
    """One thing that was found."""

    def sentence(self) -> str:
        """Returns it in one sentence, for people."""


@dataclass(frozen=True)
class NoResult:
    """No trial of the search completed with a finite value."""

    metric: str

    def sentence(self) -> str:
        """See `Finding`."""
        return f"no searched trial completed with a finite {self.metric}"


@dataclass(frozen=True)
class AtFloor:
    """The best text is as good as text that has nothing to do with its prompts."""

    best: Standing
    floor: float
    error: float | None

    def sentence(self) -> str:
        """See `Finding`."""
        told = "is not above"
        if self.best.mean > self.floor:
            told = f"is no more than two standard errors ({_short(self.error)}) above"
        return (
            f"no text is better than chance: the best {self.best.metric}, "
            f"{_short(self.best.mean)} of {self.best.title()}, {told} {_short(self.floor)}, what "
            "its answers reach against references of other prompts"
        )


@dataclass(frozen=True)
class TeacherNoBetter:
    """The teacher scores hardly better than the student before any trial; noise: what two such
    scores differ by anyway, None where that is not known."""

    metric: str
    teacher: float
    undistilled: float
    noise: float | None = None

    def sentence(self) -> str:
        """See `Finding`."""
        return (
            f"the teacher is hardly better than the undistilled student ({self.metric} "
            f"{_short(self.teacher)} against {_short(self.undistilled)}{self._noise()}): there is "
            "little to learn from it"
        )

    def _noise(self) -> str:
        return "" if not self.noise else f", of which {_short(self.noise)} may be noise"


@dataclass(frozen=True)
class AllAgree:
    """Every trial's student predicts what the teacher does; lowest: the smallest share of it."""

    metric: str
    lowest: float

    def sentence(self) -> str:
        """See `Finding`."""
        return (
            f"every trial agrees with the teacher ({self.metric} {_short(self.lowest)} or more): "
            "nothing is left by which one could be better"
        )


@dataclass(frozen=True)
class SeedsDifferAsMuch:
    """Configs differ by no more than the seeds of one config do."""

    metric: str
    spread: SeedSpread

    def sentence(self) -> str:
        """See `Finding`."""
        return (
            f"configs differ by no more than repeated seeds do ({self.metric}: standard deviation "
            f"{_short(self.spread.between)} between configs, {_short(self.spread.within)} between "
            "seeds of one): no config is better than another"
        )


@dataclass(frozen=True)
class FewExamples:
    """The objective is a mean over too few prompts (or examples) for what is said of it."""

    metric: str
    num: int | None
    unit: str
    error: float | None
    lead: float | None

    def sentence(self) -> str:
        """See `Finding`."""
        few = f"few {self.unit}" if self.num is None else f"{self.num} {self.unit} are few"
        if self.error is None or self.lead is None:
            return (
                f"{few}: {self.metric} is known to more than a tenth of what single {self.unit} "
                "differ by"
            )
        return (
            f"{few}: {self.metric} has a standard error of {_short(self.error)} over them, and the "
            f"lead is {_short(self.lead)}"
        )


@dataclass(frozen=True)
class AtEdge:
    """The best value of a hyperparameter lies at an end of what was searched."""

    name: str
    value: float
    edge: Edge

    def sentence(self) -> str:
        """See `Finding`."""
        return (
            f"the best {self.name}, {_short(self.value)}, lies at the {self.edge.end} end of what "
            f"was searched ({_short(self.edge.low)} to {_short(self.edge.high)}): a better one may "
            "lie beyond"
        )


@dataclass(frozen=True)
class TunedAtEdge:
    """Cells of a study whose tuned value (of the field `name`) lies at an end of the list. cells:
    (name, lower | upper); num_cells: of all; low, high: the ends."""

    name: str
    cells: tuple[tuple[str, str], ...]
    num_cells: int
    low: float
    high: float

    def sentence(self) -> str:
        """See `Finding`."""
        shown = [f"{cell} at the {end} one" for cell, end in self.cells[:SHOWN]]
        more = len(self.cells) - len(shown)
        shown += [f"{more} more"] if more else []
        return (
            f"the tuned {self.name} of {len(self.cells)} of {self.num_cells} cells lies at an end "
            f"of what was tried ({_short(self.low)} to {_short(self.high)}): {'; '.join(shown)}. A "
            "better one may lie beyond: tune over a wider list"
        )


@dataclass(frozen=True)
class StoppedAhead:
    """Early stopping ended a trial whose last value is better than that of any completed one."""

    trial: int
    metric: str
    value: float

    def sentence(self) -> str:
        """See `Finding`."""
        return (
            f"trial {self.trial} was at {self.metric} {_short(self.value)} when early stopping "
            "ended it, better than any completed trial: it was not trained to its budget, so it "
            "cannot win"
        )


@dataclass(frozen=True)
class Outcome:
    """The best searched config against the best control among other configs (None: there is none).
    gain: how much better it is, whatever the direction; is_doubted: something above says that the
    order of configs means little here."""

    winner: Standing
    control: Standing | None
    gain: float | None
    is_doubted: bool = False

    def sentence(self) -> str:
        """See `Finding`."""
        winner, control = self.winner, self.control
        if control is None or self.gain is None:
            return f"{self._first()}; there is no control to compare it with"
        if self.gain < 0:
            return (
                f"no searched config beat the best control, {control.title()} ({_value(control)}); "
                f"the nearest is {winner.title()} with {_value(winner)}"
            )
        better = f"{_short(self.gain)} better than" if self.gain else "as good as"
        return f"{self._first()}, {better} the best control, {control.title()}"

    def _first(self) -> str:
        verb = "came first" if self.is_doubted else "won"
        return f"{self.winner.title()} {verb}: {_value(self.winner)}"


@dataclass(frozen=True)
class Front:
    """With two objectives: the configs that none beats in both."""

    metrics: tuple[str, ...]
    members: tuple[Standing, ...]

    def sentence(self) -> str:
        """See `Finding`."""
        shown = [self._member(one) for one in self.members[:SHOWN]]
        more = len(self.members) - len(shown)
        shown += [f"{more} more"] if more else []
        return f"the Pareto front of {' and '.join(self.metrics)}: {'; '.join(shown)}"

    def _member(self, member: Standing) -> str:
        values = [f"{name} {_short(member.average(name))}" for name in self.metrics]
        return f"{member.title()}, {', '.join(values)}"


@dataclass(frozen=True)
class Certainty:
    """What shared seeds allow to say of winner and control; test: None with fewer than two;
    adjusted: its p after Holm's correction for all `num_tested` configs that could have won."""

    test: PairedTest | None
    num_seeds: tuple[int, int]
    adjusted: float | None = None
    num_tested: int = 1

    def sentence(self) -> str:
        """See `Finding`."""
        if self.test is not None:
            return f"paired by seed: {self.test.sentence(self.adjusted, self.num_tested)}"
        who = "one seed each"
        if self.num_seeds != (1, 1):
            who = "they share fewer than two seeds"
        return (
            f"{who}: how much of the difference is luck is not known. Train both again on the same "
            "fresh seeds before you rely on it"
        )


@dataclass(frozen=True)
class Confirmation:
    """What seeds that a search never saw say of its winner. study: the one that trained its best
    configs again, None: there is none; is_in_study: whether the winner is among them; control: the
    label of what it is compared with there, None: there is none; test: winner - control, paired by
    seed, None with fewer than two; sign: 1 where more is better, else -1."""

    sweep_id: str
    winner: str
    study: str | None = None
    is_in_study: bool = False
    control: str | None = None
    test: PairedTest | None = None
    sign: int = 1

    @property
    def is_confirmed(self) -> bool:
        """Whether the winner is better than the control there, by more than chance."""
        test = self.test
        is_better = test is not None and self.sign * test.mean_difference > 0
        return test is not None and test.shows_difference and is_better

    def sentence(self) -> str:
        """See `Finding`."""
        again = f"kd-sweep confirm {self.sweep_id}"
        if self.study is None or not self.is_in_study:
            had = "" if self.study is None else f" ({self.study} trained other configs)"
            return (
                f"unconfirmed: {self.winner} was never trained on seeds that the search did not "
                f"see{had}, so how much is luck is not known; to find out: {again}"
            )
        if self.test is None:
            what = "two seeds of it and a control" if self.control else "a control"
            return f"unconfirmed: the study {self.study} does not have {what}"
        told = f"{self.winner} against {self.control} on fresh seeds: {self.test.numbers()}"
        if self.is_confirmed:
            return f"confirmed by {self.study}: {told}"
        if self.test.shows_difference:
            return f"refuted by {self.study}, where the control is better: {told}"
        return f"not confirmed by {self.study}: {told}, not told from chance"


@dataclass(frozen=True)
class Unbalanced:
    """Cells of a study lack seeds. short: cell → how many it has; absent: how many have none that
    was begun; num_cells, num_seeds: how many there were to be."""

    short: tuple[tuple[str, int], ...]
    absent: int
    num_cells: int
    num_seeds: int

    def sentence(self) -> str:
        """See `Finding`."""
        shown = [f"{cell} has {num}" for cell, num in self.short[:SHOWN]]
        more = len(self.short) - len(shown)
        shown += [f"{more} more have fewer"] if more else []
        shown += [f"{self.absent} have none"] if self.absent else []
        return (
            f"the grid is unbalanced: {len(self.short) + self.absent} of {self.num_cells} cells "
            f"have fewer than the {self.num_seeds} seeds ({'; '.join(shown)}). What is paired by "
            "seed stands on those that both have"
        )


@dataclass(frozen=True)
class Rivals:
    """Which configs win under other metrics: (config, metrics). None when the winner does under all
    of them."""

    others: tuple[tuple[str, tuple[str, ...]], ...]

    def sentence(self) -> str:
        """See `Finding`."""
        if not self.others:
            return "it also wins under every other metric"
        texts = [f"{name} under {', '.join(metrics)}" for name, metrics in self.others]
        return f"other metrics name other winners: {'; '.join(texts)}"


@dataclass(frozen=True)
class Failed:
    """Trials that failed; reason: the first one's."""

    trials: tuple[int, ...]
    num_trials: int
    reason: str

    def sentence(self) -> str:
        """See `Finding`."""
        return (
            f"{len(self.trials)} of {self.num_trials} trials failed; trial {self.trials[0]}: "
            f"{self.reason}"
        )


def sentences(findings: Sequence[Finding]) -> list[str]:
    """Returns each finding's sentence."""
    return [finding.sentence() for finding in findings]


def _value(standing: Standing) -> str:
    """Returns e.g. `rouge_l 3.2`, or `rouge_l 3.2 on average over 4 seeds (95 % interval …)`."""
    text = f"{standing.metric} {_short(standing.mean)}"
    if standing.low is None or standing.high is None:
        return text
    return (
        f"{text} on average over {len(standing.trials)} seeds (95 % interval "
        f"{_short(standing.low)} to {_short(standing.high)})"
    )


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
