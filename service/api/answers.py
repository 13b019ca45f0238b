"""What every route answers with: the command's own JSON, or all of the result to another kd-sweep;
a tag that says whether it changed; and long lists part by part."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from operator import methodcaller
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends, Query, Request, Response

from service.accounts.users import User, UserRole
from service.actions.hosted import Hosted
from service.actions.hosted_changes import Changes
from service.actions.kept import Kept
from service.api.access import hosted_of, user_of
from service.api.problems import Refused
from service.wire import MEDIA_TYPE, VERSION, accepted, pack

MOST_ROWS = 1000
MOST_PARTS = 32  # of a list that are kept as bytes
JSON = "application/json"
AsJson = Callable[[Any], Any]
to_json: AsJson = methodcaller("to_json")
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="rows at most")]
Cursor = Annotated[
    str | None, Query(max_length=255, description="the id of the last row of the part before")
]


@dataclass(frozen=True)
class Packed:
    """What is sent, with a tag that changes with it."""

    body: bytes
    media_type: str

    @cached_property
    def tag(self) -> str:
        """The tag, as the header `ETag` has it."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


@dataclass(frozen=True)
class Ask:
    """A user's request. `is_of_ours`: another kd-sweep's, which gets results whole."""

    user: User
    hosted: Hosted
    request: Request
    is_of_ours: bool

    @property
    def changes(self) -> Changes:
        """What the user changes."""
        return Changes(self.hosted, self.user)

    def result(
        self,
        found: Any,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
        *,
        as_json: AsJson = to_json,
    ) -> Response:
        """Returns what an action returned. as_json: makes of it what its command prints with
        `--json`, for everybody but another kd-sweep."""
        return self._send(self._packed(found, as_json), status, headers)

    def answer(self, document: Any) -> Response:
        """Returns the document as the command prints it with `--json`."""
        return self._send(_packed_json(document))

    def content(self, body: bytes, media_type: str) -> Response:
        """Returns the bytes."""
        return self._send(Packed(body, media_type))

    def rows(
        self,
        rows: Sequence[Any],
        key: str,
        limit: int,
        cursor: str | None,
        *,
        as_json: AsJson = to_json,
    ) -> Response:
        """Returns `limit` results behind the one whose `key` is `cursor`, and in the header `Link`
        where the next part is."""
        part, last = _part_of(rows, key, limit, cursor)
        packed = self._packed(part, lambda found: [as_json(one) for one in found])
        return self._send(packed, headers=self._link(last))

    def kept_rows(self, kept: Kept, key: str, limit: int, cursor: str | None) -> Response:
        """Returns as `rows` what is kept, put into bytes once."""
        place = self.is_of_ours, limit, cursor
        known = kept.parts.get(place)
        if known is None:
            part, last = _part_of(kept.rows, key, limit, cursor)
            known = self._packed(part, lambda found: [to_json(one) for one in found]), last
            if len(kept.parts) >= MOST_PARTS:
                kept.parts.clear()
            kept.parts[place] = known
        return self._send(known[0], headers=self._link(known[1]))

    def _packed(self, found: Any, as_json: AsJson) -> Packed:
        return Packed(pack(found), MEDIA_TYPE) if self.is_of_ours else _packed_json(as_json(found))

    def _link(self, last: str | None) -> dict[str, str]:
        if last is None:
            return {}
        kept = [(k, v) for k, v in self.request.query_params.multi_items() if k != "cursor"]
        query = urlencode([*kept, ("cursor", last)], quote_via=quote)
        return {"Link": f'<{self.request.url.path}?{query}>; rel="next"'}

    def _send(
        self,
        packed: Packed,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Returns the bytes with their tag; for a GET nothing but it where the caller has them."""
        sent = {"ETag": packed.tag, "Cache-Control": "private, no-cache", "Vary": "Accept"}
        sent |= headers or {}
        known = self.request.headers.get("If-None-Match", "")
        if self.request.method == "GET" and packed.tag in [one.strip() for one in known.split(",")]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=sent)
        return Response(packed.body, status, sent, packed.media_type)


def _packed_json(document: Any) -> Packed:
    return Packed(json.dumps(document, default=str, allow_nan=False).encode(), JSON)


def _part_of(
    rows: Sequence[Any], key: str, limit: int, cursor: str | None
) -> tuple[Sequence[Any], str | None]:
    """Returns `limit` rows behind the one whose `key` is `cursor`, and the last one's key where
    there are more."""
    start = 0
    if cursor is not None:
        places = [at for at, row in enumerate(rows) if str(getattr(row, key)) == cursor]
        if not places:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"cursor: must be the {key} of a row, but got another text. Take it from the "
                "header Link, or leave it out.",
            )
        start = places[0] + 1
    part = rows[start : start + limit]
    return part, str(getattr(part[-1], key)) if part and start + limit < len(rows) else None


def _is_of_ours(request: Request) -> bool:
    """Returns whether another kd-sweep asks. Raises `Refused` for one of another version."""
    asked = request.headers.get("Accept", "")
    if not asked.startswith(MEDIA_TYPE):
        return False
    ours, theirs = (one.partition(VERSION)[2] for one in (accepted(), asked))
    if ours != theirs:
        raise Refused(
            HTTPStatus.NOT_ACCEPTABLE,
            f"kd-sweep: must be the service's version, {ours}, but got {theirs:.40}. Install that "
            "one, or have the service updated.",
        )
    return True


def _asked(request: Request, least: UserRole) -> Ask:
    user, hosted = user_of(request), hosted_of(request)
    hosted.check_role(user, least)
    return Ask(user, hosted, request, _is_of_ours(request))


def _viewer(request: Request) -> Ask:
    return _asked(request, UserRole.VIEWER)


def _submitter(request: Request) -> Ask:
    return _asked(request, UserRole.SUBMITTER)


def _admin(request: Request) -> Ask:
    return _asked(request, UserRole.ADMIN)


ViewerAsks = Annotated[Ask, Depends(_viewer)]
SubmitterAsks = Annotated[Ask, Depends(_submitter)]
AdminAsks = Annotated[Ask, Depends(_admin)]
