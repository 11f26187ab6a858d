"""Ends of which something that is seen misleads: what else they may be is named, and what they cannot be is not."""

from __future__ import annotations

import errno
from collections.abc import Callable

import numpy as np
import pytest

from keepaliveD.model.causes import Cause
from keepaliveD.policy.autopsy.deaths import HALF_CLOSED_BY_PEER, decide
from keepaliveD.policy.autopsy.evidence import evidence
from keepaliveD.policy.autopsy.observations import OBSERVATIONS
from tests.support.ends import CLOSE_WAIT, FIN_WAIT1, FORGOTTEN_BY_REJECT, V6, Facts, ends, live, reset, timed_out

FIN_WAIT2, LAST_ACK = 5, 9
AFTER_IDLE: Facts = {"fin_first": 1, "state": CLOSE_WAIT, "silence": 60.0, "since_fin": 900.0}
KILLED_AFTER_ITS_FIN: Facts = {"state": FIN_WAIT2, "shutdown": 2, "signal": 9, "exiting": 1, "silence": 0.5}
NEWBORN: Facts = {"bytes_received": 0, "bytes_acked": 1}
BESIDE: dict[str, tuple[Facts, Cause]] = {
    "a NAT that is replaced during a download": (reset(silence=0.0), Cause.NAT_FORGOT),
    "a NAT that forgets a connection of which the peer has closed one direction": (
        reset(error=errno.EPIPE, state=CLOSE_WAIT, fin_first=1, silence=90.0, unacked=5),
        Cause.NAT_FORGOT,
    ),
    "a device that reads the first words and resets both ends": (
        reset(**NEWBORN, silence=0.1, unacked=5),
        Cause.MIDDLEBOX_BUSY,
    ),
    "the peer's firewall that reads the first words": (reset(**NEWBORN, silence=0.1, unacked=5), Cause.PEER_FIREWALL),
    "a peer that aborts while nothing is said, with a reset that is lost": (
        reset(silence=600.0, unacked=5),
        Cause.PEER_ABORTED,
    ),
    "the own firewall drops the only answer that the path has not lost": (
        timed_out(unacked=5, retransmits=4, silence=0.0, dropped_by_firewall=1),
        Cause.LOCAL_FIREWALL,
    ),
    "the own firewall rejects what the peer sends, which then does not know it": (
        reset(silence=6.0, unacked=5, dropped_by_firewall=1),
        Cause.LOCAL_FIREWALL,
    ),
    "the same, and a router that saw the end of it rejects what this end sends": (
        reset(silence=6.0, unacked=5, reset_ttl=63, dropped_by_firewall=1),
        Cause.LOCAL_FIREWALL,
    ),
    "the own firewall drops the answers to the peer's keepalive": (
        live(peer_probes=6, since_peer_probe=1.0, peer_probe_gap=1.0, silence=1.0, dropped_by_firewall=6),
        Cause.LOCAL_FIREWALL,
    ),
    "the peer's firewall while the peer sends": (reset(silence=0.1, afterwards=2), Cause.PEER_FIREWALL),
    "a full listener that drops what it cannot accept": (
        timed_out(**NEWBORN, unacked=5, retransmits=4, silence=0.0),
        Cause.LISTENER_OVERFLOW,
    ),
    "a proxy that closes after idle, whose client is killed later": (
        {**AFTER_IDLE, "shutdown": 3, "signal": 9, "exiting": 1, "state": 9},
        Cause.PROXY_CLOSED,
    ),
    "the same for lack of memory": (
        {**AFTER_IDLE, "shutdown": 3, "signal": 9, "out_of_memory": 1, "state": 9},
        Cause.PEER_CLOSED_IDLE,
    ),
    "a program that had closed both directions, and is killed later": (KILLED_AFTER_ITS_FIN, Cause.LOCAL_CLOSE),
    "the same for lack of memory, too": ({**KILLED_AFTER_ITS_FIN, "out_of_memory": 1}, Cause.LOCAL_CLOSE),
}


def test_a_program_that_is_killed_after_its_fin_was_killed_most_likely() -> None:
    rows = ends([KILLED_AFTER_ITS_FIN])
    found = decide(rows)
    assert Cause(found.cause[0]) is Cause.PROGRAM_KILLED
    assert found.confidence[0] == np.float32(0.9)
    assert evidence(rows)[-1] == "this end had closed at least one direction before"


