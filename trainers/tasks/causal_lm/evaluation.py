"""Validation, the same in every trial: neither tau nor any other hyperparameter of the loss reaches
it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers import diagnostics, numerics
from trainers.losses import DistillationLoss
from trainers.signal import TeacherSignal
from trainers.tasks.causal_lm import batches, generation
from trainers.tasks.causal_lm.batches import Batch
from trainers.tasks.causal_lm.data import DataFacts, Split
from trainers.teachers.online import SignalMaker
from trainers.training.student import StudentWithLoss
from trainers.trial.config import TrialConfig
from trainers.world import World

MAX_BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
# Enough rows for a fast matrix product, few enough that what is made of them stays in a CPU's
# cache; a GPU wants work for each call.
MIN_CHUNK_ROWS, MAX_CHUNK_LOGITS = 128, {"cpu": 1 << 19, "cuda": 1 << 26}
SHUFFLE_SEED = 0
SHOWN_SAMPLES = 20

# What a pass over the positions adds up; the first three need no teacher.
SUMS = (
    "positions",
    "cross_entropy",
    "student_entropy",
    "kl_teacher_student",
    "kl_student_teacher",
    "top1_agreement",
    "teacher_entropy",
    "soft_entropy",
    "soft_entropy_squared",
    "student_scale",
    "teacher_scale",
)


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one evaluation, and the first generated answers beside their prompts and
    references."""

    metrics: dict[str, float]
    samples: list[dict[str, Any]]


