import json
from pathlib import Path

from transformers import AutoTokenizer

from trainers.tasks.causal_lm import tokenizer
from trainers.tasks.causal_lm.record import Record


def test_a_saved_tokenizer_says_nothing_of_where_it_was_loaded(tmp_path: Path) -> None:
    words = "the quick brown fox jumps over a lazy dog and then sleeps through the day " * 9
    tokenizer.train([Record(instruction=words, response=words)], "{instruction}", 300, tmp_path)
    AutoTokenizer.from_pretrained(tmp_path, local_files_only=True).save_pretrained(tmp_path / "b")
    before = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    tokenizer.forget_place(tmp_path / "b")
    after = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    # transformers itself notes these two, or the test shows nothing
    assert before.keys() - after.keys() >= {"is_local", "local_files_only"}
    assert after == {name: before[name] for name in after}
    again = AutoTokenizer.from_pretrained(tmp_path / "b")
    assert again.decode(again("lazy dog")["input_ids"]) == "lazy dog"
    assert again.eos_token == "<|endoftext|>"
