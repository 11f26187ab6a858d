"""See what becomes of a probe of a quiet connection, and what that shows of the path."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.far_end import FarEnd
from keepaliveD.policy.measuring import measurement as policy
from keepaliveD.policy.measuring.measurement import PlannedTest, Result, Seen, Side

POLL = 0.02  # seconds between two looks at a connection that was probed
PATIENCE = 0.3  # seconds for an answer; longer where the round trip is
ROUND_TRIPS = 4
TRIES = 2.3  # seconds in which the kernel tries twice more
NEXT_PROBE = 1.2  # seconds after which the next probe of the kernel leaves


async def responds(connection: Connection, within: float) -> bool:
    """Whether a packet arrives within so many seconds, a reset included."""
    deadline = time.monotonic() + within
    while not (connection.ended() or connection.heard()):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True


def patience(connection: Connection) -> float:
    """Return how long to wait for the answer to one probe, in seconds."""
    return max(PATIENCE, ROUND_TRIPS * connection.state().rtt)


async def answer(connection: Connection, plan: PlannedTest, asked: float, far_end: FarEnd) -> Seen:
    """See what becomes of a probe: after silence first a fresh connection, then two more tries."""
    until = connection.quiet_at_most  # a busy machine may have waited between looking at the clock and sending
    patient = patience(connection)
    again = None
    due = max(0.0, plan.quiet - asked) if plan.prober is Side.THERE else 0.0  # only the peer has yet to probe
    responded = await responds(connection, due + patient)
    if plan.prober is Side.THERE:
        until = connection.quiet_at_most if responded else plan.quiet
        asked = min(until, connection.unbroken + 2 * POLL) if responded else until  # it may have been stopped
    if not responded:
        if not await _is_up(far_end, plan.prober):
            return Seen(plan, asked)
        again = connection.quiet
        if plan.prober is Side.HERE:
            connection.probe()
        until = connection.quiet_at_most + (NEXT_PROBE if plan.prober is Side.THERE else 0.0)
        await responds(connection, TRIES + patient)
    reset = connection.was_reset
    closed = connection.ended() and not connection.error
    answered = connection.has_answered()  # also if a service resets it just afterwards
    return Seen(plan, asked, answered=answered, reset=reset, closed=closed, again=again, until=until)


async def _is_up(far_end: FarEnd, prober: Side) -> bool:
    """Wait until a fresh connection stands. If the peer probes, it surely has by then: its program answers both."""
    return await (far_end.path_is_up() if prober is Side.HERE else far_end.stands_from_now())


async def meaning(seen: Seen, far_end: FarEnd) -> Result:
    """Return what a connection shows; of one that ended, once it is known whether the far end is still there."""
    never_closes = far_end.target.is_listener
    result = policy.meaning(seen, never_closes=never_closes)
    if result.end not in policy.OVER:
        return result
    there = await far_end.is_there(closed=seen.closed)
    return policy.meaning(replace(seen, there=there), never_closes=never_closes)
