"""What all types of JSON are made of."""

from pydantic import BaseModel, ConfigDict

Number = float | None


class Document(BaseModel):
    """JSON with these keys and no others."""

    model_config = ConfigDict(extra="forbid")
