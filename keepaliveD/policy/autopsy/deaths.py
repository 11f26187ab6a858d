"""Decide what ended each connection: columns of what the kernel knew go in, columns of causes come out.

The rules stand in the order in which they count. Each was found with ends that were made on purpose; of some
ends one host cannot tell two causes apart, so that a rule names the others, too.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from keepaliveD.model.causes import Cause
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.deaths import UNKEPT, Reset
from keepaliveD.model.sockets import Bools, Column, TcpState
from keepaliveD.policy.autopsy.facts import (
    ACK,
    SENDING,
    WHOLE,
    Facts,
    answered_by_fin,
    as_closed,
    closed_in_peace,
    discarded_here,
    distance,
    facts_of,
    has_no_route,
    is_loopback,
    is_newborn,
    is_said_by_peer,
    is_said_here,
    kept_up_by_probes,
    may_be_answered,
    never_left,
    outlasted_user_timeout,
    probed_on_time,
    reached_since_probe,
    unlabelled,
    unrouted_probes,
    wrote_after_fin,
)

JUST_BEFORE = 1.0  # seconds from a SYN in the middle of the connection to the reset, which takes a round trip
CERTAIN = 0.99  # of confidence
DOUBTFUL = 0.6  # ... at most, where something is not seen that would tell
OF_ICMP = (  # what an ICMP error makes of a connection (icmp_err_convert, net/ipv4/icmp.c; net/ipv6/icmp.c)
    *(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENONET, errno.ECONNREFUSED, errno.ENOPROTOOPT),
    *(errno.EOPNOTSUPP, errno.EPROTO, errno.EACCES, errno.EMSGSIZE),
)


class Rule(NamedTuple):
    """What is told of the rows in which it is the first that applies; `others` are causes that may be instead."""

    applies: Bools
    cause: Cause
    confidence: float
    others: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class Causes:
    """What ended each of these connections, in the order of model.deaths.DEATH rows."""

    cause: Column  # Cause
    confidence: Column  # 0 to 1
    runner_up: Column  # Cause that cannot be told apart from it; UNKNOWN if there is none
    hop: Column  # of the middlebox that sent the reset, counted from this host as 1; 0 unknown
    peer_hop: Column  # of the peer, 0 unknown
    rule: Column  # number of the rule that applied
    others: tuple[tuple[Cause, ...], ...]  # by rule, all causes that cannot be told apart from it

    def candidates(self, row: int) -> tuple[Cause, ...]:
        """Return the cause of this row, and those that it cannot be told apart from."""
        return Cause(int(self.cause[row])), *self.others[int(self.rule[row])]


BY_A_MIDDLEBOX = (Cause.MIDDLEBOX_IDLE, Cause.MIDDLEBOX_BUSY)
DEAF = (Cause.PEER_NOT_READING, Cause.PATH_DIED)
UNAWARE = (Cause.NAT_FORGOT, Cause.PEER_RESTARTED, Cause.PEER_FIREWALL)
BEFORE = (Cause.PEER_GAVE_UP, Cause.PEER_ABORTED)  # with a reset that was lost
HALF_CLOSED_BY_PEER = (Cause.UNKNOWN_TO_PEER, *UNAWARE)  # if the peer waited for an answer


# By a column that is not known, what cannot be ruled out: where this host gave up, where something that does not
# know the connection reset it, where the peer seems to have aborted it, and where this host did.
BEHIND_A_TIMEOUT: Mapping[str, tuple[Cause, ...]] = {
    "dropped_by_firewall": (Cause.LOCAL_FIREWALL,),
    "dropped_by_md5": (Cause.MD5_MISMATCH,),
    "unrouted": (Cause.LOCAL_NETWORK,),
    "user_timeout": (Cause.USER_TIMEOUT, Cause.PEER_NOT_READING),
}
BEHIND_A_RESET: Mapping[str, tuple[Cause, ...]] = {"dropped_leaving": (Cause.LOCAL_FIREWALL,)}
BEHIND_A_LATE_RESET: Mapping[str, tuple[Cause, ...]] = {  # this host may have dropped it, as what came before it
    "dropped_by_firewall": (Cause.LOCAL_FIREWALL,),
    "dropped_by_md5": (Cause.MD5_MISMATCH,),
}
BEHIND_AN_ABORT: Mapping[str, tuple[Cause, ...]] = {
    "peer_probes": (Cause.PEER_KEEPALIVE,),
    "state": (Cause.PEER_ABORTED_AFTER_CLOSE,),
    "shutdown": (Cause.PEER_ABORTED,),
}
BEHIND_A_KILL: Mapping[str, tuple[Cause, ...]] = {  # the kernel ends subflows of MPTCP so for their program
    "closer": (Cause.UNKNOWN, Cause.CLOSED_UNREAD, Cause.PROGRAM_KILLED, Cause.PROGRAM_ENDED)
}
BEHIND_A_CLOSE: Mapping[str, tuple[Cause, ...]] = {
    "closer": (Cause.PROGRAM_KILLED, Cause.PROGRAM_ENDED, Cause.OUT_OF_MEMORY, Cause.LOCAL_KILL)
}


def not_ruled_out(table: Mapping[str, tuple[Cause, ...]], unknown: Collection[str]) -> tuple[Cause, ...]:
    """Return the causes that a table has for columns that are not known."""
    return tuple(cause for column, causes in table.items() if column in unknown for cause in causes)


def decide(ended: Column, survived: Column | None = None, unknown: Collection[str] = ()) -> Causes:
    """Return what ended these connections, an array of DEATH.

    `survived`: the longest silence that each was known to survive, in seconds; NaN or 0 where none is known.
    `unknown`: columns that the engine cannot fill.
    """
    ended = as_closed(ended)
    survived = survived if survived is not None else np.zeros(len(ended))
    rules = list(_rules(ended, survived, unknown))
    if (unkept := ended["unkept"] != 0).any():
        beside = _rules(ended, survived, {*unknown, *UNKEPT})
        rules = [*(rule._replace(applies=rule.applies & unkept) for rule in beside), *rules]
    last = len(rules)
    which = np.select([rule.applies for rule in rules], list(range(last)), last)
    causes = np.array([*(rule.cause for rule in rules), Cause.UNKNOWN], np.uint8)[which]
    confidence = np.array([*(rule.confidence for rule in rules), 0.0], np.float32)[which]
    first = np.array([*((*rule.others, Cause.UNKNOWN)[0] for rule in rules), Cause.UNKNOWN], np.uint8)[which]
    by_middlebox = np.isin(causes, BY_A_MIDDLEBOX)
    peers, resets = distance(ended["peer_ttl"]), distance(ended["reset_ttl"])
    hop = np.where(by_middlebox & (resets >= 0) & ((resets < peers) | (peers < 0)), resets + 1, 0)
    return Causes(causes, confidence, first, hop, peers + 1, which, (*(rule.others for rule in rules), ()))


def _rules(ended: Column, survived: Column, unknown: Collection[str] = ()) -> Iterator[Rule]:
    """Yield every rule; of each row the first that applies counts."""
    facts, error = facts_of(ended), ended["error"]
    killed = Rule(error == errno.ECONNABORTED, Cause.LOCAL_KILL, 0.99)
    yield _beside(killed, not_ruled_out(BEHIND_A_KILL, unknown))
    late, dropped = ended["retransmits"] > 1, not_ruled_out(BEHIND_A_LATE_RESET, unknown)
    for rule in _beside_drops(_resets(ended, facts, unknown), ended):
        if dropped:
            yield _beside(rule._replace(applies=rule.applies & late), dropped)
        if rule.cause is Cause.MIDDLEBOX_IDLE:
            survives = rule.applies & (ended["silence"] < survived)
            yield _beside(rule._replace(applies=survives), (Cause.MIDDLEBOX_BUSY,))
        yield rule
    # an error that came before had not ended it
    closing = (ended["shutdown"] == WHOLE) & (facts.at_once | (np.isin(error, OF_ICMP) & closed_in_peace(ended)))
    broken = (error != 0) & ~closing
    undecided = (Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED)
    yield Rule(broken & (ended["dropped_by_firewall"] > 1), Cause.LOCAL_FIREWALL, 0.6, undecided)
    signed = broken & (ended["dropped_by_md5"] != 0)  # or somebody who knows the ports has forged a packet or two
    yield Rule(signed, Cause.MD5_MISMATCH, 0.6, undecided)
    own = () if "dropped_by_firewall" not in unknown else (Cause.LOCAL_FIREWALL,)
    yield _beside(Rule(broken & never_left(ended), Cause.LOCAL_NETWORK, 0.9), own)
    some = broken & (ended["unacked"] == 0) & (ended["unrouted"] != 0)
    yield Rule(some & unrouted_probes(ended), Cause.LOCAL_NETWORK, 0.9)
    yield Rule(some, Cause.LOCAL_NETWORK, 0.6, undecided)
    ordinary = np.isin(error, (0, errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE))
    by_peer = is_said_by_peer(ended)
    refused = broken & ~ordinary & (error == ended["soft_error"])
    yield Rule(refused & has_no_route(ended, OF_ICMP), Cause.LOCAL_NETWORK, 0.9)
    yield Rule(refused & by_peer, Cause.UNREACHABLE, 0.95, (Cause.PEER_FIREWALL,))
    yield Rule(refused & (ended["icmp_type"] == 0), Cause.UNREACHABLE, 0.8, (Cause.LOCAL_NETWORK,))
    yield Rule(refused, Cause.UNREACHABLE, 0.95)
    yield Rule(broken & np.isin(error, OF_ICMP), Cause.UNREACHABLE, 0.7)
    timed_out, unseen = broken & (error == errno.ETIMEDOUT), not_ruled_out(BEHIND_A_TIMEOUT, unknown)
    discarded, here = ended["discarded"] != 0, (Cause.LOCAL_NETWORK, Cause.LOCAL_FIREWALL)
    here_alone = timed_out & (discarded_here(ended) | (ended["no_carrier"] != 0))
    yield Rule(here_alone, Cause.LOCAL_NETWORK, 0.6, (*here[1:], *undecided))
    by_router = (ended["icmp_type"] != 0) & ~is_said_here(ended)
    unclear = Rule(timed_out & by_router, Cause.UNREACHABLE, 0.7, (*undecided[::-1], *unseen))
    yield _beside(unclear._replace(applies=unclear.applies & by_peer), (Cause.PEER_FIREWALL,))
    yield unclear
    once = timed_out & (ended["dropped_by_firewall"] == 1)  # and what else was sent or answered was lost on its way
    for rule in _timeouts(ended, facts, survived):
        yield _beside(rule._replace(applies=once & rule.applies), (Cause.LOCAL_FIREWALL, *unseen), likelier=True)
        yield _beside(rule._replace(applies=timed_out & discarded & rule.applies), (*here, *unseen))
        yield _beside(rule._replace(applies=timed_out & rule.applies), unseen)
    for rule in _closes(ended, facts, unknown):
        yield rule._replace(applies=rule.applies & (closing | (error == 0) | (error == errno.EPIPE)))


def _beside(rule: Rule, others: tuple[Cause, ...], *, likelier: bool = False) -> Rule:
    """Return the rule with these others, which make it doubtful, and may be likelier than those that it has."""
    others = tuple(each for each in others if each not in {rule.cause, *rule.others})
    if not others:
        return rule
    all_others = (*others, *rule.others) if likelier else (*rule.others, *others)
    return rule._replace(confidence=min(rule.confidence, DOUBTFUL), others=all_others)


def _beside_drops(rules: Iterable[Rule], ended: Column) -> Iterator[Rule]:
    """Yield each rule, beside this host's own firewall where that has dropped a packet since the peer was heard.

    It may have rejected what the peer sent, so that the peer ended the connection. Or somebody has forged the packet.
    """
    dropped = ended["dropped_by_firewall"] != 0
    for rule in rules:
        yield _beside(rule._replace(applies=rule.applies & dropped), (Cause.LOCAL_FIREWALL,), likelier=True)
        yield rule


def _resets(ended: Column, facts: Facts, unknown: Collection[str]) -> Iterator[Rule]:
    """Yield the rules about connections that a reset ended."""
    closing = wrote_after_fin(ended)
    rules = (
        *_local_resets(ended),
        *_aborts(ended, facts, unknown),
        *_came_back(ended, facts, closing),
        *_resets_of_strangers(ended, facts, closing, unknown),
    )
    received = ended["reset"] == Reset.RECEIVED.value
    yield from (rule._replace(applies=received & rule.applies) for rule in rules)
    unchecked = ended["reset"] == Reset.UNCHECKED.value
    yield from (_beside(rule._replace(applies=unchecked & rule.applies), (Cause.UNKNOWN,)) for rule in rules)
    unseen = ended["reset"] == Reset.UNSEEN.value
    yield from _by_silence(unseen & (ended["afterwards"] != 0), facts, 0.7, Cause.PEER_ABORTED)
    yield Rule(unseen & closing, Cause.WROTE_AFTER_CLOSE, 0.8, HALF_CLOSED_BY_PEER)
    yield Rule(unseen, Cause.UNKNOWN, 0.3, (Cause.PEER_ABORTED, Cause.UNKNOWN_TO_PEER, *BY_A_MIDDLEBOX))


def _by_silence(applies: Bools, facts: Facts, confidence: float, *others: Cause) -> Iterator[Rule]:
    """Yield the rules about a middlebox: after idle, while busy, and where the silence is not known."""
    yield Rule(applies & facts.idle, Cause.MIDDLEBOX_IDLE, confidence, others)
    yield Rule(applies & facts.quiet_known, Cause.MIDDLEBOX_BUSY, confidence, others)
    yield Rule(applies, Cause.MIDDLEBOX_IDLE, 0.6, (Cause.MIDDLEBOX_BUSY, *others))


def _local_resets(ended: Column) -> Iterator[Rule]:
    """Yield the rules about resets that this host sent itself.

    A firewall of this host drops the leaving packet to which it answers with a reset. It may have dropped one before,
    and a program of this host have forged the reset. Where it has dropped none, a proxy of this host may be the peer.
    A connection to an address of this host itself has no distance: there a reset over loopback says nothing.
    """
    dropped, own = ended["dropped_leaving"] != 0, is_loopback(ended)
    unaware = (ended["reset_flags"] & ACK) == 0  # a firewall answers packets, it has no socket
    here = (ended["reset_local"] != 0) & ~own
    yield Rule(here & dropped & unaware, Cause.LOCAL_FIREWALL, 0.95, (Cause.LOCAL_KILL,))
    yield Rule(own & dropped & unaware, Cause.LOCAL_FIREWALL, 0.9, (Cause.LOCAL_KILL,))
    elsewhere = here & ((distance(ended["peer_ttl"]) > 0) | (ended["unkept"] != 0))
    yield Rule(elsewhere & unaware, Cause.LOCAL_FIREWALL, 0.6, (Cause.LOCAL_KILL, Cause.UNKNOWN_TO_PEER))


def _live_resets(ended: Column, facts: Facts) -> Iterator[Rule]:
    """Yield the rules about resets of a socket that knows the connection, or of a good forger.

    A reset with the ACK flag and without timestamps, where the connection has them, is of another stack or forged.
    """
    same = ~facts.nearer & ~facts.farther
    unanswered = (ended["peer_probes"] != 0) & ~np.isnan(ended["since_peer_probe"]) & ~reached_since_probe(ended)
    # a program that does not read makes its peer ask for room, which looks like a probe
    probed = facts.live & same & unanswered & probed_on_time(ended) & (ended["unread"] == 0)
    others = (Cause.PEER_ABORTED, Cause.PEER_GAVE_UP)
    yield Rule(probed & may_be_answered(ended), Cause.PEER_KEEPALIVE, DOUBTFUL, others)
    yield Rule(probed, Cause.PEER_KEEPALIVE, 0.85, others)
    for rule in _live_resets_without_probes(ended, facts, same):
        yield _beside(rule._replace(applies=rule.applies & unanswered & same), (Cause.PEER_KEEPALIVE,))
        yield rule


def _live_resets_without_probes(ended: Column, facts: Facts, same: Bools) -> Iterator[Rule]:
    """Yield the rules about resets of a socket that knows the connection, and did not probe."""
    quiet_after = ended["afterwards"] == 0
    yield Rule(facts.live & facts.after_close & same, Cause.PEER_ABORTED_AFTER_CLOSE, 0.95)
    yield Rule(
        facts.live & same & quiet_after & facts.idle,
        Cause.PEER_ABORTED,
        0.9,
        (Cause.MIDDLEBOX_IDLE, Cause.PEER_GAVE_UP),
    )
    yield Rule(facts.live & same & quiet_after, Cause.PEER_ABORTED, 0.9, (Cause.MIDDLEBOX_BUSY, Cause.PEER_GAVE_UP))
    doubtful = facts.live | (facts.acknowledging & same)
    yield Rule(doubtful & facts.idle, Cause.PEER_ABORTED, 0.6, (Cause.MIDDLEBOX_IDLE, Cause.PEER_GAVE_UP))
    yield Rule(doubtful, Cause.PEER_ABORTED, 0.6, (Cause.MIDDLEBOX_BUSY, Cause.PEER_GAVE_UP))


def _came_back(ended: Column, facts: Facts, closing: Bools) -> Iterator[Rule]:
    """Yield the rules about a SYN in the middle of the connection, and the reset that followed (RFC 5961, 4.2).

    This host asks the peer about the SYN. A peer that has lost its state answers with a reset, from where its SYN
    came, and sends nothing more of this connection. Somebody else may send a SYN in the peer's name, and then
    something else brought about the reset.
    """
    fits = (ended["since_syn"] <= JUST_BEFORE) & (distance(ended["syn_ttl"]) == distance(ended["reset_ttl"]))
    fits &= ~facts.acknowledging & ~facts.nearer & ~facts.farther & (ended["afterwards"] == 0)
    fits &= ~unlabelled(ended) & ~(closing & (ended["unacked"] != 0))
    others = (Cause.UNKNOWN_TO_PEER, Cause.NAT_FORGOT, Cause.PEER_FIREWALL)
    yield Rule(fits & facts.idle, Cause.PEER_RESTARTED, 0.85, (*others, Cause.MIDDLEBOX_IDLE))
    yield Rule(fits, Cause.PEER_RESTARTED, 0.85, (*others, Cause.MIDDLEBOX_BUSY))


def _aborts(ended: Column, facts: Facts, unknown: Collection[str]) -> Iterator[Rule]:
    """Yield the rules about live resets, beside what else it may be as far as that is not seen.

    Where nobody sees which error this host was told, it may have given up a peer that does not read before.
    """
    not_read = (Cause.PEER_NOT_READING,) if "user_timeout" in unknown else ()
    unseen = not_ruled_out(BEHIND_AN_ABORT, unknown)
    closed = (ended["window"] == 0) & (ended["unsent"] != 0)
    for rule in _live_resets(ended, facts):
        if rule.cause not in {Cause.PEER_ABORTED, Cause.PEER_ABORTED_AFTER_CLOSE}:
            yield rule
            continue
        yield _beside(rule._replace(applies=rule.applies & closed), (*not_read, *unseen))
        yield _beside(rule, unseen)


def _resets_of_strangers(ended: Column, facts: Facts, closing: Bools, unknown: Collection[str]) -> Iterator[Rule]:
    """Yield the rules about resets of something that does not know the connection.

    In a connection to this host itself that may be its own firewall, where nobody sees which packets that drops. In any
    other one its own firewall may have rejected what the peer sent before, so that the peer ended the connection.
    """
    unseen = not_ruled_out(BEHIND_A_RESET, unknown)
    own = is_loopback(ended)
    for rule in _resets_of_others(ended, facts, closing):
        if unseen and rule.cause in (*BY_A_MIDDLEBOX, Cause.UNKNOWN_TO_PEER):
            yield _beside(rule._replace(applies=rule.applies & own), unseen)
        yield rule._replace(others=(*rule.others, *unseen)) if rule.cause is Cause.UNKNOWN_TO_PEER else rule


def _resets_of_others(ended: Column, facts: Facts, closing: Bools) -> Iterator[Rule]:
    """Yield the rules about resets of something that does not know the connection."""
    another = facts.nearer & ~facts.unclear
    yield from _by_silence(another & ~facts.by_one_hop, facts, 0.95, Cause.UNKNOWN_TO_PEER)
    yield from _by_silence(another, facts, 0.85, Cause.UNKNOWN_TO_PEER)
    yield from _by_silence(unlabelled(ended), facts, 0.85, Cause.UNKNOWN_TO_PEER)
    yield from _by_silence(facts.nearer | facts.farther, facts, 0.6, Cause.UNKNOWN_TO_PEER)
    yield from _by_silence(ended["afterwards"] != 0, facts, 0.9, Cause.PEER_FIREWALL)
    yield Rule(closing, Cause.WROTE_AFTER_CLOSE, 0.9, HALF_CLOSED_BY_PEER)
    newborn = is_newborn(ended)
    refused = (Cause.UNKNOWN_TO_PEER, Cause.PEER_ABORTED, Cause.MIDDLEBOX_BUSY, Cause.PEER_FIREWALL)
    yield Rule(newborn & ~facts.idle, Cause.LISTENER_OVERFLOW, 0.7, refused)
    late = (*UNAWARE, Cause.MIDDLEBOX_IDLE, Cause.LISTENER_OVERFLOW)  # where the first packets were lost
    yield Rule(newborn, Cause.UNKNOWN_TO_PEER, 0.6, late)
    told = ~facts.unclear
    quiet = (*UNAWARE, Cause.MIDDLEBOX_IDLE, *BEFORE)
    yield Rule(told & facts.idle, Cause.UNKNOWN_TO_PEER, 0.9, quiet)
    unprovoked = told & facts.quiet_known & (ended["unacked"] == 0) & (ended["probes"] == 0)
    yield Rule(unprovoked, Cause.MIDDLEBOX_BUSY, 0.6, (Cause.UNKNOWN_TO_PEER, *UNAWARE, Cause.PEER_GAVE_UP))
    busy = (*UNAWARE, Cause.MIDDLEBOX_BUSY, *BEFORE)
    yield Rule(told, Cause.UNKNOWN_TO_PEER, 0.9, busy)
    yield Rule(facts.idle, Cause.UNKNOWN_TO_PEER, 0.5, (Cause.MIDDLEBOX_IDLE, *UNAWARE, Cause.PEER_GAVE_UP))
    yield Rule(~facts.idle, Cause.UNKNOWN_TO_PEER, 0.5, (Cause.MIDDLEBOX_BUSY, *UNAWARE, Cause.PEER_GAVE_UP))


def _timeouts(ended: Column, facts: Facts, survived: Column) -> Iterator[Rule]:
    """Yield the rules about connections that this host gave up.

    Silence as long as the connection has survived before does not make a path forget it.
    """
    unacked, unsent = ended["unacked"] != 0, ended["unsent"] != 0
    closed = (ended["window"] == 0) & unsent
    # a peer that answers the probes of its closed window is not given up, but for TCP_USER_TIMEOUT
    yield Rule(closed & (ended["probes"] != 0) & (ended["user_timeout"] == 0), Cause.PATH_DIED, 0.8, DEAF[:1])
    limited = (*DEAF[1:], Cause.USER_TIMEOUT)
    yield Rule(closed & (ended["user_timeout"] != 0), Cause.PEER_NOT_READING, 0.8, limited)
    yield Rule(closed, Cause.PEER_NOT_READING, 0.8, DEAF[1:])
    data = unacked | (ended["retransmits"] != 0)
    kept_up = ~data & (ended["probes"] != 0) & kept_up_by_probes(ended)
    outlasted, survives = outlasted_user_timeout(ended, unacked), facts.idle & (ended["silence"] < survived)
    forgotten = (Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED)
    yield Rule(outlasted & facts.idle & ~kept_up & ~survives, Cause.USER_TIMEOUT, 0.8, forgotten)
    yield Rule(outlasted, Cause.USER_TIMEOUT, 0.9)
    yield Rule(kept_up, Cause.PATH_DIED, 0.8)
    yield Rule(survives, Cause.PATH_DIED, 0.8)
    undecided = (Cause.PATH_DIED, Cause.SILENT_AFTER_IDLE)
    unaccepted = is_newborn(ended) & data & facts.quiet_known & ~facts.idle
    yield Rule(unaccepted, Cause.PATH_DIED, 0.6, (Cause.LISTENER_OVERFLOW,))
    yield Rule(data & facts.idle, Cause.SILENT_AFTER_IDLE, 0.8, (Cause.PATH_DIED,))
    yield Rule(facts.idle, Cause.SILENT_AFTER_IDLE, 0.6, (Cause.PATH_DIED,))
    yield Rule(facts.quiet_known, Cause.PATH_DIED, 0.8)
    yield Rule(data, Cause.RETRANSMISSIONS_GAVE_UP, 0.6, undecided)
    yield Rule(~data, Cause.KEEPALIVE_GAVE_UP, 0.6, undecided)


def _closes(ended: Column, facts: Facts, unknown: Collection[str]) -> Iterator[Rule]:
    """Yield the rules about connections that one of the two ends closed."""
    at_once = facts.at_once
    first = (ended["fin_first"] != 0) & ~(at_once & (ended["shutdown"] == WHOLE))
    waits = (Cause.PEER_CLOSED,)  # unless the peer had closed one direction alone, and waited for the rest
    after_idle = (*waits, Cause.PEER_CLOSED_IDLE, Cause.PROXY_CLOSED)
    half = ended["shutdown"] == SENDING  # its program waited for the answer, or had closed both before it was killed
    for when, others in ((first & facts.idle, after_idle), (first, waits), (half, (Cause.LOCAL_CLOSE,))):
        yield Rule(when & (ended["out_of_memory"] != 0), Cause.OUT_OF_MEMORY, 0.9, others)
        yield Rule(when & (ended["signal"] != 0), Cause.PROGRAM_KILLED, 0.9, others)
    yield Rule(first & facts.idle, Cause.PEER_CLOSED_IDLE, 0.9, (Cause.PROXY_CLOSED,))
    yield Rule(first, Cause.PEER_CLOSED, 0.9)
    yield Rule(ended["out_of_memory"] != 0, Cause.OUT_OF_MEMORY, 0.95)
    yield Rule(ended["signal"] != 0, Cause.PROGRAM_KILLED, 0.99)
    yield Rule(ended["exiting"] != 0, Cause.PROGRAM_ENDED, 0.95)
    waited = answered_by_fin(ended) & facts.idle & (ended["inode"] != 0)  # or had sent its own FIN just before
    yield Rule(waited, Cause.PEER_CLOSED_IDLE, DOUBTFUL, (Cause.PROXY_CLOSED, Cause.LOCAL_CLOSE))
    half_closed = np.isin(ended["state"], (TcpState.FIN_WAIT1.value, TcpState.FIN_WAIT2.value))
    half_closed &= (ended["error"] == 0) & (ended["sent_reset"] != 0)
    unread, by_kernel = (at_once | half_closed) & (ended["unread"] != 0), ended["by_kernel"] != 0
    left = (Cause.PROGRAM_KILLED, Cause.PROGRAM_ENDED, Cause.LOCAL_ABORT)
    yield Rule(unread & by_kernel, Cause.CLOSED_UNREAD, 0.6, left)
    yield _beside(Rule(unread, Cause.CLOSED_UNREAD, 0.9, left[-1:]), not_ruled_out(BEHIND_A_CLOSE, unknown))
    aborted = at_once | (half_closed & ((ended["closer_pid"] != 0) | by_kernel))
    yield Rule(aborted & by_kernel, Cause.LOCAL_ABORT, 0.6, (Cause.PROGRAM_KILLED, Cause.PROGRAM_ENDED))
    yield Rule(aborted & (ended["shutdown"] == WHOLE), Cause.LOCAL_ABORT, 0.9)
    yield Rule(aborted & ~first, Cause.LOCAL_ABORT, 0.6, (Cause.CLOSED_UNREAD,))
    yield Rule(~first, Cause.LOCAL_CLOSE, 0.9)
