"""Decide what to set in one socket, given what stands there: never weaker than what its program had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import FIELDS, MAX_IDLE, MAX_PROBES, Found, Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed, ArmingResult, Entry, PutBack
from keepaliveD.model.rules import ArmAction, Wish
from keepaliveD.policy.arming.meaning import fits, longest
from keepaliveD.policy.arming.strictness import Promise, number_of_probes, outage, promise_of, shorter_times, strictest


class Wanted(NamedTuple):
    """What is asked for of a socket, and what is known of its connection; `timeout` is the path's in seconds.

    `armed` tells how it was armed earlier, `again` that this very process did. `certain` is whether the verdict is.
    """

    wish: Wish
    timeout: float
    verdict: Verdict
    armed: Armed | None = None
    by_hand: bool = False
    again: bool = False
    certain: bool = True


def decide_arming(found: Found, request: Wanted) -> Armed | ArmingResult:
    """Return how to arm the socket, or why it is left as it is.

    What we armed earlier is judged by what its program had before, and never weakened. What was changed
    since is left, unless a person asks.
    """
    armed = request.armed
    if armed and _stands_as_armed(found, armed):
        return _arm_again(found, armed, request)
    if armed and not request.by_hand and (request.again or found.stands != without_arming(found, armed)):
        return ArmingResult.CHANGED_SINCE
    times = _wanted(found, request)  # also where we were killed between the record and the setting
    if isinstance(times, ArmingResult):
        return times
    if not _helps(times, request):
        return ArmingResult.TOO_LONG
    return _arm_with(SocketKeepalive(True, times), found, request)


def _arm_with(after: SocketKeepalive, found: Found, request: Wanted) -> Armed | ArmingResult:
    """Return how to arm with times that help, unless all is well or they would end the connection sooner.

    Times that stand already may end it sooner too: the timer that is restarted was an older, longer one.
    """
    if after == found.stands and not found.inherited and request.verdict is Verdict.SAFE:
        return ArmingResult.ALREADY_SET
    return _forbidden(after.times, found) or Armed(found.stands, after, found.inherited)


def decide_disarming(found: Found, armed: Armed) -> SocketKeepalive | ArmingResult:
    """Return what to put back into a socket that was armed, or why it is left as it is."""
    earlier = without_arming(found, armed)
    back = SocketKeepalive(earlier.on, _settable(earlier.times, found.stands.times))
    if found.stands in (earlier, back):
        return ArmingResult.ALREADY_SET
    if not (_stands_as_armed(found, armed) or _is_half_set(found.stands, armed, back)):
        return ArmingResult.CHANGED_SINCE
    is_ended = back.on and found.unanswered >= back.times.probes
    return ArmingResult.PROBE_UNANSWERED if is_ended else back


def as_before(found: Found, entry: Entry | None) -> Found:
    """Return what stands in a socket, with what we have put back as inherited if it was: no program chose it."""
    if isinstance(entry, PutBack) and found.stands == entry.stands:
        return found._replace(inherited=entry.inherited)
    return found


def as_chosen(armed: Armed, system: Keepalive) -> Armed:
    """Return the record of a socket as if its program had chosen these where it took its namespace's values."""
    if armed.inherited & Own.UNTOLD:
        return armed
    stood = zip(FIELDS, armed.before.times, system, strict=True)
    times = Keepalive(*(its if armed.inherited & field else chosen for field, chosen, its in stood))
    return Armed(SocketKeepalive(armed.before.on, times), armed.after, Own(0))


def without_arming(found: Found, armed: Armed) -> SocketKeepalive:
    """Return what a socket would have had we not armed it.

    That is what its program chose, and for the rest what its network namespace says now.
    """
    if armed.inherited & Own.UNTOLD:
        chosen = [stood if stood != ours else stands for stood, ours, stands in _columns(found, armed)]
        return SocketKeepalive(armed.before.on, Keepalive(*chosen))
    stood, system = armed.before.times, found.system or armed.before.times
    mixed = [
        its if armed.inherited & field else chosen for field, its, chosen in zip(FIELDS, system, stood, strict=True)
    ]
    return SocketKeepalive(armed.before.on, Keepalive(*mixed))


def _columns(found: Found, armed: Armed) -> Sequence[tuple[int, int, int]]:
    """Return for each of the three times: what stood there before, what we set, what stands now."""
    return list(zip(armed.before.times, armed.after.times, found.stands.times, strict=True))


def _stands_as_armed(found: Found, armed: Armed) -> bool:
    """Return whether what we set is what stands.

    Records in the earlier format do not say which times were set: a time that was right already was not set,
    and follows the network namespace.
    """
    if found.stands == armed.after:
        return True
    if not armed.inherited & Own.UNTOLD or found.system is None or found.stands.on != armed.after.on:
        return False
    return all(
        stands == ours or (stood == ours and stands == system)
        for (stood, ours, stands), system in zip(_columns(found, armed), found.system, strict=True)
    )


def _is_half_set(stands: SocketKeepalive, armed: Armed, back: SocketKeepalive) -> bool:
    """Return whether each option has what we set or what it is to get back: whoever set it was killed in between.

    What a program has set since is in what it gets back then, or cannot be told from ours. Who finds all of our times
    and keepalive off has switched it off.
    """
    if armed.inherited & Own.UNTOLD or stands.times == armed.after.times:
        return False
    options = zip(*((each.on, *each.times) for each in (stands, armed.after, back)), strict=True)
    return all(stand in either for stand, *either in options)


