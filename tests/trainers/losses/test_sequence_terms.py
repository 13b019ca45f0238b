"""Sequence terms: numbers of a NumPy program in float64, and exact expectations over every text of
at most three tokens out of four."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.losses.divergences import label_log_probabilities
from trainers.losses.sequence import (
    SEQUENCE_FUNCTIONS,
    Drawn,
    advantages,
    returns,
    whitened,
)
from trainers.trial.config import TrialConfig
from trainers.trial.sequence_terms import SequenceTerm
from trainers.world import World

ONE = World()
STUDENT = torch.tensor([[0.5, -1.0, 2.0, 0.3, -0.4]], dtype=torch.float64)
TEACHER = torch.tensor([[1.2, 0.1, 1.5, -0.7, -1.1]], dtype=torch.float64)
FORWARD = [-0.1967016452, -0.0813116475, 0.1863963084, 0.067138132, 0.0244788524]
REVERSE = [-0.1509542821, -0.0465613165, 0.0995065015, 0.0772486614, 0.0207604357]
LOG_P = [-1.2, -0.4, -2.0, -0.1]
LOG_Q = [-0.9, -0.7, -1.1, -0.3]


def config(term: str = "kl_reward", **fields: Any) -> TrialConfig:
    """A config with that term, none of whose rules about the text matters here."""
    made = TrialConfig().model_copy(update={"sequence_term": SequenceTerm(term)})
    defaults = {"include_current": True, "importance_weight": "none", "discount": 0.0}
    return made.model_copy(update=defaults | fields)


def drawn(log_q: list[float], log_p: list[float], behaviour: list[float] | None = None) -> Drawn:
    """One text."""
    sides = (log_q, log_p, log_q if behaviour is None else behaviour)
    tensors = [torch.tensor(side, dtype=torch.float64) for side in sides]
    return Drawn(*tensors, torch.zeros(len(log_q), dtype=torch.int64))


def scaled(value: float) -> Drawn:
    """The example's text with rewards over `value`, MiniLLM's reward scaling."""
    gap = [(p - q) / value for p, q in zip(LOG_P, LOG_Q, strict=True)]
    return drawn([0.0] * 4, gap)


def close(found: Tensor, expected: list[float]) -> None:
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_minillm_advantages() -> None:
    text, decay = scaled(0.5), {"discount": 0.95}
    close(text.reward, [-0.6, 0.6, -1.8, 0.4])
    close(returns(config(**decay), text), [-1.31155, -0.749, -1.42, 0.4])
    normalised = config(**decay, length_norm="length")
    close(returns(normalised, text), [-0.3278875, -0.2496666667, -0.71, 0.4])
    white = normalised.model_copy(update={"whiten": True})
    expected = [-0.2656195085, -0.0696083436, -1.2231433942, 1.5583712463]
    close(advantages(white, text, ONE), expected)


def test_trls_form_divides_by_the_discounted_length() -> None:
    found = returns(config(discount=0.95, length_norm="discounted"), scaled(1.0))
    close(found, [-0.1767647158, -0.1312883436, -0.3641025641, 0.2])


def test_the_papers_return_begins_behind_the_token() -> None:
    settings = {"discount": 1.0, "include_current": False}
    close(returns(config(**settings), scaled(1.0)), [-0.4, -0.7, 0.2, 0.0])
    found = returns(config(**settings, length_norm="length"), scaled(1.0))
    close(found, [-0.4 / 3, -0.35, 0.2, 0.0])


def test_a_text_never_sees_the_rewards_of_another() -> None:
    zeros = torch.zeros(6, dtype=torch.float64)
    both = Drawn(zeros, zeros + torch.arange(1, 7), zeros, torch.tensor([7, 7, 3, 3, 3, 9]))
    close(returns(config(discount=1.0), both), [3.0, 2.0, 12.0, 9.0, 5.0, 6.0])
    weights = Drawn(zeros + 0.5, zeros, zeros, both.sequence_ids)
    ratio = weights.ratio(config(importance_weight="sequence").importance_weight)
    close(ratio, [math.exp(0.5 * k) for k in (1, 2, 1, 2, 3, 1)])


def test_minillms_weight_of_a_token() -> None:
    """q over the mixture 0.8 q + 0.2 p, bounded by 1 / 0.8 whatever p."""
    mixed = math.log(0.8 * 0.3 + 0.2 * 0.6)
    text = drawn([math.log(0.3)], [math.log(0.6)], [mixed])
    found = SEQUENCE_FUNCTIONS[SequenceTerm.KL_REWARD](config(importance_weight="token"), text, ONE)
    close(found.slope, [-0.8333333333 * math.log(2)])


def by_logits(label: int, slope: Tensor) -> list[float]:
    """slope times the gradient of log q_label."""
    leaf = STUDENT.clone().requires_grad_()
    leaf.log_softmax(-1)[0, label].backward(slope.squeeze())
    assert leaf.grad is not None
    return leaf.grad[0].tolist()


def one_token(label: int) -> Drawn:
    sides = label_log_probabilities(STUDENT, TEACHER, torch.tensor([label]))
    student, teacher = sides.unbind(-1)
    return Drawn(student, teacher, student, torch.zeros(1, dtype=torch.int64))


def test_eopds_policy_gradient_of_one_token() -> None:
    settings = config(importance_weight="token", clip_ratio=0.2)
    found = SEQUENCE_FUNCTIONS[SequenceTerm.KL_REWARD](settings, one_token(3), ONE)
    assert found.value.item() == pytest.approx(0.8399977819, abs=1e-9)
    expected = [-0.1212097085, -0.0270455417, -0.5432242258, 0.740759666, -0.0492801899]
    assert by_logits(3, found.slope) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("term", ["kl_reward", "k2"])
def test_each_estimator_has_reverse_kls_gradient_on_average(term: str) -> None:
    values, gradient = [], [0.0] * 5
    for label, q in enumerate(STUDENT.softmax(-1)[0].tolist()):
        found = SEQUENCE_FUNCTIONS[SequenceTerm(term)](config(term), one_token(label), ONE)
        values.append(q * found.value.item())
        of_token = by_logits(label, q * found.slope)
        gradient = [a + b for a, b in zip(gradient, of_token, strict=True)]
    assert gradient == pytest.approx(REVERSE, abs=1e-9)
    assert sum(values) == pytest.approx({"kl_reward": 0.1861290173, "k2": 0.1665318369}[term])


def test_the_refused_estimators_have_the_gradients_that_the_refusal_says() -> None:
    """By autograd through the sampled token's log q: k1 has none, k3 forward KL's."""
    leaf = STUDENT.clone().requires_grad_()
    q, x = STUDENT.softmax(-1)[0], leaf.log_softmax(-1)[0] - TEACHER.log_softmax(-1)[0]
    k3 = torch.exp(-x) - 1 + x
    (of_k1,) = torch.autograd.grad((q * x).sum(), leaf, retain_graph=True)
    (of_k3,) = torch.autograd.grad((q * k3).sum(), leaf, retain_graph=True)
    (as_reward,) = torch.autograd.grad((q * k3.detach() * x).sum(), leaf)
    neither = [a - b for a, b in zip(REVERSE, FORWARD, strict=True)]
    for found, expected in ((of_k1, [0.0] * 5), (of_k3, FORWARD), (as_reward, neither)):
        assert found[0].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("ratio", "gain", "slope"),
    [
        (1.5, 1.0, 0.0),
        (1.5, -1.0, 1.5),
        (0.5, 1.0, -0.5),
        (0.5, -1.0, 0.0),
        (1.1, 1.0, -1.1),
    ],
)
def test_a_clipped_ratio_stops_steps_that_go_too_far(
    ratio: float, gain: float, slope: float
) -> None:
    """Where raising the surrogate would move the ratio further out, there is no gradient."""
    text = drawn([math.log(ratio)], [math.log(ratio) + gain], [0.0])
    settings = config(importance_weight="token", clip_ratio=0.2)
    found = SEQUENCE_FUNCTIONS[SequenceTerm.KL_REWARD](settings, text, ONE)
    close(found.slope, [slope])
    clipped = min(max(ratio, 0.8), 1.2)
    close(found.value, [-min(ratio * gain, clipped * gain)])


def test_whitened_values_without_spread_are_zero() -> None:
    assert whitened(torch.full((3,), 2.5), ONE).tolist() == [0.0] * 3
    assert whitened(torch.zeros(0), ONE).shape == (0,)


# -- every text of three tokens out of four, whose first ends it

END, NUM_TOKENS, LENGTH = 0, 4, 3


def texts() -> Iterator[tuple[int, ...]]:
    """Every text: up to its end, or LENGTH tokens."""
    unfinished: list[tuple[int, ...]] = [()]
    for place in range(LENGTH):
        longer = [(*text, token) for text in unfinished for token in range(NUM_TOKENS)]
        for text in longer:
            if text[-1] == END or place == LENGTH - 1:
                yield text
        unfinished = [text for text in longer if text[-1] != END]


@dataclass
class Model:
    """A table: the logits behind each beginning."""

    logits: Tensor
    temperature: float = 1.0

    def log_probs(self, text: tuple[int, ...]) -> Tensor:
        """Log-probabilities [L] of the text's tokens."""
        rows = [self._row(text[:place]) for place in range(len(text))]
        table = (self.logits[rows] / self.temperature).log_softmax(-1)
        return table[torch.arange(len(text)), torch.tensor(text)]

    @staticmethod
    def _row(beginning: tuple[int, ...]) -> int:
        number = 0
        for token in beginning:
            number = NUM_TOKENS * number + token + 1
        return number


