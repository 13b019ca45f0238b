"""Code that a model or a tokenizer brings along runs when its own role is trusted, and then
everywhere: in the plan, while preparing, in trials."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_support import LENGTHS, gpt2, request, trial

from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.tasks.causal_lm.models import hidden_size
from trainers.training.run import run_trial
from trainers.trial.reporting import Outcome, SilentReporter
from trainers.trial.sources import ModelSource, PrepareRequest
from trainers.trial.sources import TokenizerSource as Source

LETTERS = """
import json
from pathlib import Path
from transformers import PreTrainedTokenizer

Path(__file__).with_name("ran").touch()

class LettersTokenizer(PreTrainedTokenizer):
    vocab_files_names = {"vocab_file": "letters.json"}
    model_input_names = ["input_ids"]

    def __init__(self, vocab_file, **options):
        self.known = json.loads(Path(vocab_file).read_text())
        self.ids = {one: n for n, one in enumerate(self.known)}
        options.setdefault("eos_token", "<end>")
        super().__init__(**options)

    @property
    def vocab_size(self):
        return len(self.known)

    def get_vocab(self):
        return dict(self.ids) | self.added_tokens_encoder

    def _tokenize(self, text):
        return list(text)

    def _convert_token_to_id(self, token):
        return self.ids.get(token, 0)

    def _convert_id_to_token(self, number):
        return self.known[number]

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens)

    def save_vocabulary(self, folder, filename_prefix=None):
        path = Path(folder) / "letters.json"
        path.write_text(json.dumps(self.known))
        return (str(path),)
"""
MODEL = """
from transformers import GPT2Config, GPT2LMHeadModel

class MineConfig(GPT2Config):
    model_type = "mine"

class Mine(GPT2LMHeadModel):
    config_class = MineConfig
"""


def letters(folder: Path) -> Path:
    """A tokenizer that only its own code can read."""
    folder.mkdir(parents=True, exist_ok=True)
    known = ["?", "<end>", *map(chr, range(32, 127)), "\n"]
    (folder / "letters.json").write_text(json.dumps(known))
    (folder / "letters.py").write_text(LETTERS)
    described = {
        "tokenizer_class": "LettersTokenizer",
        "eos_token": "<end>",
        "auto_map": {"AutoTokenizer": ["letters.LettersTokenizer", None]},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    return folder


def with_letters(folder: Path, *, trust: bool) -> PrepareRequest:
    named = Source(model=str(letters(folder / "letters")), trust_remote_code=trust)
    return request(
        folder,
        tokenizer=named,
        teacher=ModelSource(config=gpt2(1, 16, n_positions=LENGTHS["max_tokens"])),
        student=ModelSource(config=gpt2(1, 16, n_positions=LENGTHS["max_tokens"])),
    )


@pytest.mark.parametrize("use", [inspect, prepare])
def test_a_tokenizer_without_trust_is_refused(
    tmp_path: Path, use: Callable[[PrepareRequest, Path], Any]
) -> None:
    with pytest.raises(
        ValueError, match=r"tokenizer: the tokenizer in .*letters must .*trust_remote_code: true"
    ):
        use(with_letters(tmp_path, trust=False), tmp_path / "home")


def test_a_trusted_tokenizer_is_planned_prepared_and_trained_with(tmp_path: Path) -> None:
    asked = with_letters(tmp_path, trust=True)
    assert inspect(asked, tmp_path / "home").vocab_size == 98
    made = prepare(asked, tmp_path / "home")
    assert made.vocab_size == 98
    assert inspect(asked, tmp_path / "home").vocab_size == 98
    file = trial(made, steps=2, evaluations=1)
    trusting = file.model_copy(update={"trust_remote_code": ("tokenizer",)})
    ended = run_trial(trusting, tmp_path / "trial", reporter=SilentReporter())
    assert ended.outcome is Outcome.COMPLETED
    with pytest.raises(ValueError, match=r"the tokenizer in .* but it brings code of its own"):
        run_trial(file, tmp_path / "another", reporter=SilentReporter())


def mine(folder: Path, source: str) -> Path:
    """A model that only its own code can make."""
    import shutil

    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    parts = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.Mine"}
    config |= {"model_type": "mine", "auto_map": parts, "architectures": ["Mine"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(MODEL)
    return folder


def test_a_model_without_trust_is_refused_in_the_plan(tmp_path: Path, prepared: Any) -> None:
    folder = mine(tmp_path / "mine", prepared.student)
    for trust in (True, False):
        source = ModelSource(model=str(folder), trust_remote_code=trust)
        asked = request(tmp_path, student=source, teacher=ModelSource(config=gpt2(1, 16)))
        if trust:
            inspect(asked, tmp_path / "home")
            continue
        rule = r"student\.model: '.*mine' must .*code of its own for a 'mine'.*under student"
        with pytest.raises(ValueError, match=rule):
            inspect(asked, tmp_path / "home")
    assert hidden_size(folder, trust=True) == 16
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        hidden_size(folder)
