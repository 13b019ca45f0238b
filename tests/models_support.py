"""A tiny student, and a recorded trial that has not yet recorded it."""

import shutil
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from records_support import make_sinks, make_tracker, plan_of, trial_of

from service.record.entries import ModelEntry, ModelFacts
from service.record.sink import SinkFactory, now_ms
from service.states import TrialState

VALUES = {"divergence": "forward_kl", "tau": 2.0}
FACTS = ModelFacts(
    pipeline="text-generation",
    prompt_template="say {prompt} now",
    made_from={"teacher": "gpt2-xl", "student": "gpt2"},
)
SCORES = {"rouge_l": 12.5, "cross_entropy": 2.0}


def save_student(folder: Path) -> Path:
    """Writes a Hugging Face folder as a trial leaves it: a tiny model with its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<end>": 0, "say": 1, "now": 2, "hello": 3}, "<end>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<end>", pad_token="<end>"
    ).save_pretrained(folder)
    config = GPT2Config(
        vocab_size=4, n_embd=8, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


class Recorded:
    """A trial whose metrics are in the record, and its student still in its folder."""

    def __init__(self, uri: str, home: Path, trained: Path) -> None:
        self.uri, self.home, self.folder = uri, home, home / "trials" / "0" / "student"
        shutil.copytree(trained, self.folder)
        self.sinks = SinkFactory(uri, make_sinks(uri, home).spool, model=FACTS)
        self.plan, tracker = plan_of(), make_tracker(uri, home)
        sweep = tracker.start_sweep(self.plan)
        self.run = tracker.start_trial(
            sweep, trial_of(self.plan, 0, VALUES), hyperparameters=VALUES, label=None
        )
        tracker.finish_trial(self.run, TrialState.COMPLETED, objective=SCORES["rouge_l"])
        tracker.close()
        sink = self.sinks(self.run)
        sink.log(4, SCORES | {"loss": 3.0})
        assert sink.close(10)

    def record_student(self, *, as_earlier: bool = False) -> None:
        """Records it; as_earlier: as artifacts of the run, as versions did that knew no models."""
        sinks = make_sinks(self.uri, self.home) if as_earlier else self.sinks
        sink = sinks(self.run)
        sink.keep_student(self.folder)
        assert sink.close(30)

    @property
    def entry(self) -> ModelEntry:
        return ModelEntry(
            run=self.run, at_ms=now_ms(), path=str(self.folder), name="student", facts=FACTS
        )

    def models(self) -> list[Any]:
        return list(MlflowClient(self.uri).search_logged_models(["1"]))
