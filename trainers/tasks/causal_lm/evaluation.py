"""Validation, the same in every trial: neither tau nor any other hyperparameter of the loss reaches
it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from trainers import numerics
from trainers.parts import SignalMaker, Student
from trainers.tasks.causal_lm import generation, temperatures
from trainers.tasks.causal_lm.answers import Answers
from trainers.tasks.causal_lm.data import TokenData, TokenSplit
from trainers.tasks.causal_lm.metrics import POSITION_METRICS, TEXT_METRICS
from trainers.tasks.position_evaluation import PositionEvaluator
from trainers.trial.config import TrialConfig
from trainers.trial.reporting import EXAMPLE_ID, Evaluation
from trainers.world import World

SHOWN_SAMPLES, SHOWN = 20, ("prompt", "answer", "references")
CHOSEN_BY = 100  # prompts, for a temperature
NO_ANSWERS = Evaluation({}, [])


@dataclass(frozen=True)
class TextEvaluator:
    """Scores students on the validation split; everything that stays the same during a trial. See
    `trainers.parts.Evaluator`."""

    config: TrialConfig
    data: TokenData
    teacher: SignalMaker | None
    world: World
    numerics: dict[str, Any]
    is_thorough: bool = False  # whether slow metrics are measured, too

    @torch.no_grad()
    def evaluate(self, student: Student, before: Mapping[str, float]) -> Evaluation:
        """Returns the student's metrics. Losses are means over all learned positions of the split,
        at temperature 1, in nats; rouge_l is 0 to 100. Leaves mode and random state as they
        were."""
        was_training = student.training
        student.train(False)
        try:
            found = self._positions().measure(student)
            answered = self._answers(student) if self.config.generation_prompts else NO_ANSWERS
        finally:
            student.train(was_training)
        ids = {EXAMPLE_ID: self._split.example_ids.tolist()}
        return Evaluation(
            found.metrics | answered.metrics,
            answered.samples,
            ids | found.by_example | answered.by_example,
        )

    @torch.no_grad()
    def temperatures(self, student: Student) -> dict[str, float]:
        """Returns the generation temperatures that are chosen on the split, by name, for a student
        in evaluation mode: the one at which its entropy is the teacher's, where there is one, and
        the one that scores the best rouge_l with the first seed on `CHOSEN_BY` prompts."""

        def rouge_l(temperature: float) -> float:
            sampled = {
                "generation_temperature": temperature,
                "generation_seeds": self.config.generation_seeds[:1],
                "generation_prompts": CHOSEN_BY,
            }
            asked = replace(self, config=self.config.model_copy(update=sampled), is_thorough=False)
            return asked._answers(student).metrics["rouge_l"]

        matched = temperatures.entropy_matched(self._positions(), student)
        found = {} if matched is None else {"entropy_matched": matched}
        return found | {"best_temperature": temperatures.best(rouge_l)}

    @torch.no_grad()
    def at_temperatures(self, student: Student, chosen: Mapping[str, float]) -> dict[str, float]:
        """Returns rouge_l of answers sampled at each of the temperatures, and these."""
        found: dict[str, float] = {}
        for name, temperature in chosen.items():
            config = self.config.model_copy(update={"generation_temperature": temperature})
            asked = replace(self, config=config, is_thorough=False)
            found[f"rouge_l_{name}"] = asked._answers(student).metrics["rouge_l"]
            found[f"generation_temperature_{name}"] = temperature
        return found

    @property
    def _split(self) -> TokenSplit:
        return self.data.splits["validation"]

    def _positions(self) -> PositionEvaluator:
        return PositionEvaluator(
            self._split, POSITION_METRICS, self.teacher, self.world, self.numerics
        )

    def _answers(self, student: Student) -> Evaluation:
        """The metrics of sampled answers, and the first of them beside prompt and references."""
        prompts = _prompts(self._split, self.config.generation_prompts)
        by_seed = [self._sample(student, prompts, seed) for seed in self.config.generation_seeds]
        references = [self._split.references(i) for i in range(len(prompts))]
        answers = Answers(by_seed, references)
        measured = [metric for metric in TEXT_METRICS if self.is_thorough or not metric.is_slow]
        unasked = [math.nan] * (len(self._split) - len(prompts))
        by_example = {
            metric.name: [*metric.by_prompt(answers), *unasked]
            for metric in measured
            if metric.by_prompt is not None
        }
        metrics = {metric.name: metric.of(answers) for metric in measured}
        texts = [self._text(prompt) for prompt in prompts]
        return Evaluation(metrics, self._samples(texts, answers), by_example)

    def _samples(self, prompts: list[str], answers: Answers) -> list[dict[str, Any]]:
        """What people look at: the first answer to each of some prompts; all answers to all prompts
        of a finished student."""
        shown = [
            {"prompt": prompt, "answer": given[0], "references": accepted, "answers": list(given)}
            for prompt, accepted, *given in zip(
                prompts, answers.references, *answers.by_seed, strict=True
            )
        ]
        if self.is_thorough:
            return shown
        return [{name: one[name] for name in SHOWN} for one in shown[:SHOWN_SAMPLES]]

    def _sample(self, student: Student, prompts: list[list[int]], seed: int) -> list[str]:
        """One answer to each prompt, in their order, the same list on every worker."""
        decoding = generation.Decoding(
            temperature=self.config.generation_temperature,
            max_new_tokens=self.config.max_new_tokens,
            no_repeat_ngram_size=self.config.no_repeat_ngram_size,
            end_token_ids=generation.end_tokens(
                student.model, self.data.tokenizer, self.data.facts.end_of_turn
            ),
            pad_token_id=self.data.facts.pad_token_id,
        )
        mine = list(enumerate(prompts))[self.world.rank :: self.world.size]
        with numerics.autocast(self.numerics):
            ids = generation.generate(
                student.model, student.head(), mine, seed=seed, decoding=decoding
            )
        texts = {i: self._answer(answer) for i, answer in ids.items()}
        of_all = {i: text for part in self.world.gathered(texts) for i, text in part.items()}
        return [of_all[i] for i in range(len(prompts))]

    def _answer(self, ids: list[int]) -> str:
        """The text that was generated, up to an end of turn that is no token of its own."""
        text, end = self._text(ids), self.data.facts.end_of_turn
        if not end.strip() or generation.turn_token(self.data.tokenizer, end) is not None:
            return text
        return text.partition(end.strip())[0].rstrip()

    def _text(self, ids: list[int]) -> str:
        text: str = self.data.tokenizer.decode(ids, skip_special_tokens=True)
        return text


def _prompts(split: TokenSplit, count: int) -> list[list[int]]:
    count = min(count, len(split))
    return [split.tokens(i)[: split.num_prompt_tokens[i]].tolist() for i in range(count)]
