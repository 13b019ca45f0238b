"""What the headers of a model's files say."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from trainers.files.model_files import SINGLE, half_precision, num_parameters, stored_dtype


def folder_of(folder: Path, *tensors: Tensor) -> Path:
    save_file({f"weight.{i}": tensor for i, tensor in enumerate(tensors)}, folder / SINGLE)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_models_dtype_is_that_of_most_of_its_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    norm = torch.ones(8, dtype=torch.float32)
    folder = folder_of(tmp_path, torch.ones(5, 9, dtype=dtype), norm)
    name = str(dtype).removeprefix("torch.")
    assert stored_dtype(folder) == name
    assert half_precision(folder) == (None if name == "float32" else name)
    assert num_parameters(folder) == 53


def test_packed_weights_and_none_at_all_have_no_dtype(tmp_path: Path) -> None:
    assert stored_dtype(tmp_path) is None
    scales = torch.ones(4, dtype=torch.float16)
    assert stored_dtype(folder_of(tmp_path, torch.ones(9, dtype=torch.uint8), scales)) is None
