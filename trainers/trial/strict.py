"""The base of documents and records: what is not known is refused, and nothing changes later."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A model that refuses unknown fields and whose values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
