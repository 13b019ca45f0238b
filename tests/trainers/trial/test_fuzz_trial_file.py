"""trial.json that is almost right: a trial, or a ValueError that names the file."""

import json
from typing import Any

import pytest
from fuzz_support import ends_well, mutated
from hypothesis import given
from hypothesis import strategies as st

from trainers.trial.config import TrialConfig
from trainers.trial.trial_file import TrialFile, TrialPaths

PATHS = TrialPaths(teacher="/teacher", student="/student", data="/data")
CONFIGS: list[dict[str, Any]] = [
    {},
    {"policy": "cist", "divergence": "generalized_jsd", "steps": 3},
    {"divergence": "interpolated", "attention_implementation": "eager"},
]
NUMERICS = {"device": "cpu", "precision": "float32", "threads": 2, "deterministic": True}
DOCUMENTS = [
    TrialFile(config=TrialConfig.model_validate(config), paths=PATHS, numerics=NUMERICS).model_dump(
        mode="json"
    )
    for config in CONFIGS
]


@given(document=mutated(DOCUMENTS))
def test_a_changed_trial_is_read_or_refused(
    document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "trial.json"
    path.write_text(json.dumps(document))
    trial = ends_well(lambda: TrialFile.read(path), ValueError)
    if trial is not None:
        trial.write(path)
        assert TrialFile.read(path) == trial


@given(
    raw=st.binary(max_size=80)
    | st.text(max_size=80).map(lambda text: text.encode("utf-8", "ignore"))
)
def test_any_file_is_read_or_refused(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "trial.json"
    path.write_bytes(raw)
    assert ends_well(lambda: TrialFile.read(path), ValueError) is None
