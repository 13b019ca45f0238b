"""Scores sampled answers against the accepted ones."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

SHUFFLE_SEED = 0


@dataclass(frozen=True)
class Answers:
    """One answer for each seed and prompt (`by_seed[seed][prompt]`), and each prompt's accepted
    answers."""

    by_seed: list[list[str]]
    references: list[list[str]]

    @cached_property
    def references_of_others(self) -> list[list[str]]:
        """For each prompt the accepted answers of another one, always the same: what a student
        scores against these says nothing of the prompt, so it is the floor."""
        shuffled = np.random.Generator(np.random.PCG64(SHUFFLE_SEED))
        order = shuffled.permutation(len(self.references))
        # each takes its predecessor in one cycle through all, so none keeps its own
        other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        return [self.references[other[i]] for i in range(len(self.references))]

    def rouge_l(self, references: list[list[str]]) -> float:
        """Returns ROUGE-L F1 with stemming against each prompt's `references` (the best of them
        counts), mean over prompts and seeds, times 100."""
        from rouge_score.rouge_scorer import (
            RougeScorer,  # loads nltk: a second, for trials with text
        )

        scorer = RougeScorer(["rougeL"], use_stemmer=True)
        scores = [
            _best(scorer, references[i], answer)
            for answers in self.by_seed
            for i, answer in enumerate(answers)
        ]
        return 100 * float(np.mean(scores))


def _best(scorer: Any, references: list[str], answer: str) -> float:
    return max(float(scorer.score(r, answer)["rougeL"].fmeasure) for r in references)
