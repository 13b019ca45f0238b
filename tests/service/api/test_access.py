"""Who may call which route, as a table that every route has to enter; and what else callers try."""

import re
from typing import Any

import pytest
from api_support import NOBODYS, OTHERS, PLAN, Service
from fastapi.routing import APIRoute

from service.accounts.users import UserRole
from service.api.access import MOST_TRIES, Tries
from service.api.limits import MOST_BYTES

MINE, OTHER = PLAN.sweep_id, OTHERS.sweep_id
VIEWER, SUBMITTER, ADMIN = UserRole.VIEWER, UserRole.SUBMITTER, UserRole.ADMIN
DOCUMENT = {"spec": "nonsense"}  # which plans nothing
# method and path: the least role, what is sent, and whether only a sweep's owner may
TABLE: dict[tuple[str, str], tuple[UserRole | None, dict[str, Any], bool]] = {
    ("GET", "/healthz"): (None, {}, False),
    ("GET", "/readyz"): (None, {}, False),
    ("GET", "/api/v1/me"): (VIEWER, {}, False),
    ("POST", "/api/v1/plan"): (SUBMITTER, {"json": DOCUMENT}, False),
    ("POST", "/api/v1/sweeps"): (SUBMITTER, {"json": DOCUMENT}, False),
    ("GET", "/api/v1/sweeps"): (VIEWER, {}, False),
    ("GET", "/api/v1/status"): (VIEWER, {}, False),
    ("GET", "/api/v1/sweeps/{sweep}"): (VIEWER, {}, False),
    ("GET", "/api/v1/sweeps/{sweep}/status"): (VIEWER, {}, False),
    ("GET", "/api/v1/sweeps/{sweep}/plan"): (VIEWER, {}, False),
    ("GET", "/api/v1/sweeps/{sweep}/trials"): (VIEWER, {}, False),
    ("GET", "/api/v1/sweeps/{sweep}/best"): (VIEWER, {}, False),
    ("GET", "/api/v1/best"): (VIEWER, {}, False),
    ("GET", "/api/v1/sweeps/{sweep}/trials/{trial}/file"): (VIEWER, {}, False),
    ("GET", "/api/v1/compare"): (VIEWER, {"params": {"run": ["{sweep}/0", "{sweep}/1"]}}, False),
    ("GET", "/api/v1/sweeps/{sweep}/report"): (VIEWER, {}, False),
    ("GET", "/api/v1/sweeps/{sweep}/logs"): (VIEWER, {}, False),
    ("GET", "/api/v1/sweeps/{sweep}/events"): (VIEWER, {}, False),
    ("POST", "/api/v1/sweeps/{sweep}/stop"): (SUBMITTER, {}, True),
    ("POST", "/api/v1/sweeps/{sweep}/trials/{trial}/stop"): (SUBMITTER, {}, True),
    ("POST", "/api/v1/sweeps/{sweep}/resume"): (SUBMITTER, {}, True),
    ("POST", "/api/v1/sweeps/{sweep}/extend"): (SUBMITTER, {"json": {"trials": 1}}, True),
    ("POST", "/api/v1/sweeps/{sweep}/retry"): (SUBMITTER, {"json": {}}, True),
    ("POST", "/api/v1/sweeps/{sweep}/confirm"): (SUBMITTER, {"json": {}}, False),
    ("POST", "/api/v1/sweeps/{sweep}/trials/{trial}/promote"): (
        SUBMITTER,
        {"json": {"name": "mine"}},
        True,
    ),
    ("GET", "/api/v1/presets"): (VIEWER, {}, False),
    ("GET", "/api/v1/presets/{name}"): (VIEWER, {}, False),
    ("GET", "/api/v1/schema"): (VIEWER, {}, False),
    ("GET", "/api/v1/users"): (ADMIN, {}, False),
    ("GET", "/api/v1/deeds"): (ADMIN, {}, False),
    ("GET", "/metrics"): (ADMIN, {}, False),
}
# Pages, which have a table of their own.
PAGES = {
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("GET", "/"),
    ("GET", "/new"),
    ("GET", "/compare"),
    ("GET", "/sweeps/{sweep}"),
    ("GET", "/sweeps/{sweep}/report"),
    ("GET", "/static/{name}"),
    ("GET", "/favicon.ico"),
}
CLOSED = {call: row for call, row in TABLE.items() if row[0] is not None}
OF_A_SWEEP = {call: row for call, row in CLOSED.items() if "{sweep}" in f"{call}{row}"}


def call(
    served: Service, user: str | None, route: tuple[str, str], sweep: str = MINE, **more: Any
) -> Any:
    method, path = route
    given: dict[str, Any] = {**TABLE[route][1], **more}
    if "params" in given:
        runs = [one.replace("{sweep}", sweep) for one in given["params"]["run"]]
        given["params"] = {"run": runs}
    path = path.replace("{sweep}", sweep).replace("{trial}", "0").replace("{name}", "demo")
    return served(user, method, path, **given)


def test_every_route_is_in_the_table(served: Service) -> None:
    routes = {
        (method, one["path"])
        for one in walk(served.client.app.routes)  # type: ignore[attr-defined]
        for method in one["methods"] - {"HEAD"}
    }
    assert routes - {("GET", "/api/v1/openapi.json")} == TABLE.keys() | PAGES


def walk(routes: Any, prefix: str = "") -> list[dict[str, Any]]:
    """Every route, also of routers within."""
    found = []
    for one in routes:
        if isinstance(one, APIRoute) or hasattr(one, "methods"):
            found.append({"path": prefix + one.path, "methods": set(one.methods or ())})
        else:
            inner = getattr(getattr(one, "original_router", one), "routes", [])
            found += walk(inner, prefix)
    return found


