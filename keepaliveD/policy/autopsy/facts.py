"""What the kernel's columns say of each ended connection by themselves, before any rule concludes from them."""

from __future__ import annotations

import errno
from typing import NamedTuple

import numpy as np

from keepaliveD.model.causes import CLOSED_IDLE_AFTER, IDLE_AFTER
from keepaliveD.model.deaths import Reset
from keepaliveD.model.keepalive import TIMER_SLACK
from keepaliveD.model.sockets import Bools, Column, TcpState

ANSWERED_LATER = 1.0  # seconds after the last data: an acknowledgement then answered a probe
START = (64, 128, 255)  # hop limits that packets leave with
LONG_WAY = 30  # hops between two hosts: a hop limit that says more began at another number
ACK = 0x10  # of TCP flags
LAST_ACK, CLOSING = 9, 11
BOTH_CLOSED = (LAST_ACK, CLOSING)
HALF_CLOSED = (TcpState.FIN_WAIT1.value, TcpState.FIN_WAIT2.value, *BOTH_CLOSED)  # this end has closed
SENDING = 2  # of shutdown: this direction alone
WHOLE = 3  # ... both directions
OPEN = (TcpState.ESTABLISHED.value, TcpState.CLOSE_WAIT.value)
IPV4 = 0xFFFF  # beginning of the lower half of a v4-mapped address
TOLERANCE = 0.2  # seconds by which packets are late on a path or a machine that is busy
LOOPBACK = 127  # first octet


class Facts(NamedTuple):
    """What the rules ask of every row."""

    idle: Bools  # quiet before the first lost packet, the reset or the FIN
    quiet_known: Bools
    live: Bools  # the reset has the form of one from a socket that knows the connection
    acknowledging: Bools  # the reset has the ACK flag
    nearer: Bools  # it came from another distance than the peer's packets ...
    by_one_hop: Bools
    farther: Bools
    unclear: Bools  # ... or that is not known
    after_close: Bools  # this end had closed before, and waited for no answer
    at_once: Bools  # it was open until it ended


def facts_of(ended: Column) -> Facts:
    """Return the facts of these ended connections, an array of DEATH."""
    silence = ended["silence"]
    peers, resets = distance(ended["peer_ttl"]), distance(ended["reset_ttl"])
    known = (peers >= 0) & (resets >= 0)
    return Facts(
        idle=silence >= IDLE_AFTER,
        quiet_known=~np.isnan(silence),
        live=is_live(ended),
        acknowledging=is_acknowledging(ended),
        nearer=known & (resets < peers),
        by_one_hop=known & (np.abs(resets - peers) == 1),
        farther=known & (resets > peers),
        unclear=~known | (peers > LONG_WAY),
        after_close=np.isin(ended["state"], HALF_CLOSED) & (ended["shutdown"] != SENDING),
        at_once=np.isin(ended["state"], OPEN),
    )


def is_acknowledging(ended: Column) -> Bools:
    """Return which resets have the ACK flag."""
    acknowledging: Bools = (ended["reset_flags"] & ACK) != 0
    return acknowledging


def is_live(ended: Column) -> Bools:
    """Return which resets have the form of one from a socket that knows the connection."""
    running: Bools = (ended["reset_id"] != 0) | (ended["reset_window"] != 0)
    running |= is_ipv6(ended) & (ended["reset_label"] != 0) & (ended["reset_label"] == ended["peer_label"])
    running &= is_acknowledging(ended) & (ended["reset_timestamps"] >= ended["timestamps"])
    return running


def lost_only_its_fin(ended: Column) -> Bools:
    """Return which connections lost only the FIN of this end: both ends had closed, and no program gets an error.

    The FIN of a program that closes late is answered by a reset, since the peer's socket is gone (tcp_fin_timeout), or
    a firewall drops it that has forgotten a connection of which one direction is closed.
    """
    lost: Bools = np.isin(ended["state"], BOTH_CLOSED) & (ended["inode"] == 0)
    lost &= ended["unacked"].astype(np.int64) + ended["unsent"] <= 1
    lost &= ~np.isin(ended["error"], (0, errno.ECONNABORTED)) & ~is_live(ended)
    return lost