NUM_ROWS = 1 + NUM_TOKENS + NUM_TOKENS**2 + NUM_TOKENS
TABLES = torch.randn(
    2, NUM_ROWS, NUM_TOKENS, generator=torch.Generator().manual_seed(4), dtype=torch.float64
)
P = Model(1.5 * TABLES[1])


def kept(row: Tensor, top_p: float) -> set[int]:
    """The fewest tokens of a row of probabilities that reach `top_p`."""
    tokens: set[int] = set()
    for token in sorted(range(NUM_TOKENS), key=lambda one: -float(row[one])):
        if sum(float(row[one]) for one in tokens) < top_p:
            tokens.add(token)
    return tokens


def behaviour_under_top_p(text: tuple[int, ...], top_p: float) -> Tensor:
    """Log-probabilities [L] of the student's text by nucleus sampling, -inf of what is cut."""
    found = []
    for place, token in enumerate(text):
        row = TABLES[0][Model._row(text[:place])].softmax(-1)
        tokens = kept(row, top_p)
        mass = sum(float(row[one]) for one in tokens)
        found.append(math.log(float(row[token]) / mass) if token in tokens else -math.inf)
    return torch.tensor(found, dtype=torch.float64)


def behaviour_of(
    text: tuple[int, ...], temperature: float, mix: float, top_p: float = 1.0
) -> Tensor:
    """Log-probabilities [L] of a token-wise mixture of both models, each at that temperature; with
    top-p below 1 of the student alone at temperature 1."""
    if top_p < 1:
        return behaviour_under_top_p(text, top_p)
    student = Model(TABLES[0], temperature).log_probs(text)
    teacher = Model(P.logits, temperature).log_probs(text)
    return ((1 - mix) * student.exp() + mix * teacher.exp()).log()


