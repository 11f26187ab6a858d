"""Serve the metrics of the daemon by HTTP/1.1.

This is a process of its own, with a user of its own: no client of it comes near the daemon, which is asked at most once
a second, whatever clients do. A client has a few seconds for all that it wants. If there are too many, the one that has
been there for longest is let go, so that those that only hold their place shut nobody out. A client that waits for the
daemon does not only hold its place: it stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keepaliveD.cli.asking.asking import ask
from keepaliveD.cli.metrics import exposition, listening
from keepaliveD.log.complaint import complain
from keepaliveD.model.errors import KernelError, NoInput, NotPermitted

MOST_CLIENTS = 32  # that have sent no request yet, or have not taken their answer
MOST_WAITING = 256  # for the daemon, besides
QUEUE = 128  # clients that wait to be let in
PATIENCE = 5.0  # seconds for a request and its answer
LONGEST = 1 << 13  # octets of a request
FRESH = 1.0  # seconds for which what the daemon has answered is given to others, too
END = b"\r\n\r\n"
CROWDED = b"too many clients wait for the daemon\n"
WELCOME = b"tcp-keepalived: metrics are at /metrics\n"


def serve(place: listening.Where, control: Path) -> None:
    """Serve until a signal ends it. Raises Misuse, StateError, KernelError."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in listening.sockets(place)]
        if isinstance(place, Path):
            stack.callback(_remove, place, place.stat().st_ino)
        asyncio.run(_serve(sockets, NewestMetrics(control)))


def _remove(path: Path, inode: int) -> None:
    """Remove our socket, unless another one has taken its place."""
    with contextlib.suppress(OSError):
        if os.stat(path).st_ino == inode:
            path.unlink()


async def _serve(sockets: Sequence[socket.socket], newest: NewestMetrics) -> None:
    ended = asyncio.Event()
    for by in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(by, ended.set)
    door = Door(newest)
    for each in sockets:
        # one at a turn, so that its request is read before too many others are let in
        await asyncio.start_server(door.let_in, sock=each, limit=LONGEST, backlog=1)  # the loop keeps it
        each.listen(QUEUE)
    await ended.wait()


class NewestMetrics:
    """The newest metrics of the daemon, asked for by one thread."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._newest: asyncio.Task[bytes] | None = None
        self._stale_at = -math.inf
        self._complaint = ""

    async def text(self) -> bytes:
        """Return them as Prometheus reads them; the client that asks may go without taking them from others."""
        is_stale = asyncio.get_running_loop().time() >= self._stale_at
        if self._newest is None or (self._newest.done() and is_stale):
            self._newest = asyncio.create_task(self._renewed())
        return await asyncio.shield(self._newest)

    async def _renewed(self) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._ask)
        finally:
            self._stale_at = loop.time() + FRESH

    def _ask(self) -> bytes:
        """Ask the daemon; what keeps it from answering is said once, and that it does not is a metric as well."""
        try:
            metrics = exposition.answered(ask(self._control, "Metrics"))
        except (NoInput, NotPermitted, KernelError) as refusal:
            if str(refusal) != self._complaint:
                self._complaint = str(refusal)
                complain("keepalivectl metrics", refusal)
            return exposition.text([exposition.up(answers=False)]).encode()
        self._complaint = ""
        return exposition.text([exposition.up(answers=True), *metrics]).encode()


class Door:
    """Lets clients in, and out again in time."""

    def __init__(self, newest: NewestMetrics) -> None:
        self._newest = newest
        self._serving: dict[asyncio.Task[None] | None, None] = {}  # the oldest is first; without those that wait
        self._waiting = 0  # clients, for the daemon

    async def let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        writer.transport.set_write_buffer_limits(0)  # so that drain() returns once all is written
        this = asyncio.current_task()
        self._make_room()
        self._serving[this] = None
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(await self._response(await reader.readuntil(END)))
                await writer.drain()
            writer.close()
        except (TimeoutError, asyncio.CancelledError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass
        finally:
            self._serving.pop(this, None)
            writer.transport.abort()

    def _make_room(self) -> None:
        """Let the client go that has been there for longest, if there are too many."""
        if len(self._serving) >= MOST_CLIENTS:
            oldest = next(iter(self._serving))
            del self._serving[oldest]
            if oldest is not None:
                oldest.cancel()

    @contextlib.contextmanager
    def _staying(self) -> Iterator[None]:
        """Let nobody else have the place of the client of this task meanwhile."""
        this = asyncio.current_task()
        self._serving.pop(this, None)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            self._make_room()
            self._serving[this] = None

    async def _response(self, request: bytes) -> bytes:
        match request.partition(b"\r\n")[0].split(b" "):
            case [b"GET" | b"HEAD" as method, target, version] if version.startswith(b"HTTP/1."):
                return await self._found(target.partition(b"?")[0], with_body=method == b"GET")
            case [_, _, version] if version.startswith(b"HTTP/1."):
                return _message("405 Method Not Allowed", b"only GET and HEAD are allowed\n", "Allow: GET, HEAD")
        return _message("400 Bad Request", b"not a request of HTTP/1.1\n")

    async def _found(self, path: bytes, *, with_body: bool) -> bytes:
        if path == b"/metrics":
            if self._waiting >= MOST_WAITING:
                return _message("503 Service Unavailable", CROWDED, with_body=with_body)
            with self._staying():
                body = await self._newest.text()
            return _message("200 OK", body, f"Content-Type: {exposition.CONTENT_TYPE}", with_body=with_body)
        if path == b"/":
            return _message("200 OK", WELCOME, with_body=with_body)
        return _message("404 Not Found", WELCOME, with_body=with_body)


def _message(status: str, body: bytes, header: str = "", *, with_body: bool = True) -> bytes:
    kind = "" if header.startswith("Content-Type") else "Content-Type: text/plain; charset=utf-8"
    headers = filter(None, (kind, header, f"Content-Length: {len(body)}", "Connection: close"))
    head = "\r\n".join((f"HTTP/1.1 {status}", *headers)).encode() + END
    return head + body if with_body else head