def as_closed(ended: Column) -> Column:
    """Return these ends as they were before the FIN of this end was lost, where a connection lost nothing else."""
    rows = lost_only_its_fin(ended)
    if not rows.any():
        return ended
    closed = ended.copy()
    closed["error"][rows], closed["reset"][rows] = 0, Reset.NONE.value
    closed["fin_first"][rows & (ended["state"] == LAST_ACK)] = 1
    closed["silence"][rows] = _quiet_before_fin(ended)[rows]
    return closed


def is_ordinary(ended: Column) -> Bools:
    """Return which ends are an ordinary close, of which nothing else is to be said."""
    ordinary: Bools = lost_only_its_fin(ended) & (ended["signal"] == 0) & (ended["out_of_memory"] == 0)
    ordinary &= ~(_quiet_before_fin(ended) >= CLOSED_IDLE_AFTER)
    return ordinary


def _quiet_before_fin(ended: Column) -> Column:
    """Return for how many seconds no data had passed when the peer's FIN came, NaN where that is not known."""
    quiet: Column = np.maximum(np.minimum(ended["since_sent"], ended["since_received"]) - ended["since_fin"], 0)
    return quiet


def closed_in_peace(ended: Column) -> Bools:
    """Return which connections this end had closed, and ended when nothing was on its way and nothing was asked."""
    peace: Bools = np.isin(ended["state"], HALF_CLOSED) & (ended["reset"] == Reset.NONE.value)
    peace &= (ended["unacked"] == 0) & (ended["unsent"] == 0) & (ended["probes"] == 0)
    return peace


def wrote_after_fin(ended: Column) -> Bools:
    """Return which connections the peer had closed first, with what this end wrote since, or may have, on its way.

    A FIN of this end has a number, like an octet.
    """
    written = (ended["state"] == LAST_ACK) & (ended["unacked"].astype(np.int64) + ended["unsent"] > 1)
    wrote: Bools = (ended["state"] == TcpState.CLOSE_WAIT.value) | written
    return wrote


def answered_by_fin(ended: Column) -> Bools:
    """Return which connections a FIN of the peer ended that came after one of this end."""
    answered: Bools = (ended["state"] == TcpState.FIN_WAIT2.value) & ~np.isnan(ended["since_fin"])
    answered &= ended["sent_reset"] == 0
    return answered


def distance(hop_limit: Column) -> Column:
    """Return how many routers decremented these hop limits, -1 where the hop limit is unknown (0).

    The number that a packet left with is the least usual one that is not smaller.
    """
    seen = hop_limit.astype(np.int16)
    start = np.select([seen <= START[0], seen <= START[1]], START[:2], START[2])
    return np.where(seen == 0, -1, start - seen)


def is_ipv6(ended: Column) -> Bools:
    """Return which connections are IPv6."""
    ipv6: Bools = (ended["remote_high"] != 0) | (ended["remote_low"] >> np.uint64(32) != IPV4)
    return ipv6


def is_newborn(ended: Column) -> Bools:
    """Return which connections have carried no byte that arrived: a full listener may never have accepted them."""
    newborn: Bools = (ended["bytes_received"] == 0) & (ended["bytes_acked"] <= 1)
    return newborn


def is_loopback(ended: Column) -> Bools:
    """Return which connections are to an address of this host itself."""
    loopback: Bools = ~is_ipv6(ended) & (ended["remote_low"] >> np.uint64(24) & np.uint64(0xFF) == LOOPBACK)
    loopback |= (ended["remote_low"] == ended["local_low"]) & (ended["remote_high"] == ended["local_high"])
    return loopback


def is_said_here(ended: Column) -> Bools:
    """Return which ICMP errors this host sent itself, because no neighbour answered: no router has refused a packet."""
    here: Bools = (ended["icmp_type"] != 0) & (ended["router_low"] == ended["local_low"])
    here &= ended["router_high"] == ended["local_high"]
    return here


def is_said_by_peer(ended: Column) -> Bools:
    """Return which ICMP errors the peer's own address sent: its firewall, or a device in its name."""
    by_peer: Bools = (ended["icmp_type"] != 0) & (ended["router_low"] == ended["remote_low"])
    by_peer &= ended["router_high"] == ended["remote_high"]
    return by_peer


def unlabelled(ended: Column) -> Bools:
    """Return which resets lack the flow label that all packets of an IPv6 peer have."""
    lacking: Bools = is_ipv6(ended) & (ended["reset_label"] == 0) & (ended["peer_label"] != 0)
    return lacking


