"""Callers that send slowly, or stop in the middle: nobody waits for them, nor they for long."""

import json
import socket
from contextlib import ExitStack

import pytest
import requests
from api_support import Service
from client_support import listening

HALF = b'{"spec": "de'
HEAD = (
    "POST /api/v1/plan HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
)
CALLERS = 60  # more than the service has threads


def test_bodies_that_do_not_come_stop_nobody_and_are_refused(
    served: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.limits.BODY_S", 3.0)
    head = HEAD.format(token=served.tokens["anna"]).encode()
    with listening(served) as server, ExitStack() as open_ones:
        place = server.address.removeprefix("http://").split(":")
        slow = [
            open_ones.enter_context(socket.create_connection((place[0], int(place[1])), timeout=60))
            for _ in range(CALLERS)
        ]
        for one in slow:
            one.sendall(head + HALF)
        headers = {"Authorization": f"Bearer {served.tokens['anna']}"}
        answer = requests.get(f"{server.address}/api/v1/me", headers=headers, timeout=60)
        assert answer.json()["name"] == "anna"
        for one in slow:
            told = whole_answer(one)
            assert told.startswith(b"HTTP/1.1 408 ")
            problem = json.loads(told.partition(b"\r\n\r\n")[2])
            assert problem["errors"][0]["got"] == "only a part of it"


def whole_answer(caller: socket.socket) -> bytes:
    """What comes until the service closes the connection."""
    told = b""
    while part := caller.recv(65536):
        told += part
    return told
