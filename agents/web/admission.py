"""Which requests are let in: of a size that fits, and so many at once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from ...envs.arguments import check_settings, number


@dataclass(frozen=True)
class Room:
    """How much a server takes.

    Args:
        body: bytes of a request.
        at_once: requests that are answered at the same time.
        waiting: requests that wait for their turn; more are refused.
    """

    body: int = number(1 << 18, 1)
    at_once: int = number(2, 1)
    waiting: int = number(16, 0)

    def __post_init__(self) -> None:
        check_settings(self)


class Admission:
    """An ASGI app that lets requests to another one in.

    A body is read whole before its turn comes, so that nobody waits for one who sends slowly.

    Args:
        app: the other one.
        room: how much it takes.
    """

    def __init__(self, app: Any, room: Room) -> None:
        self._app, self._room = app, room
        self._turns = asyncio.Semaphore(room.at_once)
        self._inside = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await self._body(receive)
        if body is None:
            message = f"the body has more than {self._room.body:,} bytes; send less"
            await _answer(send, 413, message)
        elif self._inside >= self._room.at_once + self._room.waiting:
            await _answer(send, 429, f"{self._inside} requests are being answered or wait; try again later")
        else:
            self._inside += 1
            try:
                async with self._turns:
                    await self._app(scope, _replayed(body, receive), send)
            finally:
                self._inside -= 1

    async def _body(self, receive: Any) -> bytes | None:
        """The body; None where it is too large."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._room.body:
                return None
            if not message.get("more_body", False):  # the end, or nobody is there any more
                return body


def error(message: str, status: int, parameter: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}


def _replayed(body: bytes, receive: Any) -> Any:
    """`receive` that gives the body first."""
    given = False

    async def receiving() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving


async def _answer(send: Any, status: int, message: str) -> None:
    body = json.dumps(error(message, status)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
