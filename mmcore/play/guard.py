"""What stands before the page: only its own paths are answered, only to whom it is meant for, and the browser fetches nothing elsewhere.

The page needs no files: pictures travel inside it. So whatever the page's library offers beside it (uploads, downloads by path, proxies) is shut.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

BODY = 16 * 2**20
"""Bytes of one request, without a file."""
OPEN = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
BELOW = ("/assets/", "/static/", "/gradio_api/queue/", "/gradio_api/heartbeat/")
ALSO = (
    *("/gradio_api/info", "/gradio_api/info/", "/gradio_api/startup-events", "/gradio_api/app_id", "/gradio_api/reset", "/gradio_api/cancel"),
    "/gradio_api/theme.css",
)  # fmt: skip
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; connect-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class TooLargeError(Exception):
    """A request's body is longer than allowed."""


class Guard:
    """An ASGI application before another.

    Args:
        app: the page.
        hosts: names by which it may be called, without ports; None for any.
        body: bytes of one request.

    Attributes:
        closing: set where the page ends: who still waits for something is let go.
    """

    def __init__(self, app: App, hosts: Collection[str] | None, body: int = BODY) -> None:
        self.app, self.hosts, self.body = app, hosts, body
        self.closing = asyncio.Event()

    async def _received(self, receive: Receive) -> Message:
        """What comes next of a request; that its browser is gone, where the page itself goes."""
        if self.closing.is_set():
            return {"type": "http.disconnect"}
        waits = [asyncio.ensure_future(receive()), asyncio.ensure_future(self.closing.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[0].result() if waits[0].done() else {"type": "http.disconnect"}  # type: ignore[return-value]
        finally:
            for one in waits:
                one.cancel()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or let the page do it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
        if self.hosts is not None and _host(headers.get(b"host", "")) not in self.hosts:
            await _refuse(send, 403, "this page is for this machine only")
        elif not _is_own(scope["path"]):
            await _refuse(send, 404, "nothing here")
        elif _number(headers.get(b"content-length", "0")) > self.body:
            await _refuse(send, 413, "too large")
        else:
            await self._passed(scope, receive, send)

    async def _passed(self, scope: Message, receive: Receive, send: Send) -> None:
        taken, begun = 0, False

        async def bounded() -> Message:
            nonlocal taken
            message = await self._received(receive)
            taken += len(message.get("body", b""))
            if taken > self.body:
                raise TooLargeError
            return message

        async def dressed(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            await send(message)

        try:
            await self.app(scope, bounded, dressed)
        except TooLargeError:
            if not begun:
                await _refuse(send, 413, "too large")


def _is_own(path: str) -> bool:
    return path in OPEN or path in ALSO or (path.startswith(BELOW) and ".." not in path)


def _host(text: str) -> str:
    """The name in a ``Host`` header, without its port."""
    if text.startswith("["):
        return text.partition("]")[0][1:]
    return text.rpartition(":")[0] if ":" in text else text


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 2**62


async def _refuse(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
