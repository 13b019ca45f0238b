"""trial.json: a trial's config, its identity and surroundings, and apart from these, where its
inputs are stored."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, field_validator, model_validator

from trainers.files.store import write_text
from trainers.trial.catalogue import CLAMP
from trainers.trial.config import TrialConfig
from trainers.trial.kinds import LARGEST_COUNT, CountOrNone, Workers
from trainers.trial.sharding import Sharding, check_sharding
from trainers.trial.sources import CodeRole, WeightsDtype
from trainers.trial.strict import Strict

FORMAT_VERSION: Literal[1] = 1
Trust = bool | tuple[CodeRole, ...]


class TrialPaths(Strict):
    """Where the inputs are stored on this machine; no part of what the trial is. All are folders,
    absolute or relative to where the trial is started."""

    teacher: str | None = Field(
        description="Hugging Face folder of the teacher; None for a supervised fit"
    )
    teacher_cache: str | None = Field(
        default=None,
        description="the teacher's cache (folder or fsspec URL), for teacher_source cache:<dtype>",
    )
    student: str = Field(description="Hugging Face folder the student starts from")
    data: str = Field(description="prepared data: train/ and validation/ as Arrow, prepared.json")
    own_modules: str | None = Field(
        default=None,
        description="modules of the user's own, found before any others",
        exclude_if=lambda folder: folder is None,  # older images refuse it
    )


class _Numerics(BaseModel):
    """What `trainers.numerics` sets a process to."""

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Workers = 1
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    deterministic: StrictBool = True


class TrialFile(Strict):
    """The content of `trial.json`. `trial` is Optuna's number, kept across attempts; -1 outside a
    sweep."""

    format_version: Literal[1] = FORMAT_VERSION
    sweep_id: str = ""
    trial: Annotated[int, Field(ge=-1, le=LARGEST_COUNT)] = -1
    attempt: CountOrNone = 0
    config: TrialConfig
    world_size: Workers = 1
    sharding: Sharding = Field(
        default=Sharding.DDP,
        description="how the workers share the student",
        exclude_if=lambda sharding: sharding == Sharding.DDP,  # older images refuse it
    )
    device: Literal["cpu", "cuda"] = "cpu"
    numerics: dict[str, Any] = Field(
        default_factory=dict, description="matmul_precision, threads, deterministic"
    )
    teacher_source: str = Field(
        default="online",
        pattern=r"^(online|cache:(float32|float16|bfloat16|top[1-9]\d{0,3}))$",
        description="online | cache:<dtype of the stored hidden states, or top<k> logits>",
    )
    teacher_dtype: WeightsDtype | None = Field(
        default=None,
        description="of the teacher's weights, in which it computes; null: of the precision",
        exclude_if=lambda dtype: dtype is None,  # older images refuse it
    )
    trust_remote_code: Trust = Field(
        default=False,
        description="whether code that models bring along may run, or the roles whose code may",
    )
    fingerprints: dict[str, str] = Field(
        default_factory=dict, description="data, teacher, student, tokenizer, own_modules"
    )
    versions: dict[str, str] = Field(default_factory=dict)
    provenance: dict[str, str] = Field(
        default_factory=dict,
        description="what it ran in: code, commit, image, machine; in the record alone",
        exclude_if=lambda facts: not facts,  # older images refuse it
    )
    paths: TrialPaths

    @field_validator("config", mode="before")
    @classmethod
    def _without_idle_clamp(cls, config: Any) -> Any:
        """Leaves out clamps at their default: older files name them under every policy, also under
        those that have none."""
        if not isinstance(config, dict) or "tau_min" not in config:
            return config
        idle = {name for name, clamp in CLAMP.items() if config.get(name) == clamp.default}
        return {name: value for name, value in config.items() if name not in idle}

    @field_validator("numerics")
    @classmethod
    def _known_numerics(cls, numerics: dict[str, Any]) -> dict[str, Any]:
        """Checks what a process is set to; the rest only says on what the trial ran."""
        _Numerics.model_validate(numerics)
        json.dumps(numerics, allow_nan=False)  # raises ValueError: the file could not keep it
        return numerics

    @model_validator(mode="after")
    def _sharding_fits(self) -> "TrialFile":
        check_sharding(self.sharding, num_workers=self.world_size, place="world_size")
        return self

    def trusts(self, role: CodeRole) -> bool:
        """Returns whether code that the model of that role, or the tokenizer, brings along may
        run."""
        given = self.trust_remote_code
        return given if isinstance(given, bool) else role in given

    @classmethod
    def read(cls, path: Path) -> "TrialFile":
        """Returns the trial in `path`. Raises `ValueError` (with the file and the rule) when it is
        not one."""
        try:
            return cls.model_validate_json(path.read_text())
        except ValueError as error:
            raise ValueError(
                f"{path} is not a trial.json of format {FORMAT_VERSION}: {error}"
            ) from error

    def write(self, path: Path) -> None:
        """Writes the trial to `path` through a temporary file, so that a half-written one is never
        read."""
        write_text(path, self.model_dump_json(indent=2) + "\n")
