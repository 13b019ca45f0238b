"""From the raw document to a `SweepSpec`, and the schema that describes such a document."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from search_spaces import parsing
from service.errors import SpecError
from service.spec.checks import check_spec
from service.spec.document import SweepSpec
from service.spec.messages import explain
from trainers.files.urls import secret_places
from trainers.trial.config import NOT_SEARCHABLE, TrialConfig


def parse_spec(document: Mapping[str, Any]) -> SweepSpec:
    """Returns the spec in `document`. Raises `SpecError`, a line for each thing that is wrong."""
    secrets = [_secret_at(place) for place in secret_places(document)]
    try:
        spec = SweepSpec.model_validate(dict(document))
    except ValidationError as error:
        raise SpecError(_printable("\n".join([*explain(error, SweepSpec), *secrets]))) from error
    if secrets:
        raise SpecError(_printable("\n".join(secrets)))
    try:
        check_spec(spec)
    except ValueError as error:
        raise SpecError(_printable(str(error))) from error
    return spec


def _secret_at(place: str) -> str:
    return (
        f"{place}: must hold no password or token, since it is recorded with the plan, but got "
        "one. Leave it out: a database's is read from ~/.pgpass or PGPASSWORD where the sweep "
        "runs, MLflow's from MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN."
    )


def _printable(text: str) -> str:
    """Returns the text as any terminal can write it: a document's own words may hold half a
    character."""
    return text.encode("utf-8", "backslashreplace").decode()


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a sweep file, with every searchable name under `search`."""
    schema = SweepSpec.model_json_schema()
    domain = parsing.json_schema()
    schema["$defs"] |= domain.pop("$defs", {})
    schema["$defs"]["Domain"] = domain
    fields = {
        name: {"description": field.description or "", "$ref": "#/$defs/Domain"}
        for name, field in TrialConfig.model_fields.items()
        if name not in NOT_SEARCHABLE
    }
    schema["properties"]["search"] |= {"properties": fields, "additionalProperties": False}
    objective = schema["properties"]["objective"]
    one = {"$ref": "#/$defs/Objective"}
    schema["properties"]["objective"] = {"anyOf": [one, objective]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
