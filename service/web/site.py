"""The service's application with its pages. A page is a frame without data: its script asks the
API for what it shows, with the session's cookie in place of a token."""

import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, FastAPI, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse

from service import actions
from service.accounts.line import Priority
from service.accounts.users import UserRole, split_token
from service.actions.hosted import Hosted
from service.api.access import COOKIE, Session, check_token, hosted_of, session_of
from service.api.app import make_app
from service.api.problems import Refused
from service.report.palette import DARK, LIGHT
from service.report.rendering import html

if TYPE_CHECKING:
    from jinja2 import Environment

SESSION_S = 12 * 3600.0
# Charts draw themselves with styles of their own; scripts come from here alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
YEAR_S = 365 * 86400
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

router = APIRouter(include_in_schema=False)


def make_site(hosted: Hosted) -> FastAPI:
    """Returns the service's application: the API, and the pages."""
    app = make_app(hosted)
    app.include_router(router)
    return app


@router.get("/login")
def show_login(request: Request) -> Response:
    """Shows where to type a token."""
    return _page("login.html.j2", None, {"wrong": False, "next": _next(request)})


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Opens a session for who has a token."""
    # A cookie that another site's form has set would show its user's sweeps as one's own.
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Refused(HTTPStatus.FORBIDDEN, "login: must come from the page itself. Load it again.")
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    token = form.get("token", [""])[0].strip()
    try:
        session = await run_in_threadpool(_open_session, request, token)
    except Refused as refused:
        told = {"wrong": refused.status_code, "next": _next(request)}
        return _page("login.html.j2", None, told, refused.status_code)
    answer = RedirectResponse(_next(request), HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        COOKIE,
        session,
        max_age=int(SESSION_S),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """Ends the session."""
    session = await run_in_threadpool(session_of, request)
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    if session is not None and form.get("csrf", [""])[0] == session.csrf:
        parts = split_token(session.token)
        assert parts is not None
        await run_in_threadpool(hosted_of(request).accounts.people.revoke_token, parts[0])
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/")
def show_sweeps(request: Request) -> Response:
    """Shows the list of sweeps."""
    return _page_for(request, "sweeps.html.j2", {})


@router.get("/new")
def show_new(request: Request) -> Response:
    """Shows where to write a sweep, plan it and submit it."""
    session = session_of(request)
    if session is None:
        return _to_login(request)
    values = {
        "starter": actions.documents.read_starter().text,
        "presets": actions.documents.list_presets(),
        "priorities": [one for one in Priority if session.user.is_admin or one != Priority.HIGH],
    }
    return _page("new.html.j2", session, values)


@router.get("/compare")
def show_comparison(request: Request) -> Response:
    """Shows sweeps side by side."""
    return _page_for(request, "compare.html.j2", {})


@router.get("/sweeps/{sweep}")
def show_sweep(request: Request, sweep: Annotated[str, Path(max_length=255)]) -> Response:
    """Shows a sweep, live."""
    session = session_of(request)
    if session is None:
        return _to_login(request)
    hosted = hosted_of(request)
    sweep_id = hosted.find(session.user, sweep)
    mine = hosted.is_own(session.user, sweep_id)
    return _page("sweep.html.j2", session, {"sweep": sweep_id, "is_mine": mine})


@router.get("/sweeps/{sweep}/report")
def show_report(request: Request, sweep: Annotated[str, Path(max_length=255)]) -> Response:
    """Shows the report of a sweep, as `kd-sweep report` writes it."""
    session = session_of(request)
    if session is None:
        return _to_login(request)
    hosted = hosted_of(request)
    sweep_id = hosted.find_recorded(session.user, sweep)
    text = html(actions.report.make_report(sweep_id, hosted.workspace).page)
    # Its own scripts by what they are: no other one runs.
    allowed = " ".join(f"'sha256-{_digest(one)}'" for one in SCRIPT.findall(text))
    policy = POLICY.replace("script-src 'self'", f"script-src {allowed}")
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


@router.get("/favicon.ico")
def show_icon() -> Response:
    """Sends the icon to who asks for it where every site has it."""
    return RedirectResponse(_names()["icon.svg"])


@router.get("/static/{name}")
def send_file(name: Annotated[str, Path(max_length=100)]) -> Response:
    """Sends a script or style of the pages; under a name with its hash, so that it may be kept."""
    known = _static()
    if name not in known:
        raise Refused(HTTPStatus.NOT_FOUND, "static: must be a file of the pages. Load it again.")
    kept = {"Cache-Control": f"public, max-age={YEAR_S}, immutable"}
    return Response(known[name], headers=kept, media_type=TYPES[name.rpartition(".")[2]])


def _open_session(request: Request, token: str) -> str:
    user = check_token(request, token)
    accounts = hosted_of(request).accounts
    session = accounts.people.open_session(token, lasts_s=SESSION_S)
    accounts.note(user.name, "log in")
    assert session is not None
    return session


def _next(request: Request) -> str:
    """Returns the page to go on to: one of ours."""
    wanted = request.query_params.get("next", "/")
    return wanted if re.fullmatch(r"/[\w.\-/]*", wanted) and "//" not in wanted else "/"


def _to_login(request: Request) -> Response:
    return RedirectResponse(f"/login?next={quote(request.url.path)}", HTTPStatus.SEE_OTHER)


def _page_for(request: Request, template: str, values: Mapping[str, Any]) -> Response:
    session = session_of(request)
    return _to_login(request) if session is None else _page(template, session, values)


def _page(
    template: str, session: Session | None, values: Mapping[str, Any], status: int = HTTPStatus.OK
) -> Response:
    may_submit = session is not None and session.user.role.includes(UserRole.SUBMITTER)
    text = (
        _environment()
        .get_template(template)
        .render(session=session, may_submit=may_submit, file=_names().__getitem__, **values)
    )
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
    return HTMLResponse(text, status, headers)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("service.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _static() -> dict[str, bytes]:
    """Returns the pages' files by the names that they are sent under."""
    folder = files("service.web") / "static"
    found = {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}
    found["colours.css"] = _colours().encode()
    found["plotly.js"] = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return {_hashed(name, content): content for name, content in found.items()}


@cache
def _names() -> dict[str, str]:
    """Returns the address of each of the pages' files."""
    return {re.sub(r"\.[0-9a-f]{12}\.", ".", name): f"/static/{name}" for name in _static()}


def _hashed(name: str, content: bytes) -> str:
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{sha256(content).hexdigest()[:12]}.{ending}"


def _colours() -> str:
    light, dark = (
        " ".join(f"--{name}: {value};" for name, value in colours.items())
        for colours in (LIGHT, DARK)
    )
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def _digest(script: str) -> str:
    return b64encode(sha256(script.encode()).digest()).decode()