def expected_gradient(
    settings: TrialConfig, temperature: float, mix: float, top_p: float = 1.0
) -> Tensor:
    """The mean over the behaviour's texts of the term's gradient by the student's table."""
    leaf = TABLES[0].clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for text in texts():
        log_q = Model(leaf).log_probs(text)
        behaviour = behaviour_of(text, temperature, mix, top_p)
        if behaviour.isinf().any():
            continue  # never drawn
        ids = torch.zeros(len(text), dtype=torch.int64)
        facts = Drawn(log_q.detach(), P.log_probs(text), behaviour, ids)
        assert settings.sequence_term is not None
        slope = SEQUENCE_FUNCTIONS[settings.sequence_term](settings, facts, ONE).slope
        total = total + behaviour.sum().exp() * (slope * log_q).sum()
    total.backward()
    assert leaf.grad is not None
    return leaf.grad


def sequence_gradient() -> Tensor:
    """The gradient of reverse KL over texts."""
    leaf = TABLES[0].clone().requires_grad_()
    student, teacher = zip(
        *((Model(leaf).log_probs(text).sum(), P.log_probs(text).sum()) for text in texts()),
        strict=True,
    )
    log_q, log_p = torch.stack(student), torch.stack(teacher)
    torch.testing.assert_close(log_q.exp().sum().item(), 1.0, rtol=1e-12, atol=0)
    (log_q.exp() * (log_q - log_p)).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def step_gradient(temperature: float, mix: float) -> Tensor:
    """The gradient of reverse KL of one token, at the beginnings that the behaviour writes."""
    leaf = TABLES[0].clone().requires_grad_()
    seen: dict[tuple[int, ...], float] = {}
    for text in texts():
        probability = float(behaviour_of(text, temperature, mix).sum().exp())
        for place in range(len(text)):
            seen[text[:place]] = seen.get(text[:place], 0.0) + probability
    total = torch.zeros((), dtype=torch.float64)
    for beginning, probability in seen.items():
        row = Model._row(beginning)
        q, p = leaf[row].log_softmax(-1), P.logits[row].log_softmax(-1)
        total = total + probability * (q.exp() * (q - p)).sum()
    total.backward()
    assert leaf.grad is not None
    return leaf.grad


