"""What every route answers with: the command's own JSON, a tag that says whether it changed, and
long lists part by part."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends, Query, Request, Response

from service.accounts.users import User, UserRole
from service.actions.hosted import Hosted
from service.actions.hosted_changes import Changes
from service.api.access import hosted_of, user_of
from service.api.problems import Refused

MOST_ROWS = 1000
JSON = "application/json"
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="rows at most")]
Cursor = Annotated[
    str | None, Query(max_length=255, description="the id of the last row of the part before")
]


@dataclass(frozen=True)
class Ask:
    """A user's request."""

    user: User
    hosted: Hosted
    request: Request

    @property
    def changes(self) -> Changes:
        """What the user changes."""
        return Changes(self.hosted, self.user)

    def answer(
        self,
        document: Any,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Returns the document as the command prints it with `--json`; nothing but its tag where
        the caller has it already."""
        body = json.dumps(document, default=str, allow_nan=False).encode()
        return self.content(body, JSON, status, headers)

    def content(
        self,
        body: bytes,
        media_type: str,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Returns the bytes with their tag; for a GET nothing but it where the caller has them."""
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        sent = {"ETag": tag, "Cache-Control": "private, no-cache"} | dict(headers or {})
        known = self.request.headers.get("If-None-Match", "")
        if self.request.method == "GET" and tag in [one.strip() for one in known.split(",")]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=sent)
        return Response(body, status, sent, media_type)

    def rows(
        self, rows: Sequence[Mapping[str, Any]], key: str, limit: int, cursor: str | None
    ) -> Response:
        """Returns `limit` rows behind the one whose `key` is `cursor`, and in the header `Link`
        where the next part is."""
        start = 0
        if cursor is not None:
            places = [at for at, row in enumerate(rows) if str(row[key]) == cursor]
            if not places:
                raise Refused(
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    f"cursor: must be the {key} of a row, but got another text. Take it from the "
                    "header Link, or leave it out.",
                )
            start = places[0] + 1
        part = rows[start : start + limit]
        if start + limit >= len(rows) or not part:
            return self.answer(part)
        kept = [(k, v) for k, v in self.request.query_params.multi_items() if k != "cursor"]
        query = urlencode([*kept, ("cursor", str(part[-1][key]))], quote_via=quote)
        link = f'<{self.request.url.path}?{query}>; rel="next"'
        return self.answer(part, headers={"Link": link})


def _asked(request: Request, least: UserRole) -> Ask:
    user, hosted = user_of(request), hosted_of(request)
    hosted.check_role(user, least)
    return Ask(user, hosted, request)


def _viewer(request: Request) -> Ask:
    return _asked(request, UserRole.VIEWER)


def _submitter(request: Request) -> Ask:
    return _asked(request, UserRole.SUBMITTER)


def _admin(request: Request) -> Ask:
    return _asked(request, UserRole.ADMIN)


ViewerAsks = Annotated[Ask, Depends(_viewer)]
SubmitterAsks = Annotated[Ask, Depends(_submitter)]
AdminAsks = Annotated[Ask, Depends(_admin)]
