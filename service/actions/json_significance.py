"""What `compare --significance --json` adds, as types; see `json_types.py`."""

from typing import Literal

from service.actions.json_document import Document, Number
from trainers.trial.metrics import Direction


class Mean(Document):
    """A mean over seeds and its 95 % interval, null for one seed."""

    num_seeds: int
    mean: float
    low: Number
    high: Number


class ControlMean(Mean):
    """The config that the others are compared with."""

    name: str


class Difference(Document):
    """A config less the control, over the seeds that both have: the paired t test, and Hedges' g.
    deviation: of the differences; all null with one seed."""

    num_pairs: int
    mean_difference: float
    low: Number
    high: Number
    p_value: Number
    deviation: Number
    effect_size: Number


class ByExample(Document):
    """The same difference by single examples. low, high, p_value: for other seeds and examples;
    examples_low, examples_high: for other examples and these students; the deviations: what seeds,
    examples and both together add to a single difference. Null where there is too little."""

    num_seeds: int
    num_examples: int
    mean_difference: float
    low: Number
    high: Number
    p_value: Number
    examples_low: Number
    examples_high: Number
    seed_deviation: Number
    example_deviation: Number
    rest_deviation: Number


class AgainstControl(Mean):
    """A config against the control. difference: null where they share no seed; p_holm: corrected
    for all that are compared; verdict: higher and lower where no direction is better;
    could_be_significant: whether so few seeds among so many comparisons could have been;
    signed_rank_p: Wilcoxon's, from ten seeds on; seeds_needed: to see such a difference in 80 of
    100 studies, null for more than 1,000; unshared_seeds: of one of the two."""

    name: str
    difference: Difference | None
    p_holm: Number
    verdict: Literal[
        "better", "worse", "higher", "lower", "not told apart", "too few seeds", "untested"
    ]
    is_significant: bool
    could_be_significant: bool
    signed_rank_p: Number
    seeds_needed: int | None
    unshared_seeds: list[int]
    by_example: ByExample | None


class Ranking(Document):
    """Mean ranks over seeds, the best first; groups: configs that the critical difference does not
    tell apart; left_out: configs that lack more than half of the seeds."""

    mean_ranks: dict[str, float]
    seeds: list[int]
    p_value: float
    critical_difference: float
    groups: list[list[str]]
    left_out: list[str]


class Crossing(Document):
    """A temperature where one curve passes another. several: the means cross more than once within
    the interval."""

    tau: float
    low: float
    high: float
    several: bool


class CurvePair(Document):
    """Two divergences over temperature. crossings: empty for none in the range; unsure: where the
    means cross and seeds do not show it; where: what sets these curves apart from other pairs."""

    first: str
    second: str
    where: str
    taus: list[float]
    crossings: list[Crossing]
    unsure: list[float]
    sentence: str


class Significance(Document):
    """What seeds say of configs against a control. direction: null where neither is better."""

    metric: str
    direction: Direction | None
    control: ControlMean
    num_tested: int
    configs: list[AgainstControl]
    ranking: Ranking | None
    crossovers: list[CurvePair]
    importances: dict[str, float]
    notes: list[str]
