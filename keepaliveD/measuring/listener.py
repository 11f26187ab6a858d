"""The far end of a measurement: it never closes a connection before its time, and probes when it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from io import FileIO

from keepaliveD.measuring.connection import MOST_HOPS, Connection, Introduce, to_nobody
from keepaliveD.measuring.greeting import AFTERWARDS, AGREED, FULL, LONGEST_LINE, Request, challenge, read_request
from keepaliveD.model.errors import KernelError, Misuse, NotPermitted, is_shortage

MOST_CONNECTIONS = 800  # measured at the same time: fewer than most systems allow descriptors
MOST_STRANGERS = 64  # connections that have not proved that they have the token
PATIENCE = 5.0  # seconds for that proof
MOST_REPORTED = 10  # refusals that are reported: anybody may ask for more
TESTED = 30.0  # seconds after its silence in which a connection surely is tested, unless the path is down
SPARE = 60.0  # seconds that a connection is kept longer than it was asked for
LOOK = 1.0  # seconds at least between two looks whether the other end has closed


def bound(port: int) -> socket.socket:
    """Return a socket that listens on all addresses. Raises Misuse, NotPermitted, KernelError."""
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=MOST_STRANGERS)
        return socket.create_server(("", port), backlog=MOST_STRANGERS)
    except PermissionError:
        raise NotPermitted(f"port {port}: not permitted; choose a port above 1023, or run as root") from None
    except OSError as error:
        kind = Misuse if "in use" in str(error) else KernelError
        raise kind(f"port {port}: cannot listen: {error.strerror}; choose another port") from None


class Listener:
    """Serves whoever has the token, until its time is over."""

    def __init__(
        self, server: socket.socket, token: str, report: Callable[[str], None], introduce: Introduce = to_nobody
    ) -> None:
        self._server, self._token, self._report, self._introduce = server, token, report, introduce
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers: dict[asyncio.Task[None], str] = {}  # their addresses, the oldest first
        self._silent_until: dict[asyncio.Task[None], float] = {}  # of those that are served
        self._spare = FileIO(os.devnull)
        self._refused = 0
        self._was_full = False
        self.served = 0

    async def serve(self, seconds: float, stop: asyncio.Event) -> None:
        """Serve for so long, or until `stop`; then close everything.

        The port is closed first: whoever sees a connection end can tell by a new one that the listener has ended.
        """
        self._server.setblocking(False)
        accepting = asyncio.create_task(self._accept())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        self._server.close()
        self._spare.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, (address, *_) = await loop.sock_accept(self._server)
            except OSError as error:  # it ended before it was accepted, or there are no descriptors left
                if is_shortage(error) and not self._free_tested():
                    self._report_full("raise the limit of descriptors (ulimit -n)")
                    self._turn_away()
                await asyncio.sleep(LOOK)
                continue
            if len(self._silent_until) >= MOST_CONNECTIONS and not self._free_tested():
                self._report_full(f"closed a new one of {address}; listen on another port for more")
                with sock, contextlib.suppress(OSError):
                    sock.send(FULL)
                continue
            if len(self._strangers) >= MOST_STRANGERS:
                self._make_room()
            task = asyncio.create_task(self._meet(sock, address))
            self._tasks.add(task)
            self._strangers[task] = address
            task.add_done_callback(self._forget)

    def _turn_away(self) -> None:
        """Tell whoever waits that there is no room, by the descriptor that is kept for that."""
        self._spare.close()
        with contextlib.suppress(OSError), self._server.accept()[0] as sock:
            sock.send(FULL)
        with contextlib.suppress(OSError):
            self._spare = FileIO(os.devnull)

    def _make_room(self) -> None:
        """Close the oldest connection without a proof, of the address that has most of them."""
        address, _ = Counter(self._strangers.values()).most_common(1)[0]
        oldest = next(task for task, its in self._strangers.items() if its == address)
        del self._strangers[oldest]
        oldest.cancel()

    def _free_tested(self) -> bool:
        """Close the connection whose silence ended first, if it surely was tested; return whether there is one."""
        task = min(self._silent_until, key=self._silent_until.__getitem__, default=None)
        if task is None or self._silent_until[task] + TESTED > time.monotonic():
            return False
        del self._silent_until[task]
        task.cancel()
        return True

    def _report_full(self, remedy: str) -> None:
        if not self._was_full:
            self._report(f"holds {len(self._silent_until)} connections, as many as it can: {remedy}")
        self._was_full = True

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._strangers.pop(task, None)
        self._silent_until.pop(task, None)

    async def _meet(self, sock: socket.socket, address: str) -> None:
        with sock, contextlib.suppress(OSError, TimeoutError):
            sock.setblocking(False)
            async with asyncio.timeout(PATIENCE):
                request = await self._hear(sock)
                if request is None:
                    self._report_refusal(address)
                    return
                began = time.monotonic()  # before the other end knows: it takes a fresh answer for a proof of the probe
                await asyncio.get_running_loop().sock_sendall(sock, AGREED)
            if task := asyncio.current_task():
                self._strangers.pop(task, None)
                self._silent_until[task] = began + max(0.0, request.life / 1000 - AFTERWARDS)
            self.served += 1
            connection = Connection(sock)
            introducing = asyncio.ensure_future(self._introduce(connection))  # the path waits for no daemon
            try:
                await self._keep(connection, request, began)
            finally:
                introducing.cancel()
                await asyncio.gather(introducing, return_exceptions=True)

    def _report_refusal(self, address: str) -> None:
        self._refused += 1
        if self._refused <= MOST_REPORTED:
            last = "; more are not reported" if self._refused == MOST_REPORTED else ""
            self._report(f"refused {address}: it does not have the token{last}")

    async def _hear(self, sock: socket.socket) -> Request | None:
        """Return what the other end wants; None where it does not prove that it has the token. Raises OSError."""
        loop = asyncio.get_running_loop()
        nonce = challenge()
        await loop.sock_sendall(sock, nonce)
        line = b""
        while not line.endswith(b"\n") and len(line) < LONGEST_LINE:
            if not (more := await loop.sock_recv(sock, LONGEST_LINE)):
                raise ConnectionAbortedError  # it only saw whether the path is up
            line += more
        return read_request(line, nonce, self._token)

    async def _keep(self, connection: Connection, request: Request, began: float) -> None:
        """Do what was asked for, and nothing else, until the other end closes or its time is over."""
        if request.keep_hops and request.keep_every:
            connection.keep(max(1, request.keep_every // 1000), min(request.keep_hops, MOST_HOPS))
            await self._wait(connection, began + request.keep_until / 1000)
            connection.stop_probing()
            connection.set_hops(-1)
        if request.probe_after:
            await self._wait(connection, began + request.probe_after / 1000)
            connection.probe()
        await self._wait(connection, began + request.life / 1000 + SPARE)
        connection.close(silently=True)

    async def _wait(self, connection: Connection, until: float) -> None:
        """Wait. Raises ConnectionError if the other end closes before that."""
        while (left := until - time.monotonic()) > 0:
            if connection.ended():
                raise ConnectionAbortedError
            await asyncio.sleep(min(LOOK, left))
            await _arrival(connection.sock, until)


async def _arrival(sock: socket.socket, until: float) -> None:
    """Wait until something has arrived, the end of a connection included, or the time is over."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, arrived.set)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(arrived.wait(), max(0.0, until - time.monotonic()))
    finally:
        loop.remove_reader(sock)
