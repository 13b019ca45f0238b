"""The section `search` of a document: parsed once, and written out again exactly as it was read."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from search_spaces.space import SearchSpace
from trainers.nearest import nearest
from trainers.trial.config import NOT_SEARCHABLE, TrialConfig

# What others call a field of ours, where the nearest name is another one.
ALSO_CALLED = {"temperature": "tau"}


class WrittenSpace(SearchSpace):
    """A search space that keeps the text it was read from: a sweep's id is a hash over that."""

    written: dict[str, Any]


class _ReadFromMapping:
    """Makes pydantic read a `WrittenSpace` from the mapping in the document, and write that mapping
    again. The space itself would be written with every default and with 1 as 1.0."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        mapping = handler.generate_schema(Annotated[dict[str, Any], Field(min_length=1)])
        return core_schema.no_info_after_validator_function(
            read_search,
            mapping,
            serialization=core_schema.plain_serializer_function_ser_schema(attrgetter("written")),
        )


Search = Annotated[WrittenSpace, _ReadFromMapping()]


def read_search(written: Mapping[str, Any]) -> WrittenSpace:
    """Returns the space that the section describes. Raises `ValueError` beginning with
    `search.NAME` when a name is no field that can be searched, or its domain is wrong."""
    for name in written:
        _check_name(name)
    return WrittenSpace(domains=SearchSpace.parse(written).domains, written=dict(written))


def _check_name(name: str) -> None:
    known = [field for field in TrialConfig.model_fields if field not in NOT_SEARCHABLE]
    if name in NOT_SEARCHABLE:
        raise ValueError(
            f"search.{name}: this field cannot be searched: {NOT_SEARCHABLE[name]}, "
            f"but got it under search. Give it one value in its own section."
        )
    if name not in known:
        raise ValueError(
            f"search.{name}: a searched name must be a field of a trial, but got '{name}'."
            f"{nearest(ALSO_CALLED.get(name, name), known)} Known: {', '.join(known)}."
        )
