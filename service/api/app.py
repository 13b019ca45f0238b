"""The application that `kd-sweep serve` serves."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from operator import attrgetter

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool

from service.actions.hosted import Hosted
from service.actions.launch import LaunchState
from service.actions.record import open_record
from service.api import problems, routes
from service.api.access import Tries
from service.api.answers import AdminAsks
from service.api.limits import Limits
from service.api.metrics import Metrics, Timed
from service.api.openapi import describe, documented, problems_of
from service.wire import API

logger = logging.getLogger(__name__)
LINE_POLL_S = 0.5
AWAY = HTTPStatus.SERVICE_UNAVAILABLE
DESCRIPTION = (
    "Plan, submit, watch and stop sweeps. Every answer is what the command of the same name prints "
    "with --json; every error is a problem+json (RFC 9457). Send Authorization: Bearer TOKEN."
)


def make_app(hosted: Hosted) -> FastAPI:
    """Returns the application for a service's sweeps. While it is served, sweeps that wait begin
    when it is their turn."""
    app = FastAPI(
        title="kd-sweep",
        version=version("kd-sweep"),
        description=DESCRIPTION,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=attrgetter("name"),
        lifespan=_keeps_the_line_moving,
    )
    app.state.hosted = hosted
    app.state.tries = Tries()
    app.include_router(routes.router)
    app.add_api_route("/healthz", _is_alive, name="health")
    app.add_api_route("/readyz", _is_ready, name="readiness", responses=problems_of(AWAY))
    app.state.metrics = Metrics()
    app.add_api_route(
        "/metrics",
        _show_metrics,
        name="metrics",
        response_class=PlainTextResponse,
        responses=documented(AWAY),
    )
    problems.install(app)
    app.add_middleware(Limits)
    app.add_middleware(Timed, metrics=app.state.metrics)
    describe(app)
    return app


@asynccontextmanager
async def _keeps_the_line_moving(app: FastAPI) -> AsyncIterator[None]:
    moving = asyncio.create_task(_move(app.state.hosted))
    try:
        yield
    finally:
        moving.cancel()


async def _move(hosted: Hosted) -> None:
    while True:
        try:
            begun = await run_in_threadpool(hosted.launches.begin_next)
        except Exception:  # whatever it is: the line has to move once the cause is gone
            logger.exception("the line of waiting sweeps stands still")
            begun = []
        for launch in begun:
            logger.info("sweep %s begins", launch.sweep_id)
        await asyncio.sleep(LINE_POLL_S)


def _is_alive() -> dict[str, str]:
    """Says that the process answers."""
    return {"status": "ok"}


def _is_ready(request: Request, response: Response) -> dict[str, str]:
    """Says whether the record and the accounts answer."""
    hosted: Hosted = request.app.state.hosted
    hosted.accounts.check()
    open_record(hosted.workspace)
    return {"status": "ok"}


def _show_metrics(ask: AdminAsks) -> Response:
    """Shows the service's numbers to Prometheus, which comes with an admin's token."""
    metrics: Metrics = ask.request.app.state.metrics
    states = [one.state for one in ask.hosted.statuses(ask.user)]
    waiting = [one.state for one in ask.hosted.launches.all()].count(LaunchState.WAITING)
    return Response(metrics.text(states, waiting), media_type=CONTENT_TYPE_LATEST)
