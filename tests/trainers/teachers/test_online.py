"""The online teacher: frozen, and its signal is what the model says."""

from pathlib import Path

import numpy as np
import torch

from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.teachers.online import OnlineTeacher
from trainers.trial.sources import Prepared


def test_its_signal_holds_the_models_logits_and_no_graph(prepared: Prepared) -> None:
    model = models.load(Path(prepared.teacher), attention=None, dtype=torch.float32)
    teacher = OnlineTeacher(LanguageModel.of(model.train(), prepared.vocab_size))
    batch = TokenSplit.open(Path(prepared.data), "train").collate(np.array([0, 5, 9]))
    signal = teacher.signal(batch)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not signal.hidden.requires_grad
    own = model(input_ids=batch.input_ids).logits.flatten(0, 1)[batch.positions]
    torch.testing.assert_close(signal.logits(), own)
