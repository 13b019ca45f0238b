"""One tiny teacher, student and data set for all tests of training."""

from pathlib import Path

import pytest
import torch
from training_support import request

from trainers.preparing.prepare import prepare
from trainers.trial.sources import Prepared


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Bits depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """What `training_support.request` asks for, made once."""
    folder: Path = tmp_path_factory.mktemp("prepared")
    return prepare(request(folder), folder / "home")