@pytest.mark.parametrize("route", [one for one in TABLE if TABLE[one][0] is None], ids=str)
def test_only_health_is_open(served: Service, route: tuple[str, str]) -> None:
    assert call(served, None, route).status_code == 200


@pytest.mark.parametrize("route", CLOSED, ids=str)
def test_nobody_gets_in_without_a_token_that_holds(served: Service, route: tuple[str, str]) -> None:
    without = call(served, None, route)
    assert (without.status_code, without.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert call(served, "kds_000000000000_wrong", route).status_code == 401
    served.clock.now += 86401
    ended = call(served, "root", route)
    assert ended.status_code == 401
    assert ended.headers["content-type"] == "application/problem+json"
    assert ended.json()["errors"][0]["place"] == "token"


@pytest.mark.parametrize("route", CLOSED, ids=str)
def test_too_low_a_role_is_refused(served: Service, route: tuple[str, str]) -> None:
    least = CLOSED[route][0]
    lower = {SUBMITTER: "vera", ADMIN: "anna"}.get(least)  # type: ignore[arg-type]
    if lower is not None:
        answer = call(served, lower, route)
        assert answer.status_code == 403
        assert f"the role must be {least} or more" in answer.json()["detail"]


@pytest.mark.parametrize("route", OF_A_SWEEP, ids=str)
def test_anothers_sweep_is_not_there(served: Service, route: tuple[str, str]) -> None:
    least, _, _ = OF_A_SWEEP[route]
    answer = call(served, "anna", route, OTHER)
    assert answer.status_code == 404, answer.text
    assert answer.json()["errors"][0]["got"] == "0"
    viewer = "vera" if least is VIEWER else "paul"
    assert call(served, viewer, route, OTHER).status_code == 404


@pytest.mark.parametrize("route", [one for one in CLOSED if CLOSED[one][2]], ids=str)
def test_a_sweep_that_is_only_seen_is_left_alone(served: Service, route: tuple[str, str]) -> None:
    answer = call(served, "paul", route)
    assert answer.status_code == 403
    assert f"sweep {MINE}: must be yours for this, but it is anna's" in answer.json()["detail"]
    assert served.hosted.launches.all() == []


@pytest.mark.parametrize(
    ("user", "seen"),
    [
        ("root", {MINE, OTHER, NOBODYS.sweep_id}),
        ("anna", {MINE}),
        ("vera", {MINE}),
        ("otto", {OTHER}),
    ],
)
def test_lists_hold_what_a_user_sees(served: Service, user: str, seen: set[str]) -> None:
    for path in ("/api/v1/sweeps", "/api/v1/status"):
        assert {row["sweep_id"] for row in served(user, "GET", path).json()} == seen
    latest = served(user, "GET", "/api/v1/sweeps/latest/status").json()
    assert latest["sweep_id"] in seen


def test_a_sweep_of_the_command_line_is_the_admins_alone(served: Service) -> None:
    path = f"/api/v1/sweeps/{NOBODYS.sweep_id}/status"
    answers = [served(user, "GET", path).status_code for user in ("root", "anna", "otto")]
    assert answers == [200, 404, 404]


@pytest.mark.parametrize("name", ["all", "", "..", "%2e%2e", "../me", "x" * 300, "<script>"])
def test_no_name_of_a_sweep_opens_anything(served: Service, name: str) -> None:
    answer = served("anna", "GET", f"/api/v1/sweeps/{name}/report")
    assert answer.status_code in (404, 422), answer.text


def test_a_try_too_many_has_to_wait_and_a_right_token_never(served: Service) -> None:
    codes = [
        served(f"kds_000000000000_{number}", "GET", "/api/v1/me").status_code
        for number in range(MOST_TRIES + 2)
    ]
    assert codes == [401] * MOST_TRIES + [429] * 2
    late = served("kds_0_0", "GET", "/api/v1/me")
    assert late.headers["Retry-After"] == "60"
    assert served("anna", "GET", "/api/v1/me").status_code == 200


def test_tries_are_forgotten_after_a_minute() -> None:
    now = 0.0
    tries = Tries(lambda: now)
    assert [tries.fail("a") for _ in range(MOST_TRIES)] == [None] * MOST_TRIES
    assert tries.fail("a") is not None and tries.fail("b") is None
    now = 61.0
    assert tries.fail("a") is None


@pytest.mark.parametrize("has_length", [True, False])
def test_a_body_that_is_too_large_is_refused(served: Service, has_length: bool) -> None:
    part = b" " * 65536
    chunks = [part] * (MOST_BYTES // len(part) + 1)
    body: Any = b"".join(chunks) if has_length else iter(chunks)
    answer = served("anna", "POST", "/api/v1/plan", content=body)
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["place"] == "body"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\xff",
        b"{",
        b'{"spec": 1e999}',
        b"null",
        b'{"spec": {}}',
    ],
)
def test_a_body_that_is_no_sweep_is_refused(served: Service, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = served("anna", "POST", "/api/v1/plan", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_method_that_a_path_does_not_take_is_named(served: Service) -> None:
    answer = served("anna", "DELETE", "/api/v1/me")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
    (said,) = answer.json()["errors"]
    assert (said["rule"], said["got"]) == ("the method must be GET", "DELETE")


def test_no_answer_is_a_page_or_has_a_secret(served: Service) -> None:
    for route in CLOSED:
        for user in ("anna", "kds_000000000000_hunter2"):
            answer = call(served, user, route)
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "hunter2" not in answer.text
            assert not re.search(r"kds_[0-9a-f]{12}_", answer.text)
            assert "html" not in answer.headers.get("content-type", "")
