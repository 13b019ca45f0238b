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

    @property
    def rouge_l_error(self) -> float:
        """The standard error of `rouge_l` against the own references over prompts, each of which
        counts once with its mean over seeds. Of a single prompt it is the largest that scores in 0
        to 100 with this mean can have (Bhatia and Davis)."""
        by_prompt = 100 * self._own_scores.mean(axis=0)
        if len(by_prompt) < 2:
            return float((by_prompt[0] * (100 - by_prompt[0])) ** 0.5)
        return float(by_prompt.std(ddof=1) / len(by_prompt) ** 0.5)

    def rouge_l(self, references: list[list[str]]) -> float:
        """Returns ROUGE-L F1 with stemming against each prompt's `references` (the best of them
        counts), mean over prompts and seeds, times 100."""
        of_own = references is self.references
        scores = self._own_scores if of_own else self._scores(references)
        return 100 * float(np.mean(scores.ravel()))

    @cached_property
    def _own_scores(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        return self._scores(self.references)

    def _scores(self, references: list[list[str]]) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """Returns the score of each seed and prompt, [seeds, prompts], 0 to 1."""
        from rouge_score.rouge_scorer import (
            RougeScorer,  # loads nltk: a second, for trials with text
        )

        scorer = RougeScorer(["rougeL"], use_stemmer=True)
        return np.array(
            [
                [_best(scorer, references[i], answer) for i, answer in enumerate(answers)]
                for answers in self.by_seed
            ]
        )


def _best(scorer: Any, references: list[str], answer: str) -> float:
    return max(float(scorer.score(r, answer)["rougeL"].fmeasure) for r in references)
