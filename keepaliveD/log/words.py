"""Words that the log and keepalivectl have in common."""

from __future__ import annotations

import os

from keepaliveD.model.connections import Connection
from keepaliveD.model.duration import exact, span
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.text import quoted
from keepaliveD.policy.arming.meaning import longest

THIS_NAMESPACE = "this network namespace"  # of who has scanned


def own_namespace() -> int:
    """Return the network namespace of this process, as its inode; -1 where that cannot be told."""
    try:
        return os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return -1


def too_long(times: Keepalive, connection: Connection) -> str:
    """Return which time is too long for the path, and what would be right."""
    name, time = ("idle", times.idle) if times.idle >= times.interval else ("interval", times.interval)
    most = longest(connection.timeout)
    remedy = f'use idle = "auto", or at most {exact(most)}' if most else "no idle time in whole seconds is short enough"
    forgets = f"path {quoted(connection.path)} forgets after {span(connection.timeout)} ({connection.origin})"
    return f"{name} {exact(time)} is too long: {forgets}; {remedy}"
