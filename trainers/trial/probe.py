"""How much of a trial its diagnostics may look at, and when; no torch.

A plan depends on the trial alone, so that the same trial looks at the same positions wherever it
runs. `training.diagnostics` also keeps to the share by the clock.
"""

from dataclasses import dataclass

PREFIX = "probe/"
# When: shares of the training. Rather fewer looks than too few positions.
LOOKS = ((0.0, 0.1, 0.25, 0.5, 1.0), (0.0, 0.25, 1.0), (0.0, 1.0))
# More positions tell standard deviations no better than the choice of texts does; fewer tell
# nothing.
MOST_POSITIONS, FEWEST_POSITIONS = 512, 32
# What each position costs in trained ones: at each look, twice that more for a ladder, and when the
# teacher is asked. The second part of a look's is its vocabulary's, in the worst case, that of a
# model in which nothing else costs. What a look, and a ladder, cost however few positions there
# are. tests/benchmarks/diagnostics measures them.
LOOK, LOOK_PER_ENTRY, MOST_ENTRIES, ASKED = 0.5, 8e-5, 50_000, 1.0
STARTED = 50
# A position that an evaluation measures, in trained ones.
EVALUATED = 0.3


@dataclass(frozen=True)
class ProbePlan:
    """How many positions are looked at, after which steps (0: before any), in rising order."""

    num_positions: int
    steps: tuple[int, ...]

    @property
    def ends(self) -> tuple[int, int]:
        """The first and the last step: there both KLs are tried at a ladder of temperatures."""
        return self.steps[0], self.steps[-1]


def is_diagnostic(metric: str) -> bool:
    """Returns whether a metric explains a trial's loss: it is never an objective."""
    return metric.startswith(PREFIX)


def work_of(*, trained: float, evaluated: float) -> float:
    """Returns a trial's work, in trained positions."""
    return trained + EVALUATED * evaluated


def plan_probe(share: float, *, num_steps: int, work: float, vocab_size: int) -> ProbePlan | None:
    """Returns the plan of a trial whose diagnostics may take `share` of its `work`; None where that
    is too little to tell anything."""
    look = LOOK + LOOK_PER_ENTRY * min(vocab_size, MOST_ENTRIES)
    for shares in LOOKS:
        steps = sorted({round(one * num_steps) for one in shares})
        num_looks, num_ladders = len(steps), len({steps[0], steps[-1]})
        left = share * work - STARTED * (num_looks + num_ladders)
        num_positions = int(left / (look * (num_looks + 2 * num_ladders) + ASKED))
        if num_positions >= FEWEST_POSITIONS:
            return ProbePlan(min(num_positions, MOST_POSITIONS), tuple(steps))
    return None
