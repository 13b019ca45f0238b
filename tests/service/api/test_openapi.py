"""What OpenAPI says: every route, each answer and each problem with an example that its own schema
takes, and the statuses as the documentation lists them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from api_support import Service

from service.actions.json_types import adapter_of

PAGE = Path(__file__).resolve().parents[3] / "docs" / "service.md"
PROBLEM = "application/problem+json"
# What the command of another name prints.
COMMANDS = {
    **{name: name for name in ("plan", "submit", "sweeps", "status", "trials", "best", "compare")},
    **{name: name for name in ("report", "presets", "logs", "stop")},
    "best_of_all": "best",
    "confirm": "submit",
    "promote": "promote",
    "statuses": "status",
    "stop_trial": "stop-trial",
    "users": "users list",
    "deeds": "users log",
}


@pytest.fixture
def described(served: Service) -> dict[str, Any]:
    found: dict[str, Any] = served(None, "GET", "/api/v1/openapi.json").json()
    return found


def operations(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, by_method in described["paths"].items():
        for operation in by_method.values():
            yield path, operation


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What may come with each status."""
    for status, answer in operation["responses"].items():
        for content in answer.get("content", {}).values():
            yield status, content


def check(value: Any, schema: dict[str, Any], described: dict[str, Any]) -> None:
    whole = schema | {"components": described["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def resolved(schema: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = described["components"]["schemas"].get(name, schema)
    return found


def test_every_schema_that_is_named_is_there(described: dict[str, Any]) -> None:
    known = described["components"]["schemas"].keys()
    assert set(re.findall(r"#/components/schemas/(\w+)", json.dumps(described))) <= known


def test_every_route_says_what_it_does_and_who_may(described: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(described)]
    assert len(set(names)) == len(names)
    for path, operation in operations(described):
        assert operation["description"], path
        is_open = path in ("/healthz", "/readyz")
        assert is_open is ("security" not in operation)
        assert is_open or {"401", "403", "429"} <= operation["responses"].keys()


def test_every_answer_has_an_example_that_its_schema_takes(described: dict[str, Any]) -> None:
    for _, operation in operations(described):
        for status, content in contents(operation):
            # A stream of events has no form that JSON Schema describes.
            check(content["example"], content.get("schema", {}), described)
            command = COMMANDS.get(operation["operationId"])
            if status.startswith("2") and command is not None:
                adapter_of(command).validate_json(as_printed(content["example"]))


def as_printed(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example)


def test_every_body_has_an_example_that_its_schema_takes(described: dict[str, Any]) -> None:
    found = 0
    for _, operation in operations(described):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = resolved(content["schema"], described)
            check(schema["example"], schema, described)
            found += 1
    assert found == 6


def test_examples_of_questions_are_ones(described: dict[str, Any]) -> None:
    for _, operation in operations(described):
        for one in operation.get("parameters", []):
            for example in one["schema"].get("examples", []):
                check(example, one["schema"], described)


def test_every_problem_is_told_in_its_parts(described: dict[str, Any]) -> None:
    for _, operation in operations(described):
        for status, content in contents(operation):
            if status.startswith("2"):
                continue
            problem = content["example"]
            assert problem["status"] == int(status)
            for part in problem["errors"]:
                assert all(part.values()), f"{status} does not say all of {part}"


def test_the_documentation_lists_every_status_with_its_exit_code(described: dict[str, Any]) -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| .* \| ([\d, ]+) \|$", PAGE.read_text(), re.MULTILINE)
    listed = {
        (int(status), int(code))
        for statuses, codes in rows
        for status in statuses.split(",")
        for code in codes.split(",")
    }
    told = {
        (int(status), content["example"]["exit_code"])
        for _, operation in operations(described)
        for status, content in contents(operation)
        if not status.startswith("2")
    }
    assert told <= listed
    of_no_route = {405}
    assert {status for status, _ in listed} == {status for status, _ in told} | of_no_route
