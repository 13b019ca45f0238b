"""A tiny language model in a folder, as a judge of answers."""

from pathlib import Path

import torch
from training_support import gpt2
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from trainers.tasks.causal_lm.record import Record
from trainers.tasks.causal_lm.tokenizer import train

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def write_judge(
    folder: Path, *, template: str | None = TEMPLATE, says: str = "", context: int = 2048
) -> Path:
    """Writes a model with random weights; with one token as `says`, it says that for ever."""
    records = [Record(instruction="[[A]] or [[B]]", response="[[A]] [[B]] [[C]]")]
    train(records, "{instruction}", 257, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if says:
        tokenizer.add_tokens([says])
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "n_positions": context, "initializer_range": 0.4}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**gpt2(2, 16, **sizes)))
    if says:
        last = model.transformer.ln_f
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(10 * model.lm_head.weight[-1])
    model.generation_config.do_sample = True
    model.generation_config.repetition_penalty = 1.7
    model.save_pretrained(folder)
    return folder
