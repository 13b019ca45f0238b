"""The section `teacher_cache` of a sweep's document."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainers.files.urls import is_url
from trainers.trial.kinds import Gib, Name, NonNegative, Workers
from trainers.trial.strict import Strict

# More of its logits than that, and a teacher's hidden states are no larger.
LARGEST_K = 4096
# About what two neighbouring temperatures of a sweep differ by, in the gradient of the soft loss.
LARGEST_BIAS = 0.05


class TeacherCache(Strict):
    """Whether the teacher runs once: its last hidden states, on disk, serve every trial."""

    mode: Annotated[
        Literal["auto", "online", "required"],
        Field(description="auto: cached where it fits and pays, else every trial asks the teacher"),
    ] = "auto"
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None,
        Field(description="of what is stored; default: what the teacher emits, which is exact"),
    ] = None
    top_k: Annotated[
        int | None,
        Field(
            ge=1,
            le=LARGEST_K,
            description="store so many logits of each position and a fitted tail, not hidden "
            "states: smaller, and off by what is measured; default: hidden states",
            exclude_if=lambda k: k is None,
        ),
    ] = None
    max_bias: Annotated[
        NonNegative,
        Field(
            description="of a cache that is not exact, the largest error of the soft loss's "
            "gradient at the temperatures that are tried, relative to it; more is refused",
            exclude_if=lambda bias: bias == LARGEST_BIAS,
        ),
    ] = LARGEST_BIAS
    max_gib: Annotated[
        Gib | None, Field(description="the largest cache; default: what the disk can spare")
    ] = None
    gpus: Annotated[
        Workers,
        Field(description="of one builder; several take a teacher larger than one, layerwise"),
    ] = 1
    folder: Name | None = Field(
        default=None,
        description=(
            "where caches are stored, seen alike by all nodes: a folder, or a URL (s3://…; then "
            "workers read a copy on their own disk); default: the home folder"
        ),
    )

    @model_validator(mode="after")
    def _large_teacher(self) -> "TeacherCache":
        if self.gpus > 1 and self.mode != "required":
            raise ValueError(
                "a teacher that needs several GPUs cannot be asked in every trial: mode must be "
                f"required, but got gpus={self.gpus} with mode={self.mode}"
            )
        return self

    @model_validator(mode="after")
    def _one_storage(self) -> "TeacherCache":
        if self.top_k is not None and self.dtype is not None:
            raise ValueError(
                "top_k: it must be given without dtype, which is that of hidden states, but got "
                f"{self.top_k} with dtype={self.dtype}. Leave one out"
            )
        return self

    @property
    def storage(self) -> str | None:
        """What is asked to be stored: a dtype, or top<k>; None for what the teacher emits."""
        return self.dtype if self.top_k is None else f"top{self.top_k}"

    @property
    def url(self) -> str | None:
        """The folder where it is a URL."""
        return self.folder if self.folder and is_url(self.folder) else None

    @property
    def is_elsewhere(self) -> bool:
        """Whether caches are built outside the home folder."""
        return self.folder is not None and not self.url
