"""What Prometheus reads of a service: its sweeps by state, how many wait, and what it is asked."""

import time
from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.states import TrialState

OTHER = "other"  # of what no route is for: a label for each path would be as many as callers like
SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class Metrics:
    """The numbers of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "kd_sweep_request_seconds",
            "How long requests took; a stream of events lasts as long as it is read.",
            ("method", "route", "status"),
            registry=self._registry,
            buckets=SECONDS,
        )
        self._sweeps = Gauge(
            "kd_sweep_sweeps", "Sweeps by state.", ("state",), registry=self._registry
        )
        self._waiting = Gauge(
            "kd_sweep_waiting", "Sweeps that wait for their turn.", registry=self._registry
        )

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request that was answered."""
        self._requests.labels(method, route, status).observe(seconds)

    def text(self, states: Iterable[TrialState], num_waiting: int) -> bytes:
        """Returns the numbers in Prometheus's format. states: of all sweeps."""
        counts = Counter(states)
        for state in TrialState:
            self._sweeps.labels(state).set(counts[state])
        self._waiting.set(num_waiting)
        return generate_latest(self._registry)


class Timed:
    """Wraps the app: notes each request with its route, status and time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", None)
            method = scope["method"] if route else OTHER
            self._metrics.note(method, route or OTHER, status, time.perf_counter() - began)
