"""Measure until enough is known, or serve measurements until the time is over; Ctrl-C ends both and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import signal
from collections.abc import Coroutine, Iterator
from pathlib import Path

from keepaliveD.cli.measure import measured
from keepaliveD.cli.measure.introduction import Introduction
from keepaliveD.cli.measure.progress import Progress, say
from keepaliveD.measuring.connections import Connections
from keepaliveD.measuring.greeting import new_token
from keepaliveD.measuring.listener import Listener, bound
from keepaliveD.measuring.measurement import Measurement
from keepaliveD.measuring.opening import Target
from keepaliveD.measuring.tomography import Tomography
from keepaliveD.model import text
from keepaliveD.model.duration import span
from keepaliveD.policy.measuring.measurement import How, Limits


def measure(target: Target, limits: Limits, root: Path, *, where: bool) -> tuple[measured.Found, bool]:
    """Measure until enough is known, or until Ctrl-C. Return what was found, and whether it was Ctrl-C."""
    return asyncio.run(_measure(target, limits, root, where=where))


def listen(port: int, seconds: float, root: Path) -> None:
    """Serve measurements until the time is over, or until Ctrl-C."""
    asyncio.run(_listen(port, seconds, root))


async def _measure(target: Target, limits: Limits, root: Path, *, where: bool) -> tuple[measured.Found, bool]:
    measurement = Measurement(target, limits, Introduction(root))
    tomography = Tomography(measurement.far_end, measurement.connections, limits.longest)
    stop = asyncio.Event()
    with _interruptible(stop):
        await _until(stop, measurement.run(), Progress(measurement))
        tried = where and not stop.is_set() and not measurement.far_end.gone
        if tried:
            finding = tomography.run(measurement.bracket, measurement.resets.hops_left)
            await _until(stop, finding, Progress(measurement, tomography))
        await _free(measurement.connections)
        stopped = stop.is_set()
    found = _found(measurement, tomography)
    if stopped:
        hops = "not every hop was done with" if tried else "no hop was tried"
        found = dataclasses.replace(found, gone=f"stopped by a signal{f'; {hops}' if where else ''}")
    return found, stopped


async def _listen(port: int, seconds: float, root: Path) -> None:
    token = new_token()
    server = bound(port)
    stop = asyncio.Event()
    with _interruptible(stop):
        say(
            f"listening on port {port} for {span(seconds)}, or until Ctrl-C; at the other end run:",
            f"  keepalivectl measure THIS_HOST:{port} --token {token}",
        )
        listener = Listener(server, token, say, Introduction(root))
        await listener.serve(seconds, stop)
    say(f"served {listener.served} connections")


@contextlib.contextmanager
def _interruptible(stop: asyncio.Event) -> Iterator[None]:
    """Have Ctrl-C, a polite kill, and a terminal that goes away set `stop`; after nohup that one goes unnoticed."""
    loop = asyncio.get_running_loop()
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _free(connections: Connections) -> None:
    """Free what the service still holds; a further Ctrl-C leaves it there, and loses nothing that was found."""
    if not connections.held:
        return
    enough = asyncio.Event()
    with _interruptible(enough):
        say(f"freeing {text.connections(connections.held)} that the service may still hold; Ctrl-C leaves them")
        await _until(enough, connections.free())


async def _until(stop: asyncio.Event, work: Coroutine[None, None, None], progress: Progress | None = None) -> None:
    """Do the work, or as much of it as is done until `stop`. Raises what it raises."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        while not (working.done() or stop.is_set()):
            if progress:
                progress.show()
            await asyncio.wait([working, stopping], timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if progress:
            progress.end()
        stopping.cancel()
    if working.done():
        working.result()
    else:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def _found(measurement: Measurement, tomography: Tomography) -> measured.Found:
    bracket = measurement.bracket
    return measured.Found(
        name=measurement.target.name,
        address=measurement.target.address[0],
        bracket=bracket,
        keepalive_helps=measurement.keepalive_helps,
        reset_by_peer=measurement.resets.by_peer if bracket.how is How.RESET else None,
        outages=measurement.far_end.outages,
        speaks=measurement.speaks,
        left_open=measurement.connections.left_open,
        connections=measurement.opened,
        gone=measurement.far_end.gone,
        by_listener=measurement.target.is_listener,
        date=datetime.datetime.now().astimezone().date(),
        counted=tomography.map.tried,
        hop_count=tomography.map.count,
        routers_back=tomography.map.back,
        hops=tuple(tomography.map.names),
        devices=tuple(tomography.map.devices),
        stopped_by=tomography.map.stopped_by,
        losses=tuple(measurement.losses),
        interface=measurement.target.interface,
    )