@pytest.mark.parametrize("name", BESIDE)
def test_what_may_be_as_well_is_named_with_what_would_tell(name: str) -> None:
    facts, truth = BESIDE[name]
    named = decide(ends([facts])).candidates(0)
    assert truth in named[1:]
    assert all(OBSERVATIONS[named[0], other] for other in named[1:])


def test_a_keepalive_of_the_peer_gives_up_though_this_end_has_closed_one_direction() -> None:
    facts: Facts = {"state": FIN_WAIT2, "shutdown": 2, "silence": 1.0}
    probed: Facts = {
        "peer_probes": 3,
        "since_peer_probe": 1.0,
        "peer_probe_gap": 1.0,
        "since_sent": 9.0,
        "since_received": 9.0,
    }
    found = decide(ends([live(**facts, **probed), live(**facts)]))
    assert [Cause(cause) for cause in found.cause] == [Cause.PEER_KEEPALIVE, Cause.PEER_ABORTED]


@pytest.mark.parametrize("state", [FIN_WAIT1, FIN_WAIT2])
def test_a_peer_that_aborts_while_this_end_waits_for_its_answer_is_told_as_in_an_open_connection(state: int) -> None:
    waits: Facts = {"state": state, "shutdown": 2}
    for facts in (live(silence=0.1), live(silence=3.0), live(silence=0.2, afterwards=2)):
        found = decide(ends([facts, {**facts, **waits}]))
        assert found.candidates(0) == found.candidates(1)
        assert found.confidence[0] == found.confidence[1]
        assert Cause(found.cause[1]) is Cause.PEER_ABORTED
    closed = decide(ends([live(silence=0.1, state=state, shutdown=3)]))
    assert closed.candidates(0) == (Cause.PEER_ABORTED_AFTER_CLOSE,)


def test_where_nobody_sees_whether_this_end_had_closed_one_direction_or_both_both_ends_are_named() -> None:
    unknown = ("state", "shutdown")
    found = decide(ends([live(silence=0.1, state=FIN_WAIT1)]), unknown=unknown)
    assert found.candidates(0) == (Cause.PEER_ABORTED_AFTER_CLOSE, Cause.PEER_ABORTED)
    assert OBSERVATIONS[Cause.PEER_ABORTED_AFTER_CLOSE, Cause.PEER_ABORTED]


def test_an_answer_after_the_peers_fin_is_one_also_where_this_end_closes_at_once() -> None:
    """The reset comes back when this end has sent its FIN, too, which has a number like an octet."""
    closed = reset(error=errno.EPIPE, state=LAST_ACK, shutdown=3, fin_first=1, silence=0.5, retransmits=0)
    found = decide(ends([{**closed, "unacked": 5}, {**closed, "unacked": 1}, {**closed, "unsent": 5}]))
    assert found.candidates(0) == (Cause.WROTE_AFTER_CLOSE, *HALF_CLOSED_BY_PEER)
    assert found.confidence[0] == np.float32(0.9)
    assert Cause(found.cause[1]) is Cause.PEER_CLOSED, "it wrote nothing"
    assert Cause(found.cause[2]) is Cause.WROTE_AFTER_CLOSE, "and what it wrote found no room"


AFTER_ITS_FIN: Facts = {"state": FIN_WAIT2, "shutdown": 3, "unread": 1, "silence": 60.0, "since_fin": 0.0, "inode": 7}


def test_a_peer_that_closes_after_idle_has_closed_also_where_this_end_had_closed_one_direction() -> None:
    """Its FIN has a number, like an octet that is unread."""
    rows = ends([AFTER_ITS_FIN])
    found = decide(rows)
    assert found.candidates(0) == (Cause.PEER_CLOSED_IDLE, Cause.PROXY_CLOSED, Cause.LOCAL_CLOSE)
    assert all(OBSERVATIONS[Cause.PEER_CLOSED_IDLE, other] for other in found.candidates(0)[1:])
    assert evidence(rows) == (
        "quiet for 1min before",
        "the peer closed after this end",
        "this end had closed before",
    )


def test_a_peer_that_answers_a_close_with_its_own_has_not_ended_what_was_idle() -> None:
    """Nobody holds the socket any more."""
    rows = ends([{**AFTER_ITS_FIN, "inode": 0}])
    assert decide(rows).candidates(0) == (Cause.LOCAL_CLOSE,)
    assert not any("not read" in line or "a reset" in line for line in evidence(rows))


