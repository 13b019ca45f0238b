"""What people read of prepared examples; no torch."""

from collections.abc import Collection
from pathlib import Path

import datasets
import numpy as np

from trainers.tasks.causal_lm import templates
from trainers.tasks.causal_lm.facts import TOKENIZER_FOLDER, damaged
from trainers.tasks.causal_lm.tokenizer_files import load_quickly

SPLIT = "validation"


def prompts_of(folder: Path, ids: Collection[int], *, template: str) -> dict[int, str]:
    """Returns what validation examples of the prepared data in `folder` ask, by their ids, in one
    line; none where the tokenizer needs torch, or code of its own. Raises `ValueError` where the
    data is damaged."""
    tokenizer = load_quickly(folder / TOKENIZER_FOLDER)
    if tokenizer is None:
        return {}
    try:
        rows = datasets.load_from_disk(str(folder / SPLIT))
        known = np.asarray(rows.data.column("example_id").to_numpy())
        chosen = [rows[int(row)] for row in np.flatnonzero(np.isin(known, list(ids)))]
    except Exception as error:  # Arrow and `datasets` raise many kinds
        raise damaged(folder / SPLIT, folder, error) from error
    found = {}
    for row in chosen:
        prompt = row["input_ids"][: row["num_prompt_tokens"]]
        text = tokenizer.decode(prompt, skip_special_tokens=True)
        found[int(row["example_id"])] = " ".join(templates.asked(template, text).split())
    return found
