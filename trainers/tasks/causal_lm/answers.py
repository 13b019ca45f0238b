"""Scores sampled answers: against the accepted ones, and against each other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

SHUFFLE_SEED = 0
# Each is compared with all others, so the time grows with the square of their number: 1 s here.
MAX_COMPARED = 100
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


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
    def rouge_l_by_prompt(self) -> list[float]:
        """`rouge_l` of each prompt, mean over seeds."""
        scores: list[float] = (100 * self._own_scores.mean(axis=0)).tolist()
        return scores

    @property
    def rouge_l_error(self) -> float:
        """The standard error of `rouge_l` against the own references over prompts, each of which
        counts once with its mean over seeds. Of a single prompt it is the largest that scores in 0
        to 100 with this mean can have (Bhatia and Davis)."""
        by_prompt = np.asarray(self.rouge_l_by_prompt)
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
    def exact_match_by_prompt(self) -> list[float]:
        """Of each prompt the share of its answers that are an accepted one, in percent: blind to
        case, punctuation and space, as Super-NaturalInstructions compares them."""
        accepted = [{_normalised(text) for text in texts} for texts in self.references]
        of_prompt = list(zip(*self.by_seed, strict=True))
        return [
            100 * sum(_normalised(answer) in right for answer in answers) / len(answers)
            for answers, right in zip(of_prompt, accepted, strict=True)
        ]

    @property
    def exact_match(self) -> float:
        """The same of all prompts."""
        return float(np.mean(self.exact_match_by_prompt))

    @property
    def num_words(self) -> float:
        """The mean number of words of an answer."""
        return self._mean(
            float(np.mean([len(answer.split()) for answer in answers])) for answers in self.by_seed
        )

    def distinct(self, size: int) -> float:
        """Returns how many of the n-grams of words of a seed's answers differ, in percent of all
        (distinct-n, Li et al. 2016), mean over seeds; 0 where there are none."""
        return 100 * self._mean(_distinct(answers, size) for answers in self.by_seed)

    @property
    def self_bleu(self) -> float:
        """BLEU-4 of each answer with all others of its seed as references, mean (Texygen, Zhu et
        al. 2018), 0 to 100, over the first `MAX_COMPARED` answers; 0 where there is one."""
        return self._mean(_self_bleu(answers[:MAX_COMPARED]) for answers in self.by_seed)

    def _mean(self, by_seed: Iterator[float]) -> float:
        return float(np.mean(list(by_seed)))

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


def _normalised(text: str) -> str:
    return " ".join(_PUNCTUATION.sub("", text.lower()).split())


def _distinct(answers: list[str], size: int) -> float:
    found = [ngram for answer in answers for ngram in _ngrams(answer.split(), size)]
    return len(set(found)) / max(len(found), 1)


def _ngrams(words: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(size)), strict=False)


def _self_bleu(answers: list[str]) -> float:
    from sacrebleu.metrics.bleu import BLEU

    if len(answers) < 2:
        return 0.0
    bleu = BLEU(effective_order=True)  # a short answer counts by the n-grams that it has
    others = [answers[:i] + answers[i + 1 :] for i in range(len(answers))]
    scores = [bleu.sentence_score(a, o).score for a, o in zip(answers, others, strict=True)]
    return float(np.mean(scores))