def _arm_again(found: Found, armed: Armed, request: Wanted) -> Armed | ArmingResult:
    """Return how to arm a socket that stands as we armed it, or why it is left as it is."""
    before, ours = without_arming(found, armed), found.stands.times
    wanted = _wanted(Found(before, armed.inherited, found.system), request)
    times = ours if isinstance(wanted, ArmingResult) else strictest(ours, wanted)
    if not _helps(times, request):
        return ArmingResult.TOO_LONG
    if times == ours and (request.again or request.verdict is not Verdict.LATE):
        return ArmingResult.ALREADY_SET  # late under such times means that its timer was never set
    return _forbidden(times, found) or Armed(before, SocketKeepalive(True, times), armed.inherited & ~Own.UNTOLD)


def _wanted(found: Found, request: Wanted) -> Keepalive | ArmingResult:
    """Return the times to set, whether or not they help, or why there are none.

    The shorter idle time and interval hold. The number of probes is the rule's, or the program's if it chose a higher
    one, as far as a dead peer is noticed no later than before and no outage ends the connection sooner: with shorter
    times, a low number would end it in an outage of seconds.
    Where keepalive is off no outage ended it, and a dead peer was never noticed: no outage ends it then that the rule's
    own times would survive, however low a number stands there that was never in force.
    `rearm` leaves alone whatever its program chose, and so does everybody else where that is on and safe.
    """
    stands, wanted = found.stands.times, request.wish.times
    rearm = request.wish.rule.action is ArmAction.REARM
    if rearm and not found.stands.on:
        return ArmingResult.LEFT_BY_RULE
    if found.stands.on and not found.inherited & Own.IDLE:
        if rearm:
            return ArmingResult.KEPT_BY_PROGRAM
        if not request.by_hand and fits(stands, request.timeout) and _settable(stands, wanted) == stands:
            return stands
    chosen_interval = not found.inherited & Own.INTERVAL and 1 <= stands.interval <= MAX_IDLE
    if rearm and chosen_interval:
        if not _helps(stands._replace(idle=1), request):
            return ArmingResult.KEPT_BY_PROGRAM
        wanted = wanted._replace(interval=stands.interval)
    if not found.inherited & Own.PROBES and 1 <= stands.probes <= MAX_PROBES:
        wanted = wanted._replace(probes=max(stands.probes, wanted.probes))
    return _never_weaker(found.stands, wanted, request)


def _never_weaker(stands: SocketKeepalive, wanted: Keepalive, request: Wanted) -> Keepalive:
    """Return the times wanted, as far as they are no weaker than what stands, or than nothing where that is off.

    The connection may have been silent for longer than the idle time wanted: for as long as the path waits, or if it
    is cut, until its own first probe is due.
    If a socket takes too few probes to survive as long an outage, the interval is longer. The idle time then is so
    short that two probes leave before the path forgets, and no shorter than the interval, so that the steady period
    does not grow.
    """
    stood = stands.times
    if min(stood) <= 0:
        return strictest(stood, wanted)
    room = longest(request.timeout)
    kept, most = promise_of(stood, stood.idle if request.verdict is Verdict.CUT else room), stood.interval
    if not stands.on:
        kept = Promise(max(outage(stood), outage(wanted)), FOREVER)
        most = max(stood.interval, wanted.interval)
    idle, interval = shorter_times(stood, wanted)
    probes = number_of_probes(idle, interval, wanted.probes, kept)
    if stands.on and (idle, interval) == (stood.idle, stood.interval):
        probes = stood.probes
    if probes < MAX_PROBES:
        return Keepalive(idle, interval, probes)
    longer = min(-(-kept.outage // (MAX_PROBES - 1)), most, idle, room // 2)
    if longer <= interval:
        return Keepalive(idle, interval, MAX_PROBES)
    idle = min(idle, room - longer)
    return Keepalive(idle, longer, min(number_of_probes(idle, longer, wanted.probes, kept), MAX_PROBES))


def _helps(times: Keepalive, request: Wanted) -> bool:
    """Return whether the times help: they keep the connection, or show its program that the connection is cut.

    One that is presumed to be cut may live.
    """
    return (request.verdict is Verdict.CUT and request.certain) or fits(times, request.timeout)


def _forbidden(times: Keepalive, found: Found) -> ArmingResult | None:
    """Return why these times must not be set now, though they would help; None where they may be.

    A socket whose probe is not answered yet has been helped. To set it restarts its timer: if as many probes are
    unanswered as it has then, that ends the connection at once (tcp_keepalive_timer, net/ipv4/tcp_timer.c).
    """
    if _ends_sooner(times, found.user_timeout):
        return ArmingResult.USER_TIMEOUT
    return ArmingResult.PROBE_UNANSWERED if found.unanswered else None


def _ends_sooner(times: Keepalive, user_timeout: int) -> bool:
    """Return whether TCP_USER_TIMEOUT (ms) ends a connection in an outage that its probes would survive.

    Keepalive then does not count probes: the first that comes due unanswered after that time of silence
    ends the connection (tcp_keepalive_timer, net/ipv4/tcp_timer.c).
    """
    return 0 < user_timeout <= 1000 * (times.idle + (times.probes - 1) * times.interval)


def _settable(times: Keepalive, instead: Keepalive) -> Keepalive:
    """Return the times, with those of `instead` where a socket takes none: a system's settings have wider ranges."""
    return Keepalive(
        times.idle if 1 <= times.idle <= MAX_IDLE else instead.idle,
        times.interval if 1 <= times.interval <= MAX_IDLE else instead.interval,
        times.probes if 1 <= times.probes <= MAX_PROBES else instead.probes,
    )
