"""What to set on one socket, given what stands there: never weaker than what its program chose."""

from __future__ import annotations

from keepaliveD.model import MAX_IDLE, MAX_PROBES, ArmAction, Armed, Fate, Keepalive, SocketKeepalive, Wish


def settle(before: SocketKeepalive, system: Keepalive | None, wish: Wish) -> SocketKeepalive | Fate:
    """The settings to bring about, or why it is left as it is.

    `system` holds the values of the socket's network namespace: what differs from them, its program
    has chosen. Without it, everything counts as chosen.
    A chosen time that is stricter stays, and a chosen number of probes stays in any case: it says
    how soon the program wants to know of a dead peer. `rearm` leaves alone whatever was chosen.
    What no socket takes (setsockopt(2)), no program has chosen.
    """
    stands, wanted = before.times, wish.times
    own_idle = system is None or stands.idle != system.idle
    own_interval = system is None or stands.interval != system.interval
    own_probes = system is None or stands.probes != system.probes
    rearm = wish.rule.action is ArmAction.REARM
    if rearm and not before.on:
        return Fate.OBSERVED
    if rearm and own_idle:
        return Fate.OWN
    keep_interval = rearm and own_interval and 1 <= stands.interval <= MAX_IDLE
    keep_probes = own_probes and 1 <= stands.probes <= MAX_PROBES
    idle = _stricter(stands.idle, wanted.idle)
    interval = stands.interval if keep_interval else _stricter(stands.interval, wanted.interval)
    return SocketKeepalive(True, Keepalive(idle, interval, stands.probes if keep_probes else wanted.probes))


def settle_order(
    before: SocketKeepalive, system: Keepalive | None, wish: Wish, armed: Armed | None, *, by_hand: bool, again: bool
) -> SocketKeepalive | Fate:
    """The same where it may have been armed earlier, by this very process (`again`) or another."""
    if armed and before == armed.after:
        return settle_again(armed, system, wish)
    if armed and (again or before != armed.before) and not by_hand:
        return Fate.SET_AGAIN
    return settle(before, system, wish)  # also where we were killed before it was set


def settle_back(before: SocketKeepalive, armed: Armed) -> SocketKeepalive | Fate:
    """What to put back into a socket that was armed."""
    earlier = _settable(armed.before, armed.after.times)
    if before in (armed.before, earlier):
        return Fate.ENOUGH
    return earlier if before == armed.after else Fate.SET_AGAIN


def _settable(wanted: SocketKeepalive, instead: Keepalive) -> SocketKeepalive:
    """The same, but for what the system's settings may say and no socket takes: of that, ours stays."""
    times = wanted.times
    return SocketKeepalive(
        wanted.on,
        Keepalive(
            times.idle if 1 <= times.idle <= MAX_IDLE else instead.idle,
            times.interval if 1 <= times.interval <= MAX_IDLE else instead.interval,
            times.probes if 1 <= times.probes <= MAX_PROBES else instead.probes,
        ),
    )


def settle_again(armed: Armed, system: Keepalive | None, wish: Wish) -> SocketKeepalive | Fate:
    """The same for one that stands as we armed it: by what its program had, and never weaker than ours."""
    wanted = settle(armed.before, system, wish)
    if isinstance(wanted, Fate):
        return Fate.ENOUGH
    ours = armed.after.times
    idle, interval = min(wanted.times.idle, ours.idle), min(wanted.times.interval, ours.interval)
    if (idle, interval) == (ours.idle, ours.interval):
        return Fate.ENOUGH
    return SocketKeepalive(True, Keepalive(idle, interval, wanted.times.probes))


def _stricter(stands: int, wanted: int) -> int:
    """The shorter one; zero and less, which sysctls take for "at once" and "never", are no times."""
    return min(stands, wanted) if stands > 0 else wanted