@dataclass(frozen=True)
class Evaluator:
    """Scores students on the validation split; everything that stays the same during a trial."""

    config: TrialConfig
    split: Split
    facts: DataFacts
    tokenizer: Any
    teacher: SignalMaker | None
    world: World
    numerics: dict[str, Any]

    @torch.no_grad()
    def evaluate(self, student: StudentWithLoss) -> Evaluation:
        """Returns the student's metrics. Losses are means over all learned positions of the split,
        at temperature 1, in nats; rouge_l is 0 to 100. Leaves mode and random state as they
        were."""
        was_training = student.training
        student.eval()
        try:
            metrics = self._positions(student)
            samples: list[dict[str, Any]] = []
            if self.config.generation_prompts:
                scores, samples = self._answers(student)
                metrics |= scores
        finally:
            student.train(was_training)
        return Evaluation(metrics, samples)

    def _positions(self, student: StudentWithLoss) -> dict[str, float]:
        device = self.world.device
        sums = torch.zeros(len(SUMS), dtype=torch.float64, device=device)
        groups = batches.evaluation_batches(self.split, max_tokens=MAX_BATCH_TOKENS[device.type])
        for examples in groups[self.world.rank :: self.world.size]:
            batch = batches.collate(self.split, examples, self.facts.pad_token_id).to(device)
            with numerics.autocast(self.numerics):
                self._add(sums, student, batch)
        return _metrics(self.world.summed(sums), with_teacher=self.teacher is not None)

    def _add(self, sums: Tensor, student: StudentWithLoss, batch: Batch) -> None:
        hidden, head = student.hidden(batch), student.head()
        signal = None if self.teacher is None else self.teacher.signal(batch)
        most = MAX_CHUNK_LOGITS[self.world.device.type]
        rows = max(MIN_CHUNK_ROWS, most // head.vocab_size)
        for start in range(0, len(batch.labels), rows):
            part = slice(start, start + rows)
            logits = head.logits(hidden[part]).float()
            teacher_logits = None
            if signal is not None:
                teacher_logits = TeacherSignal(signal.hidden[part], signal.head).logits().float()
            sums += _sums(student.loss, logits, teacher_logits, batch.labels[part])

    def _answers(self, student: StudentWithLoss) -> tuple[dict[str, float], list[dict[str, Any]]]:
        prompts = _prompts(self.split, self.config.generation_prompts)
        mine = list(range(len(prompts)))[self.world.rank :: self.world.size]
        decoding = generation.Decoding(
            temperature=self.config.generation_temperature,
            max_new_tokens=self.config.max_new_tokens,
            no_repeat_ngram_size=self.config.no_repeat_ngram_size,
            eos_token_id=self.facts.eos_token_id,
            pad_token_id=self.facts.pad_token_id,
        )
        by_seed = []
        for seed in self.config.generation_seeds:
            with numerics.autocast(self.numerics):
                ids = generation.generate(
                    student.model,
                    student.head(),
                    [(i, prompts[i]) for i in mine],
                    seed=seed,
                    decoding=decoding,
                )
            texts = {i: self.tokenizer.decode(t, skip_special_tokens=True) for i, t in ids.items()}
            whole = {i: text for part in self.world.gathered(texts) for i, text in part.items()}
            by_seed.append([whole[i] for i in range(len(prompts))])
        references = [self.split.references(i) for i in range(len(prompts))]
        shown = [
            {
                "prompt": self.tokenizer.decode(prompts[i], skip_special_tokens=True),
                "answer": by_seed[0][i],
                "references": references[i],
            }
            for i in range(min(SHOWN_SAMPLES, len(prompts)))
        ]
        return rouge(by_seed, references), shown


def rouge(by_seed: list[list[str]], references: list[list[str]]) -> dict[str, float]:
    """Returns `rouge_l`: ROUGE-L F1 with stemming, the best over an example's references, mean over
    examples and seeds, times 100; and `rouge_l_shuffled`, the same against other examples'
    references: the floor."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    order = np.random.Generator(np.random.PCG64(SHUFFLE_SEED)).permutation(len(references))
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    scores, floor = [], []
    for answers in by_seed:
        for i, answer in enumerate(answers):
            scores.append(_best(scorer, references[i], answer))
            floor.append(_best(scorer, references[other[i]], answer))
    return {
        "rouge_l": 100 * float(np.mean(scores)),
        "rouge_l_shuffled": 100 * float(np.mean(floor)),
    }


def _best(scorer: Any, references: list[str], answer: str) -> float:
    return max(float(scorer.score(r, answer)["rougeL"].fmeasure) for r in references)


def _prompts(split: Split, count: int) -> list[list[int]]:
    count = min(count, len(split))
    return [split.tokens(i)[: split.num_prompt_tokens[i]].tolist() for i in range(count)]


def _sums(
    loss: DistillationLoss, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor
) -> Tensor:
    """The SUMS of some positions; float64, so that adding many chunks loses nothing."""
    student = logits.log_softmax(-1)
    q = student.exp()
    values = [
        torch.ones_like(labels, dtype=torch.float64),
        -student.gather(1, labels[:, None])[:, 0],
        -torch.linalg.vecdot(q, student),
    ]
    if teacher_logits is not None:
        teacher = teacher_logits.log_softmax(-1)
        p, gap = teacher.exp(), teacher - student
        values += [
            torch.linalg.vecdot(p, gap),
            -torch.linalg.vecdot(q, gap),
            logits.argmax(-1) == teacher_logits.argmax(-1),
            -torch.linalg.vecdot(p, teacher),
            *_diagnostics(loss, logits, teacher_logits),
        ]
    sums = torch.zeros(len(SUMS), dtype=torch.float64, device=logits.device)
    for i, value in enumerate(values):
        sums[i] = value.double().sum()
    return sums


def _diagnostics(loss: DistillationLoss, logits: Tensor, teacher_logits: Tensor) -> list[Tensor]:
    """The last four of SUMS: what the loss makes of these positions, and both logit scales."""
    softened = loss.softened(logits, teacher_logits)
    soft_entropy = diagnostics.entropy(softened.teacher.float().log_softmax(-1))
    return [
        soft_entropy,
        soft_entropy.double().square(),
        diagnostics.largest_centred_logit(logits),
        diagnostics.largest_centred_logit(teacher_logits),
    ]


def _metrics(sums: Tensor, *, with_teacher: bool) -> dict[str, float]:
    totals = dict(zip(SUMS, sums.tolist(), strict=True))
    count = max(totals.pop("positions"), 1.0)
    means = {name: total / count for name, total in totals.items()}
    metrics = {name: means[name] for name in ("cross_entropy", "student_entropy")}
    metrics["perplexity"] = float(np.exp(min(means["cross_entropy"], 700.0)))
    if not with_teacher:
        return metrics
    for name in ("kl_teacher_student", "kl_student_teacher", "top1_agreement", "teacher_entropy"):
        metrics[name] = means[name]
    mean = means["soft_entropy"]
    variance = max(means["soft_entropy_squared"] - mean**2, 0.0)
    metrics["teacher_entropy_mean"] = mean
    metrics["teacher_entropy_std"] = variance**0.5
    metrics["logit_scale_ratio"] = means["student_scale"] / max(means["teacher_scale"], 1e-30)
    return metrics