def test_an_end_with_unread_data_is_its_programs_only_if_this_host_sent_a_reset() -> None:
    found = decide(ends([{**AFTER_ITS_FIN, "sent_reset": 1, "unread": 6}]))
    assert Cause(found.cause[0]) is Cause.CLOSED_UNREAD


def probed(since: float, gap: float, count: int, exchanged: float, **facts: float) -> Facts:
    """A reset of a live socket of the peer's after so many probes of its own."""
    times: Facts = {"since_sent": exchanged, "since_received": exchanged, "silence": since}
    return live(peer_probes=count, since_peer_probe=since, peer_probe_gap=gap, **times, **facts)


@pytest.mark.parametrize(
    ("facts", "confidence"),
    [
        (probed(75.0, 75.0, 9, 7875.0), 0.85),
        (probed(2.0, 2.016, 5, 12.0), 0.6),
        (probed(2.0, 2.016, 11, 24.1), 0.6),
        (probed(15.0, 15.0, 40, 90.0), 0.6),
    ],
    ids=["after a long idle time", "every idle time", "more often than any default", "most in an earlier silence"],
)
def test_probes_that_come_every_idle_time_may_have_been_answered(facts: Facts, confidence: float) -> None:
    """The first one comes after the idle time, and so does each that follows an answer."""
    found = decide(ends([facts]))
    assert found.candidates(0)[:2] == (Cause.PEER_KEEPALIVE, Cause.PEER_ABORTED)
    assert found.confidence[0] == np.float32(confidence)


def test_what_the_peer_asks_of_a_program_that_does_not_read_are_not_probes_of_its_keepalive() -> None:
    facts = probed(1.0, 1.024, 8, 9.0, unread=122_608)
    named = decide(ends([facts])).candidates(0)
    assert named[0] is Cause.PEER_ABORTED
    assert Cause.PEER_KEEPALIVE in named


@pytest.mark.parametrize(
    ("since", "gap", "cause"),
    [
        (75.0, 75.0, Cause.PEER_KEEPALIVE),
        (84.0, 75.0, Cause.PEER_KEEPALIVE),
        (40.0, 75.0, Cause.PEER_ABORTED),
        (1.0, np.nan, Cause.PEER_ABORTED),
    ],
    ids=["one interval after the last probe", "a timer is late", "in between", "after its only probe"],
)
def test_a_keepalive_of_the_peer_gives_up_one_interval_after_its_last_probe(
    since: float, gap: float, cause: Cause
) -> None:
    exchanged: Facts = {"since_sent": 900.0, "since_received": 900.0}
    facts = live(peer_probes=2, since_peer_probe=since, peer_probe_gap=gap, silence=1.0, **exchanged)
    found = decide(ends([facts]))
    assert found.cause[0] == cause
    assert {Cause.PEER_KEEPALIVE, Cause.PEER_ABORTED} <= set(found.candidates(0))


def test_where_probes_of_the_peer_are_not_seen_its_keepalive_may_have_given_up_a_closed_connection() -> None:
    found = decide(ends([live(state=FIN_WAIT2, shutdown=3, silence=1.0)]), unknown=("peer_probes",))
    assert found.candidates(0) == (Cause.PEER_ABORTED_AFTER_CLOSE, Cause.PEER_KEEPALIVE)
    assert found.confidence[0] == np.float32(0.6)


@pytest.mark.parametrize("probes", [1, 3, 9])
def test_with_a_user_timeout_the_kernel_does_not_count_probes(probes: int) -> None:
    rows = ends(
        [timed_out(probes=probes, keepcnt=3, user_timeout=5000, silence=1.0, since_received=6.0, since_acked=6.0)]
    )
    assert Cause(decide(rows).cause[0]) is Cause.USER_TIMEOUT


def test_an_unseen_error_about_an_acknowledgement_is_a_routers_over_ipv4() -> None:
    """Over IPv4 the socket keeps no error of a probe that finds no route."""
    refused: Facts = {"error": errno.EHOSTUNREACH, "soft_error": errno.EHOSTUNREACH, "probes": 2}
    found = decide(ends([refused, {**refused, **V6}]))
    assert [Cause(cause) for cause in found.cause] == [Cause.UNREACHABLE, Cause.LOCAL_NETWORK]


