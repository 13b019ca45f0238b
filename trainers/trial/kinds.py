"""The kinds of numbers and texts that fields have, each with its bounds; no torch.

Each number has an upper bound far above what anyone trains with, so that whatever is computed from
several of them is still a finite number.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from trainers.files.names import CONTROL


def _no_switch(value: Any) -> Any:
    """Python counts true and false among the numbers; a sweep's writer does not."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, but got {value}")
    return value


NOT_A_SWITCH = BeforeValidator(_no_switch)
Number = Annotated[float, Field(allow_inf_nan=False), NOT_A_SWITCH]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), NOT_A_SWITCH]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), NOT_A_SWITCH]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NOT_A_SWITCH]
Epochs = Annotated[float, Field(gt=0, le=10**6, allow_inf_nan=False), NOT_A_SWITCH]
Seconds = Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False), NOT_A_SWITCH]
Gib = Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False), NOT_A_SWITCH]

LARGEST_COUNT = 10**9
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT), NOT_A_SWITCH]
CountOrNone = Annotated[int, Field(ge=0, le=LARGEST_COUNT), NOT_A_SWITCH]
Length = Annotated[int, Field(ge=1, le=10**7, description="in tokens"), NOT_A_SWITCH]
Workers = Annotated[int, Field(ge=1, le=10_000), NOT_A_SWITCH]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1), NOT_A_SWITCH]

# Ray counts in ten-thousandths of a CPU or GPU.
Cpus = Annotated[float, Field(ge=1e-4, le=10_000, allow_inf_nan=False), NOT_A_SWITCH]
Gpus = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False), NOT_A_SWITCH]

# The names that transformers knows in every release that this project goes with.
Attention = Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"]

LONGEST_NAME = 1_000


def _name(text: str) -> str:
    if not text.strip():
        raise ValueError(f"must be text that is not empty, but got {text!r:.80}")
    if len(text) > LONGEST_NAME:
        raise ValueError(f"must have at most {LONGEST_NAME} characters, but got {len(text)}")
    if CONTROL.search(text):
        raise ValueError(f"must have no control characters, but got {text!r:.80}")
    return text


# Of a file, a folder, a model, an experiment …
Name = Annotated[str, AfterValidator(_name)]


def relative_name(text: str) -> str:
    """Returns the name of a file or folder below another; raises `ValueError` for one that would
    leave it."""
    parts = text.split("/")
    if "\\" in text or not all(part.strip() and part not in (".", "..") for part in parts):
        raise ValueError(
            "must be a name below a folder, without '..', '\\' or '/' at an end, "
            f"but got {text!r:.80}"
        )
    return text


RelativeName = Annotated[Name, AfterValidator(relative_name)]
# Of an evaluation set: what MLflow takes in a name, without the slash that parts the names there.
SET_NAME = r"^[A-Za-z0-9_.-]+$"
SetName = Annotated[str, Field(pattern=SET_NAME, max_length=100)]
SweepId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,119}$")]
