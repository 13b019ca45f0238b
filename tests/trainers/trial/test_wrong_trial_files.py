"""What a trial.json may not say: refused when it is read, or before anything is trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers import __main__ as alone
from trainers.trial.config import TrialConfig
from trainers.trial.trial_file import TrialFile, TrialPaths
from trainers.world import check_device

PATHS = TrialPaths(teacher="/teacher", student="/student", data="/data")


def written(tmp_path: Path, **changes: Any) -> Path:
    document = TrialFile(config=TrialConfig(), paths=PATHS).model_dump(mode="json") | changes
    path = tmp_path / "trial.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "tpu"},
        {"device": ""},
        {"numerics": {"threads": -1}},
        {"numerics": {"threads": 0}},
        {"numerics": {"threads": "all"}},
        {"numerics": {"precision": "float8"}},
        {"numerics": {"precision": "auto"}},
        {"numerics": {"matmul_precision": "low"}},
        {"numerics": {"deterministic": 3}},
        {"numerics": {"device": "tpu"}},
        {"numerics": {"x": float("inf")}},
        {"world_size": 0},
        {"attempt": -1},
        {"trial": -2},
        {"teacher_source": "an online one"},
        {"teacher_source": "cache:float8"},
    ],
)
def test_it_is_refused_with_file_and_field(
    tmp_path: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, **changes)
    (name,) = changes
    with pytest.raises(
        ValueError, match=rf"trial\.json is not a trial\.json of format 1: .*\n{name}"
    ):
        TrialFile.read(path)
    assert alone.main([str(path), "--output", str(tmp_path / "out")]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff\xfe{\x00}\x00", b"\x00", b"[" * 5000, b"", b"null"])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trial.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"trial\.json"):
        TrialFile.read(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_here_is_named_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_device("cpu")
    with pytest.raises(ValueError, match="device cuda needs a CUDA device, but got none: torch"):
        check_device("cuda")
    path = written(tmp_path, device="cuda")
    assert alone.main([str(path), "--output", str(tmp_path / "out")]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