def never_left(ended: Column) -> Bools:
    """Return which connections had data that the peer would have taken, and of which nothing left this host."""
    never: Bools = (ended["unsent"] != 0) & (ended["unacked"] == 0) & (ended["window"] != 0)
    never &= ended["reset"] == Reset.NONE.value
    return never


def has_no_route(ended: Column, errors_of_routers: tuple[int, ...]) -> Bools:
    """Return which connections this host's own look-up of a route has failed, and no router.

    TCP takes a router's error only about data that is on its way, and clears it when the peer answers. A second
    retransmission counts as data that was sent, if it finds a route; and some errors are never a router's.
    """
    own = ((ended["unacked"] == 0) & is_ipv6(ended)) | ~np.isin(ended["error"], errors_of_routers)
    own |= (ended["retransmits"] > 1) & (ended["since_sent"] >= ended["since_lost"] - ended["timeout"])
    failed: Bools = own & (ended["error"] == ended["soft_error"]) & (ended["icmp_type"] == 0)
    return failed


def unrouted_probes(ended: Column) -> Bools:
    """Return which connections probed in vain, and each of these probes found no route on this host.

    The reset with which it gives up finds none, either.
    """
    unrouted: Bools = (ended["probes"] != 0) & (ended["unrouted"] > ended["probes"])
    return unrouted


def discarded_here(ended: Column) -> Bools:
    """Return of which connections this host has dropped a packet for each one that was sent again, or asked for.

    The last of many that were sent at once may be dropped on a path that is still well.
    """
    asked = ended["retransmits"].astype(np.int64) + ended["probes"]
    discarded: Bools = ended["discarded"] >= np.maximum(asked, 2)
    return discarded


def probed_on_time(ended: Column) -> Bools:
    """Return which connections ended as long after the last probe of the peer as that came after the one before.

    A peer that gives up does so an interval after its last probe, by a timer that may be an eighth late.
    """
    late = np.abs(ended["since_peer_probe"] - ended["peer_probe_gap"])
    on_time: Bools = late <= TOLERANCE + ended["peer_probe_gap"] / 4
    return on_time


def may_be_answered(ended: Column) -> Bools:
    """Return of which connections the peer's probes came as seldom as the first one, and so perhaps after answers.

    The first probe follows the idle time, and so does each one that follows an answer; those without follow an
    interval, which is mostly shorter. Where more probes were seen than the silence has room for, it is not known.
    """
    gap = ended["peer_probe_gap"]
    before = np.fmin(ended["since_sent"], ended["since_received"]) - ended["since_peer_probe"]
    first = before - gap * (ended["peer_probes"].astype(np.int64) - 1)
    answered: Bools = first <= gap * (1 + TIMER_SLACK) + TOLERANCE
    return answered


def kept_up_by_probes(ended: Column) -> Bools:
    """Return which connections the path still knew after a silence as long as the last one: a probe was answered then.

    The first probe follows the idle time, each later one the longer of idle time and interval. So a silence that is
    longer than the idle time was survived only if there was another one like it.
    """
    answered_for = np.fmin(ended["since_sent"], ended["since_received"]) - ended["since_acked"]
    as_long = np.maximum(ended["keepidle"] * (1 + TIMER_SLACK) + TOLERANCE, answered_for / 2)
    kept_up: Bools = (answered_for > ANSWERED_LATER) & (ended["silence"] <= as_long)
    return kept_up


def reached_since_probe(ended: Column) -> Bools:
    """Return which connections exchanged data after the last probe of the peer, whose keepalive then cannot give up."""
    probe = ended["since_peer_probe"]
    acknowledged = (ended["since_sent"] < probe) & (ended["unacked"] == 0) & (ended["unsent"] == 0)
    reached: Bools = (ended["since_received"] < probe) | acknowledged
    return reached


def outlasted_user_timeout(ended: Column, unacked: Bools) -> Bools:
    """Return which connections their TCP_USER_TIMEOUT ended: with it the kernel does not count probes."""
    limit = ended["user_timeout"].astype(np.float64) / 1000
    silent = np.fmin(ended["since_received"], ended["since_acked"])
    probed = ~unacked & (ended["probes"] != 0)
    outlasted: Bools = (limit > 0) & ((ended["since_lost"] >= limit) | (probed & (silent >= limit)))
    return outlasted
