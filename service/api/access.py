"""Who calls: the user whose token, or whose session of the page, comes with a request."""

import hashlib
import hmac
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request

from service.accounts.users import User
from service.actions.hosted import Hosted
from service.api.problems import Refused

BEARER = "Bearer"
COOKIE = "kd_session"
CSRF_HEADER = "X-CSRF-Token"
SAFE = ("GET", "HEAD", "OPTIONS")
MOST_TRIES, TRIES_S = 10, 60.0
MOST_HOSTS = 10_000


class Tries:
    """How often each address came with a wrong token lately. now: seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failed: dict[str, deque[float]] = {}

    def fail(self, host: str) -> float | None:
        """Notes a wrong token; returns how many seconds to wait once there were too many."""
        if len(self._failed) >= MOST_HOSTS:
            self._failed.clear()  # rather forgotten than a memory that callers fill
        times = self._failed.setdefault(host, deque(maxlen=MOST_TRIES + 1))
        times.append(self._now())
        while times[0] < self._now() - TRIES_S:
            times.popleft()
        return TRIES_S if len(times) > MOST_TRIES else None


@dataclass(frozen=True)
class Session:
    """A page's session. `token`: what its cookie holds."""

    user: User
    token: str

    @property
    def csrf(self) -> str:
        """What comes with each change that the page asks for; no other site can read it."""
        return hashlib.sha256(f"csrf {self.token}".encode()).hexdigest()


def user_of(request: Request) -> User:
    """Returns who calls. Raises `Refused` for nobody, and for a session whose page did not send
    the request itself."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == BEARER.lower() and token:
        return check_token(request, token.strip())
    session = session_of(request)
    if session is None:
        raise Refused(
            HTTPStatus.UNAUTHORIZED,
            "token: must come with every request, but got none that holds. Send the header "
            "Authorization: Bearer TOKEN; kd-sweep tokens new USER makes one.",
            {"WWW-Authenticate": BEARER},
        )
    sent = request.headers.get(CSRF_HEADER, "")
    if request.method not in SAFE and not hmac.compare_digest(sent.encode(), session.csrf.encode()):
        raise Refused(
            HTTPStatus.FORBIDDEN,
            f"{CSRF_HEADER}: must be the page's own, but got another one. Load the page again.",
        )
    return session.user


def session_of(request: Request) -> Session | None:
    """Returns the page's session that the request's cookie belongs to, None without one."""
    token = request.cookies.get(COOKIE)
    user = hosted_of(request).accounts.people.with_token(token) if token else None
    return None if user is None or token is None else Session(user, token)


def check_token(request: Request, token: str) -> User:
    """Returns whose token it is. Raises `Refused` for one that is wrong or has ended, and notes
    the try."""
    user = hosted_of(request).accounts.people.with_token(token)
    if user is not None:
        return user
    host = request.client.host if request.client else ""
    wait_s = request.app.state.tries.fail(host)
    if wait_s is None:
        raise Refused(
            HTTPStatus.UNAUTHORIZED,
            "token: must be one that the service gave out and that has not ended, but got another "
            "one. kd-sweep tokens new USER makes one.",
            {"WWW-Authenticate": f'{BEARER} error="invalid_token"'},
        )
    raise Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"token: {MOST_TRIES} wrong ones a minute at most may come from an address, but got more. "
        "Wait a minute.",
        {"Retry-After": f"{wait_s:.0f}"},
    )


def hosted_of(request: Request) -> Hosted:
    """Returns the service's sweeps."""
    hosted: Hosted = request.app.state.hosted
    return hosted
