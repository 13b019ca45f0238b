"""A journal that was changed inside a line is named with the line, whatever was changed."""

import json
import random
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import JobError
from service.search.journal import open_storage, read_storage


def journal(path: Path) -> list[bytes]:
    storage = open_storage(str(path))
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=storage, study_name="s", sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("tau", 0.5, 2.0), n_trials=2)
    return path.read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return journal(tmp_path_factory.mktemp("study") / "study.journal")


@pytest.mark.parametrize(
    "change",
    [
        {"op_code": 99},
        {"op_code": "create"},
        {"distribution": "{"},
    ],
)
def test_a_record_of_another_form_is_named_with_its_line(
    tmp_path: Path, lines: list[bytes], change: dict[str, object]
) -> None:
    at = next(i for i, line in enumerate(lines) if b"distribution" in line)
    record = json.loads(lines[at]) | change
    path = tmp_path / "study.journal"
    path.write_bytes(b"".join([*lines[:at], json.dumps(record).encode() + b"\n", *lines[at + 1 :]]))
    content = path.read_bytes()
    for read in (read_storage, open_storage):
        with pytest.raises(JobError, match=rf"study.journal: .* line {at + 1} got .*head -n {at} "):
            read(str(path))
    assert path.read_bytes() == content


@given(seed=st.integers(0, 2**32))
def test_any_damage_is_our_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], seed: int
) -> None:
    draw = random.Random(seed)
    content = bytearray(b"".join(lines))
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(content))
        content[at : at + draw.randint(0, 4)] = draw.randbytes(draw.randint(0, 4))
    path = tmp_path_factory.getbasetemp() / "damaged.journal"
    path.write_bytes(content)
    try:
        read_storage(str(path))
    except JobError as error:
        assert str(path) in str(error)
