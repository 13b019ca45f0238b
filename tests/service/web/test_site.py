"""The pages: who sees which, sessions, and what a page may load and show."""

import re
from collections.abc import Iterator

import pytest
from api_support import OTHERS, PLAN, Service, service

from service.api.access import COOKIE, CSRF_HEADER, Tries
from service.web.site import SESSION_S

MINE = PLAN.sweep_id
PAGES = ("/", "/new", "/compare", f"/sweeps/{MINE}", f"/sweeps/{MINE}/report")
HEADERS = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def _standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def served(_standing: Service) -> Service:
    _standing.client.cookies.clear()
    _standing.client.follow_redirects = False
    _standing.clock.now = type(_standing.clock).now
    _standing.client.app.state.tries = Tries()  # type: ignore[attr-defined]
    return _standing


def log_in(served: Service, user: str, after: str = "/") -> None:
    body = {"token": f" {served.tokens[user]} "}
    answer = served.client.post(f"/login?next={after}", data=body, headers=HEADERS)
    assert (answer.status_code, answer.headers["location"]) == (303, after)


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf" content="(\w+)"', page)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_shown_to_who_has_logged_in(served: Service, page: str) -> None:
    without = served.client.get(page)
    assert (without.status_code, without.headers["location"]) == (303, f"/login?next={page}")
    log_in(served, "anna", page)
    shown = served.client.get(page)
    assert shown.status_code == 200
    served.clock.now += SESSION_S
    assert served.client.get(page).status_code == 303


@pytest.mark.parametrize("page", PAGES[3:])
def test_anothers_sweep_has_no_page(served: Service, page: str) -> None:
    log_in(served, "anna")
    assert served.client.get(page.replace(MINE, OTHERS.sweep_id)).status_code == 404


def test_a_page_offers_what_its_user_may(served: Service) -> None:
    offered = {}
    for user in ("anna", "paul", "vera", "root"):
        served.client.cookies.clear()
        log_in(served, user)
        text = served.client.get(f"/sweeps/{MINE}").text
        own = 'id="stop"' in text and 'id="promote"' in text
        offered[user] = (own, 'href="/new"' in text and 'id="confirm"' in text)
    assert offered == {
        "anna": (True, True),
        "paul": (False, True),
        "vera": (False, False),
        "root": (True, True),
    }


def test_only_an_admin_is_offered_the_highest_priority(served: Service) -> None:
    for user, expected in (("anna", ["low", "normal"]), ("root", ["low", "normal", "high"])):
        served.client.cookies.clear()
        log_in(served, user)
        text = served.client.get("/new").text
        choice = text[text.index('id="priority"') :]
        assert re.findall(r'<option value="(\w+)"', choice[: choice.index("</select>")]) == expected


def test_a_wrong_token_opens_nothing(served: Service) -> None:
    answers = [served.client.post("/login", data={"token": "kds_0_0"}) for _ in range(12)]
    assert [one.status_code for one in answers] == [401] * 10 + [429] * 2
    assert "unknown, or has ended" in answers[0].text and COOKIE not in answers[0].cookies
    assert served.client.post("/login").status_code == 429


def test_another_sites_form_opens_no_session(served: Service) -> None:
    body, headers = {"token": served.tokens["otto"]}, {"Sec-Fetch-Site": "cross-site"}
    answer = served.client.post("/login", data=body, headers=headers)
    assert answer.status_code == 403 and COOKIE not in answer.cookies


def test_the_cookie_is_for_the_browser_alone_and_is_not_the_token(served: Service) -> None:
    body = {"token": served.tokens["anna"]}
    cookie = served.client.post("/login", data=body).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert served.tokens["anna"] not in cookie
    secure = served.client.post("https://testserver/login", data=body).headers["set-cookie"]
    assert "Secure" in secure


@pytest.mark.parametrize(
    "place", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_after_the_login_comes_a_page_of_ours(served: Service, place: str) -> None:
    body = {"token": served.tokens["anna"]}
    answer = served.client.post("/login", params={"next": place}, data=body)
    assert answer.headers["location"] == "/"


def test_a_session_asks_the_api_and_changes_only_from_its_page(served: Service) -> None:
    log_in(served, "anna")
    csrf = csrf_of(served.client.get("/").text)
    assert served.client.get("/api/v1/me").json()["name"] == "anna"
    path = "/api/v1/sweeps/none-such/stop"
    for headers, status in (({}, 403), ({CSRF_HEADER: "x"}, 403), ({CSRF_HEADER: csrf}, 404)):
        assert served.client.post(path, headers=headers).status_code == status


def test_a_session_ends_when_its_user_logs_out(served: Service) -> None:
    log_in(served, "anna")
    session = served.client.cookies[COOKIE]
    csrf = csrf_of(served.client.get("/").text)
    served.client.post("/logout", data={"csrf": "another"})
    served.client.cookies.set(COOKIE, session)
    assert served.client.get("/").status_code == 200
    served.client.post("/logout", data={"csrf": csrf})
    served.client.cookies.set(COOKIE, session)
    assert served.client.get("/").status_code == 303


@pytest.mark.parametrize("page", ["/login", *PAGES])
def test_a_page_loads_nothing_from_elsewhere(served: Service, page: str) -> None:
    if page != "/login":
        log_in(served, "anna")
    shown = served.client.get(page)
    policy = shown.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    scripts = next(one for one in policy.split("; ") if one.startswith("script-src"))
    assert "unsafe" not in scripts and "http" not in policy
    if not page.endswith("report"):
        inline = re.findall(r"<script(?![^>]*src=)|\son\w+=|<style", shown.text)
        assert inline == []
        for link in re.findall(r'(?:src|href)="([^"]+)"', shown.text):
            assert link.startswith(("/", "#"))


def test_files_of_the_pages_are_kept_by_browsers(served: Service) -> None:
    log_in(served, "anna")
    names = set(re.findall(r'"(/static/[^"]+)"', served.client.get(f"/sweeps/{MINE}").text))
    assert len(names) == 7
    for name in names:
        answer = served.client.get(name)
        assert answer.status_code == 200 and "immutable" in answer.headers["Cache-Control"]
    for name in ("../site.py", "common.js", "%2e%2e%2fsite.py"):
        assert served.client.get(f"/static/{name}").status_code == 404


def test_the_form_starts_from_a_preset_or_the_starter(served: Service) -> None:
    log_in(served, "anna")
    text = served.client.get("/new").text
    assert '<option value="demo"' in text
    assert "trials:" in text and "<script>" not in text