BEHAVIOURS = [(1.0, 0.0), (1.0, 0.2), (1.6, 0.0), (0.7, 0.5)]


def test_the_enumeration_has_every_text_once() -> None:
    every = list(texts())
    assert len(every) == len(set(every)) == 1 + 3 + 9 * 4
    total = sum(float(behaviour_of(text, 0.7, 0.5).sum().exp()) for text in every)
    assert total == pytest.approx(1.0)


def test_the_policy_gradient_is_the_gradient_of_the_texts_reverse_kl() -> None:
    found = expected_gradient(config(discount=1.0), 1.0, 0.0)
    torch.testing.assert_close(found, sequence_gradient(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("temperature", "mix"), BEHAVIOURS)
def test_weights_of_texts_correct_any_behaviour(temperature: float, mix: float) -> None:
    settings = config(discount=1.0, importance_weight="sequence")
    found = expected_gradient(settings, temperature, mix)
    torch.testing.assert_close(found, sequence_gradient(), rtol=1e-10, atol=1e-12)


def test_weights_of_texts_leave_out_what_top_p_cut_away_and_nothing_else() -> None:
    """The rewards of every beginning that can be drawn, each as likely as the student makes it."""
    leaf, top_p = TABLES[0].clone().requires_grad_(), 0.8
    total = torch.zeros((), dtype=torch.float64)
    beginnings = {text[:length] for text in texts() for length in range(1, len(text) + 1)}
    for beginning in sorted(beginnings):
        if not behaviour_under_top_p(beginning, top_p).isinf().any():
            log_q = Model(leaf).log_probs(beginning)
            reward = P.log_probs(beginning)[-1] - log_q[-1].detach()
            total = total - log_q.sum().exp() * reward
    total.backward()
    settings = config(discount=1.0, importance_weight="sequence")
    found = expected_gradient(settings, 1.0, 0.0, top_p)
    assert leaf.grad is not None
    torch.testing.assert_close(found, leaf.grad, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(found, sequence_gradient(), rtol=0.05)


@pytest.mark.parametrize(("temperature", "mix"), BEHAVIOURS[1:])
def test_without_weights_another_behaviour_gives_another_gradient(
    temperature: float, mix: float
) -> None:
    found = expected_gradient(config(discount=1.0), temperature, mix)
    assert not torch.allclose(found, sequence_gradient(), rtol=0.05)


@pytest.mark.parametrize("term", ["kl_reward", "k2"])
@pytest.mark.parametrize(("temperature", "mix"), BEHAVIOURS)
def test_weights_of_tokens_give_reverse_kl_at_what_is_seen(
    term: str, temperature: float, mix: float
) -> None:
    found = expected_gradient(config(term, importance_weight="token"), temperature, mix)
    torch.testing.assert_close(found, step_gradient(temperature, mix), rtol=1e-10, atol=1e-12)


def test_one_step_is_not_the_whole_text() -> None:
    assert not torch.allclose(step_gradient(1.0, 0.0), sequence_gradient(), rtol=0.05)


def test_the_papers_split_into_one_step_and_the_rest_is_the_whole() -> None:
    """The rewards behind a token by the policy gradient, its own exactly: MiniLLM's two parts."""
    rest = expected_gradient(config(discount=1.0, include_current=False), 1.0, 0.0)
    found = rest + step_gradient(1.0, 0.0)
    torch.testing.assert_close(found, sequence_gradient(), rtol=1e-10, atol=1e-12)