UNSEEN = ("dropped_by_firewall", "dropped_by_md5", "peer_probes", "state")


@pytest.mark.parametrize("how", [reset, live])
def test_where_drops_are_not_seen_a_reset_after_retransmissions_may_be_dropped_as_what_came_before_it(
    how: Callable[..., Facts],
) -> None:
    facts = how(unacked=5, retransmits=4, silence=1.8)
    named = decide(ends([facts]), unknown=UNSEEN).candidates(0)
    assert {Cause.LOCAL_FIREWALL, Cause.MD5_MISMATCH} <= set(named[1:])
    assert all(OBSERVATIONS[named[0], other] for other in named[1:])
    prompt = decide(ends([{**facts, "retransmits": 0}]), unknown=UNSEEN).candidates(0)
    assert Cause.LOCAL_FIREWALL not in prompt
    assert Cause.LOCAL_FIREWALL not in decide(ends([facts])).candidates(0)


def test_where_drops_are_not_seen_the_own_firewall_may_have_rejected_what_a_peer_sent_that_knows_no_connection() -> (
    None
):
    rows = ends([reset(unacked=5, silence=6.0)])
    found = decide(rows, unknown=("dropped_leaving",))
    named = found.candidates(0)
    assert (named[0], named[-1]) == (Cause.UNKNOWN_TO_PEER, Cause.LOCAL_FIREWALL)
    assert found.confidence[0] == decide(rows).confidence[0], "the peer does not know it all the same"


def test_a_program_may_abort_what_it_had_closed_in_one_direction() -> None:
    ends_it: Facts = {"state": FIN_WAIT2, "shutdown": 3, "sent_reset": 1}
    found = decide(ends([{**ends_it, "closer_pid": 7}, ends_it]))
    assert [Cause(cause) for cause in found.cause] == [Cause.LOCAL_ABORT, Cause.LOCAL_CLOSE]


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({"signal": 9, "exiting": 1}, Cause.PROGRAM_KILLED),
        ({}, Cause.LOCAL_CLOSE),
        ({"unacked": 1}, Cause.UNREACHABLE),
        ({"state": 1, "shutdown": 0}, Cause.UNREACHABLE),
    ],
    ids=["by a signal", "by its program", "its FIN is not acknowledged", "open"],
)
def test_an_error_of_a_router_that_a_program_never_asked_for_has_not_ended_what_both_ends_closed(
    facts: Facts, cause: Cause
) -> None:
    """With IP_RECVERR it stays in the socket. The FIN of the peer has a number, like an octet that is unread."""
    left: Facts = {"error": errno.EHOSTUNREACH, "state": FIN_WAIT2, "shutdown": 3, "unread": 1}
    assert Cause(decide(ends([{**left, **facts}])).cause[0]) is cause


def test_a_device_that_rejects_after_a_shorter_silence_than_was_survived_may_have_reset_what_it_knew() -> None:
    rows = ends([FORGOTTEN_BY_REJECT])
    found = decide(rows, np.full(1, 600.0))
    assert Cause.MIDDLEBOX_BUSY in found.candidates(0)
    assert found.confidence[0] == np.float32(0.6)
    assert Cause.MIDDLEBOX_BUSY not in decide(rows, np.full(1, 1.0)).candidates(0)


INTERVAL_BY_INTERVAL: Facts = {"probes": 3, "keepidle": 10, "keepintvl": 45, "silence": 45.1, "since_acked": 180.0}


@pytest.mark.parametrize(
    ("exchanged", "candidates"),
    [
        (190.0, (Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED)),
        (235.0, (Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED)),
        (281.0, (Cause.PATH_DIED,)),
    ],
    ids=["after the idle time alone", "perhaps after an interval", "after an interval"],
)
def test_a_probe_that_was_answered_after_a_shorter_silence_shows_no_path_that_keeps_a_connection_longer(
    exchanged: float, candidates: tuple[Cause, ...]
) -> None:
    """Its program had chosen an idle time of 10 s and an interval of 45; the firewall forgot after 30."""
    found = decide(ends([timed_out(**INTERVAL_BY_INTERVAL, since_sent=exchanged, since_received=exchanged)]))
    assert found.candidates(0) == candidates
