"""An app on a port of this computer alone."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

try:
    import uvicorn
    from starlette.middleware.trustedhost import TrustedHostMiddleware
except ImportError:
    raise ImportError('a server needs the library uvicorn; pip install "tokenlm[web]"') from None

HOST = "127.0.0.1"
_HIGHEST = 65_535
# Whatever a page may contain, the browser asks nobody but this server.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
)
Application = Callable[[Any, Any, Any], Awaitable[None]]


def listen(port: int) -> socket.socket:
    """A socket on `port` of 127.0.0.1, 0 for any that is free; ValueError where it is taken."""
    if not 0 <= port <= _HIGHEST:
        raise ValueError(f"port must lie between 0 and {_HIGHEST}, not {port}")
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # a port whose last connections are still closing; elsewhere it takes others' ports
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((HOST, port))
        found.listen()
    except OSError as problem:
        found.close()
        raise ValueError(f"port {port} cannot be used ({problem.strerror}); give another, --port 0 for any") from None
    return found


def address(listening: socket.socket) -> str:
    """The address to open."""
    return f"http://{HOST}:{listening.getsockname()[1]}"


def guarded(app: Application) -> Application:
    """An app that answers this computer's names alone, and whose pages load nothing from elsewhere."""

    async def with_policy(scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"content-security-policy", _POLICY.encode())]
            await send(message)

        await app(scope, receive, sent)

    # A page of a stranger's name that leads here could read what is answered.
    return TrustedHostMiddleware(with_policy, allowed_hosts=[HOST, "localhost"])


def server_of(app: Application) -> uvicorn.Server:
    """A server of a guarded app; `run(sockets=[…])` returns at Ctrl-C."""
    config = uvicorn.Config(guarded(app), log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    return uvicorn.Server(config)


def serve(app: Application, listening: socket.socket) -> None:
    """Answer until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):  # the ordinary end
        server_of(app).run(sockets=[listening])
