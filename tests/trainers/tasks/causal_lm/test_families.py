"""Families of models: the loss of the first step against float64, and greedy text against a full
forward pass at each step."""

from typing import Any

import pytest
import torch
from families_support import FAMILIES, VOCAB_SIZE, make
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext
from trainers.signal import TeacherSignal
from trainers.tasks.causal_lm import generation, models
from trainers.tasks.causal_lm import steps as stepping
from trainers.tasks.causal_lm.generation import Decoding
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.trial.config import TrialConfig

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15], [16, 17], [3, 3, 3, 3]]
NEW_TOKENS = 8


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    made = make(request.param)
    with torch.no_grad():
        # far from flat, so that errors show
        made.get_output_embeddings().weight.mul_(20)
    return made


def naive(model: Any, prompt: list[int], ends: frozenset[int]) -> list[int]:
    ids: list[int] = []
    for _ in range(NEW_TOKENS):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids]), use_cache=False).logits[0, -1]
        token = int(logits.argmax())
        if token in ends:
            break
        ids.append(token)
    return ids


def greedy(model: Any, ends: frozenset[int]) -> list[list[int]]:
    decoding = Decoding(
        temperature=0,
        max_new_tokens=NEW_TOKENS,
        no_repeat_ngram_size=0,
        end_token_ids=ends,
        pad_token_id=0,
    )
    head = models.head_of(model, VOCAB_SIZE)
    prompts = list(enumerate(PROMPTS))
    drawn = generation.generate(model, head, prompts, seed=1, decoding=decoding)
    return [drawn[number] for number in range(len(PROMPTS))]


def test_greedy_text_is_that_of_a_full_forward_at_each_step(model: Any) -> None:
    assert stepping.cache_is_right(model, PROMPTS[2]), "the slow way should not be needed"
    free = [naive(model, prompt, frozenset()) for prompt in PROMPTS]
    assert greedy(model, frozenset()) == free
    # some rows end early and leave the cache, at different steps
    ends = frozenset({free[0][1], free[2][4]})
    assert greedy(model, ends) == [naive(model, prompt, ends) for prompt in PROMPTS]


def reference_loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """0.3 cross-entropy + 0.7 tau² KL(teacher || student) at tau 2, mean over positions."""
    p, log_q = (teacher / 2).softmax(-1), (student / 2).log_softmax(-1)
    soft = 4 * (p * (p.log() - log_q)).sum(-1).mean()
    return 0.3 * torch.nn.functional.cross_entropy(student, labels) + 0.7 * soft


def test_the_loss_of_the_first_step_is_that_of_float64(model: Any) -> None:
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCAB_SIZE, (2, 10), generator=random)
    wanted = torch.randn(18, VOCAB_SIZE, generator=random) * 2
    double = make(model.config.model_type).double()
    double.load_state_dict(model.state_dict())
    double.config._experts_implementation = "eager"  # grouped products know no float64
    with torch.no_grad():
        logits = double(input_ids=ids[:, :-1], use_cache=False).logits.flatten(0, 1)
    labels = ids[:, 1:].flatten()
    expected = reference_loss(logits, wanted.double(), labels).item()

    network = LanguageModel.of(model, VOCAB_SIZE)
    hidden = models.hidden_states(network.body, ids[:, :-1])
    config = TrialConfig(tau=2.0, hard_weight=0.3, soft_weight=0.7)
    loss = DistillationLoss(config, VOCAB_SIZE)
    # a teacher whose hidden states are its logits
    signal = TeacherSignal(wanted, type(network.head())(torch.eye(VOCAB_SIZE)))
    context = LossContext(torch.arange(2).repeat_interleave(9), step=0, num_steps=1)
    sums = loss(hidden, network.head(), labels, signal, context)
    assert sums.total.item() / 18 == pytest.approx(expected, rel=1e-5)
