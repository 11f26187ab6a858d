"""Combine keepalive settings so that a new one never weakens what stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from keepaliveD.model.keepalive import MAX_PROBES, Keepalive
from keepaliveD.model.rules import Roles


def keep_stricter(stands: Mapping[str, int], wanted: Mapping[str, int], roles: Roles) -> Mapping[str, int]:
    """Return the settings to bring about: those wanted, unless a stricter time stands.

    Numbers are the kernel's. A system without all three roles keeps each shorter time, and all the rest where
    no time is to be shortened: how its settings act together is not known.
    """
    if not wanted:
        return wanted
    times = [key for key in (roles.idle, roles.interval) if key]
    if all(_shorter(stands[key], wanted[key]) == wanted[key] for key in times):
        return wanted
    if all(roles):
        ours = _settings(stands, roles)
        settled = _with_enough_probes(ours, strictest(ours, _settings(wanted, roles)))
        return dict(zip(roles, settled, strict=True))
    shorter = {key: _shorter(stands[key], wanted[key]) for key in times}
    return (
        {**wanted, **shorter} if any(shorter[key] != stands[key] for key in times) else {k: stands[k] for k in wanted}
    )


def _settings(values: Mapping[str, int], roles: Roles) -> Keepalive:
    return Keepalive(*(values[key] for key in roles))


def _with_enough_probes(stands: Keepalive, times: Keepalive) -> Keepalive:
    """Return the same, with a longer interval where a kernel takes too few probes to survive an outage as long.

    The steady period of answered probes, the longer of idle time and interval, grows beyond neither.
    """
    if min(stands) <= 0 or outage(times) >= outage(stands):
        return times
    longest = max(times.idle, stands.interval if times.idle == stands.idle else 0)
    needed = -(-outage(stands) // (times.probes - 1))
    return times._replace(interval=max(times.interval, min(needed, stands.interval, longest)))


def strictest(stands: Keepalive, wanted: Keepalive) -> Keepalive:
    """Return the settings that are no weaker than `stands` in any respect, and otherwise those wanted.

    The shorter idle time and the shorter interval hold. The number of probes is the one wanted, as far as
    with it a dead peer is noticed no later than with `stands`, and an outage of the network that a connection
    survived with `stands` is survived still. Where not both are possible, the outage is survived.
    Times need one unit, whichever. Zero and less, which a kernel may hold, are no times and no number.
    """
    idle, interval = shorter_times(stands, wanted)
    if min(stands) <= 0:
        return Keepalive(idle, interval, wanted.probes)
    if (idle, interval) == (stands.idle, stands.interval):
        return stands
    probes = number_of_probes(idle, interval, wanted.probes, promise_of(stands))
    return Keepalive(idle, interval, min(probes, max(MAX_PROBES, wanted.probes)))


class Promise(NamedTuple):
    """What new settings have to keep, in seconds: which outage is survived, and when a dead peer is noticed.

    The first probe leaves once the idle time is over, or at once where the connection has been silent for longer;
    `silent` says for how long it may have been.
    """

    outage: int
    noticed: float
    silent: int = 0


def promise_of(stands: Keepalive, silent: int = 0) -> Promise:
    """Return what these settings promise to a connection that is silent for up to so long, and not probed yet."""
    return Promise(outage(stands), stands.idle + stands.probes * stands.interval, min(silent, stands.idle))


def number_of_probes(idle: int, interval: int, wanted: int, promise: Promise) -> int:
    """Return the number of probes wanted, as far as it keeps the promise; the outage counts most."""
    fewest = -(-promise.outage // interval) + 1
    most = (promise.noticed - max(idle, promise.silent)) // interval
    return max(fewest, int(min(wanted, most)))


def shorter_times(stands: Keepalive, wanted: Keepalive) -> tuple[int, int]:
    """Return the shorter idle time and the shorter interval."""
    return _shorter(stands.idle, wanted.idle), _shorter(stands.interval, wanted.interval)


def outage(times: Keepalive) -> int:
    """Return the longest outage that an idle connection survives for certain."""
    return (times.probes - 1) * times.interval


def _shorter(stands: int, wanted: int) -> int:
    return min(stands, wanted) if stands > 0 else wanted
