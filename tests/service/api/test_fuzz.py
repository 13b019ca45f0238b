"""Calls that OpenAPI allows, and calls that it does not, by schemathesis: whatever comes, the
answer is one that OpenAPI describes, and none is an error of the service's own."""

import os
import shutil
from typing import Any

import pytest
import schemathesis
from api_support import NOBODYS, OTHERS, PLAN, Service
from cli_support import document
from fuzz_support import mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks

from service.api.access import COOKIE
from service.api.examples import ANSWERS
from service.home import launches_folder
from service.wire import MEDIA_TYPE, VERSION

pytestmark = pytest.mark.hypothesis  # which it takes from functions that are given to alone
# 2,000 calls, and 100,000 with FUZZ_EXAMPLES=10000, as `make fuzz` has it.
CALLS = 10 * int(os.environ.get("FUZZ_EXAMPLES", "200"))
CALLS_OF_A_ROUTE = -(-CALLS // len(ANSWERS))
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {
            # A name in a query that no route knows is passed over, as on the web at large.
            "allow-extra-parameters": False,
            "with-security-parameters": False,  # callers have tokens
        },
        "checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}},
    }
)
CALLERS = st.sampled_from(["root", "anna", "vera", "nobody"])
SWEEPS = st.sampled_from([PLAN.sweep_id, "latest", "toy", OTHERS.sweep_id, NOBODYS.sweep_id])
HEADERS = st.dictionaries(
    st.sampled_from(["Accept", "If-None-Match", "Last-Event-ID", "Cookie", "X-CSRF-Token"]),
    st.sampled_from(["*/*", f"{MEDIA_TYPE}{VERSION}0", f"{COOKIE}=kds_0_0", "0-0"])
    | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)),
)
RUNS = st.lists(st.tuples(SWEEPS, st.integers(0, 2)).map(lambda one: f"{one[0]}/{one[1]}"))
SPECS = st.sampled_from(["demo", "digits"]) | mutated([document()])


class Requests:
    """The application without its start and end: sweeps that wait stay in line."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        await self._app(scope, receive, send)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_is_one_that_openapi_describes(fresh: Service, name: str) -> None:
    app = Requests(fresh.client.app)
    described = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, config=CONFIG)
    operation = described.find_operation_by_id(name)
    cases = st.one_of([operation.as_strategy(mode) for mode in GenerationMode])
    launches, calls = launches_folder(fresh.hosted.workspace.home), 0

    @settings(max_examples=CALLS_OF_A_ROUTE, deadline=None)
    @given(case=cases, user=CALLERS, headers=HEADERS, data=st.data())
    def call(case: Case, user: str, headers: dict[str, str], data: st.DataObject) -> None:
        nonlocal calls
        calls += 1
        held_to = [*CHECKS, checks.negative_data_rejection]
        if data.draw(st.booleans()):
            aim(case, data)
            held_to = CHECKS
        token = f"Bearer {fresh.tokens.get(user, user)}"
        case.call_and_validate(headers=headers | {"Authorization": token}, checks=held_to)
        # As many may wait as may wait: later calls would all be told so.
        shutil.rmtree(launches, ignore_errors=True)

    call()
    assert calls >= CALLS_OF_A_ROUTE


def aim(case: Case, data: st.DataObject) -> None:
    """Has the call get further: to sweeps that there are, with a document that is almost right."""
    if "sweep" in case.path_parameters:
        case.path_parameters["sweep"] = data.draw(SWEEPS)
    if "run" in case.query:
        case.query["run"] = data.draw(RUNS)
    if isinstance(case.body, dict) and "spec" in case.body:
        case.body["spec"] = data.draw(SPECS)
