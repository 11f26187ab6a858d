"""Ends that were made on purpose, and the cause that each is given."""

from __future__ import annotations

import errno
import time

import numpy as np
import pytest

from keepaliveD.model.causes import ONLY_BESIDE, Cause
from keepaliveD.model.deaths import DEATH, Reset
from keepaliveD.model.sockets import TcpState
from keepaliveD.policy.autopsy import deaths
from keepaliveD.policy.autopsy.deaths import CERTAIN, decide
from keepaliveD.policy.autopsy.evidence import evidence
from keepaliveD.policy.autopsy.facts import distance
from keepaliveD.policy.autopsy.observations import OBSERVATIONS
from tests.support.ends import (
    CLOSE_WAIT,
    FORGOTTEN_BY_REJECT,
    MEASURED,
    RST_ACK,
    V6,
    Facts,
    end,
    ends,
    live,
    reset,
    timed_out,
    v4,
)


@pytest.mark.parametrize("name", MEASURED)
def test_an_end_that_was_made_on_purpose_gets_its_cause(name: str) -> None:
    cause, confidence, facts = MEASURED[name]
    found = decide(ends([facts]))
    assert (Cause(found.cause[0]), round(float(found.confidence[0]), 2)) == (cause, confidence)


def test_all_ends_are_judged_together_as_each_is_alone() -> None:
    found = decide(ends(facts for _, _, facts in MEASURED.values()))
    assert [Cause(cause) for cause in found.cause] == [cause for cause, _, _ in MEASURED.values()]


def test_a_hundred_thousand_ends_are_judged_well_within_a_second() -> None:
    kinds = ends(facts for _, _, facts in MEASURED.values())
    many = kinds[np.arange(100_000) % len(kinds)]

    def took() -> float:
        began = time.process_time()
        assert len(decide(many).cause) == 100_000
        return time.process_time() - began

    assert any(took() < 0.5 for _ in range(3)), "and not only while other programs disturb it"


def test_no_end_at_all() -> None:
    assert len(decide(ends([])).cause) == 0


FROM_THE_PEER: Facts = {"icmp_type": 3, "icmp_code": 13, "router_low": v4("10.71.3.2")[1]}
AFTER_A_FIN: Facts = {"state": CLOSE_WAIT, "fin_first": 1, "since_fin": 0.5, "silence": 0.5, "unacked": 5}
UNDECIDED: dict[str, tuple[Facts, set[Cause]]] = {
    "peer had closed, peer lost its state after it had closed one direction, its firewall": (
        reset(**AFTER_A_FIN, error=errno.EPIPE),
        {Cause.WROTE_AFTER_CLOSE, Cause.UNKNOWN_TO_PEER, Cause.PEER_FIREWALL},
    ),
    "peer had closed, program is killed while the peer waits for the rest": (
        {"fin_first": 1, "state": 9, "shutdown": 3, "signal": 9, "exiting": 1, "silence": 60.0},
        {Cause.PROGRAM_KILLED, Cause.PEER_CLOSED},
    ),
    "the same, for lack of memory": (
        {"fin_first": 1, "state": 9, "shutdown": 3, "signal": 9, "out_of_memory": 1, "silence": 0.5},
        {Cause.OUT_OF_MEMORY, Cause.PEER_CLOSED},
    ),
    "closed with unread data, and with SO_LINGER 0": (
        {"unread": 6, "shutdown": 3, "sent_reset": 1},
        {Cause.CLOSED_UNREAD, Cause.LOCAL_ABORT},
    ),
    "a reset after the peer had closed, whose packet was not seen": (
        {**AFTER_A_FIN, "error": errno.EPIPE, "reset": Reset.UNSEEN},
        {Cause.WROTE_AFTER_CLOSE, Cause.UNKNOWN_TO_PEER, Cause.PEER_FIREWALL},
    ),
    "NAT forgot, peer rebooted, peer's firewall": (
        reset(silence=3.5, unacked=5),
        {Cause.UNKNOWN_TO_PEER, Cause.NAT_FORGOT, Cause.PEER_RESTARTED, Cause.PEER_FIREWALL},
    ),
    "firewall forgot and drops, path cut while idle": (
        timed_out(probes=3, silence=4.0),
        {Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED},
    ),
    "firewall forgot and drops data, path cut while idle": (
        timed_out(unacked=5, silence=4.0),
        {Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED},
    ),
    "careful injector, peer without a socket": (
        reset(silence=0.0),
        {Cause.MIDDLEBOX_BUSY, Cause.UNKNOWN_TO_PEER},
    ),
    "careful injector after idle, peer without a socket": (
        reset(silence=4.0),
        {Cause.MIDDLEBOX_IDLE, Cause.UNKNOWN_TO_PEER},
    ),
    "peer came back with the same port, somebody sent a SYN in its name": (
        reset(since_syn=0.01, syn_ttl=61, silence=3.0, unacked=5),
        {Cause.PEER_RESTARTED, Cause.UNKNOWN_TO_PEER, Cause.NAT_FORGOT, Cause.PEER_FIREWALL, Cause.MIDDLEBOX_IDLE},
    ),
    "perfect injector, peer aborted": (live(silence=0.0), {Cause.MIDDLEBOX_BUSY, Cause.PEER_ABORTED}),
    "proxy closes, service closes": (
        {"fin_first": 1, "silence": 60.0},
        {Cause.PEER_CLOSED_IDLE, Cause.PROXY_CLOSED},
    ),
    "peer's keepalive gave up, peer aborts while it probes": (
        live(peer_probes=6, since_peer_probe=1.0, peer_probe_gap=1.0, silence=1.0),
        {Cause.PEER_KEEPALIVE, Cause.PEER_ABORTED},
    ),
    "peer gave up retransmitting, peer aborted": (live(silence=8.0), {Cause.PEER_GAVE_UP, Cause.PEER_ABORTED}),
    "peer gave up retransmitting, its reset is answered": (
        reset(silence=8.0, unacked=5),
        {Cause.PEER_GAVE_UP, Cause.UNKNOWN_TO_PEER},
    ),
    "peer aborted while data was on the way, and its reset was lost": (
        reset(silence=0.0, unacked=5),
        {Cause.PEER_ABORTED, Cause.UNKNOWN_TO_PEER},
    ),
    "listener overflow, accept and abort": (
        reset(bytes_received=0, bytes_acked=1, silence=0.0, unacked=5),
        {Cause.LISTENER_OVERFLOW, Cause.PEER_ABORTED, Cause.UNKNOWN_TO_PEER},
    ),
    "route changed by one hop, firewall": (
        reset(reset_ttl=62, silence=4.0),
        {Cause.MIDDLEBOX_IDLE, Cause.UNKNOWN_TO_PEER},
    ),
    "route changed by two hops, firewall": (
        reset(reset_ttl=63, silence=4.0),
        {Cause.MIDDLEBOX_IDLE, Cause.UNKNOWN_TO_PEER},
    ),
    "firewall of the peer's host, or another one in its name, says that it is prohibited": (
        {"error": errno.EHOSTUNREACH, "soft_error": errno.EHOSTUNREACH, **FROM_THE_PEER},
        {Cause.UNREACHABLE, Cause.PEER_FIREWALL},
    ),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_two_causes_that_one_host_cannot_tell_apart_are_both_named(name: str) -> None:
    facts, candidates = UNDECIDED[name]
    found = decide(ends([facts]))
    named = found.candidates(0)
    assert candidates <= set(named)
    assert found.runner_up[0] == named[1]
    assert found.confidence[0] < CERTAIN
    assert all(OBSERVATIONS[named[0], other] for other in named[1:])


def test_certain_is_never_said_where_another_cause_may_be_true() -> None:
    rules = tuple(deaths._rules(ends([]), np.zeros(0), DEATH.names or ()))
    assert all(rule.confidence < CERTAIN for rule in rules if rule.others)


def test_every_pair_has_the_observation_that_would_tell() -> None:
    rules = tuple(deaths._rules(ends([]), np.zeros(0), DEATH.names or ()))
    assert {(rule.cause, other) for rule in rules for other in rule.others} == set(OBSERVATIONS)


def test_every_cause_is_decided_or_named_beside_another() -> None:
    rules = tuple(deaths._rules(ends([]), np.zeros(0), DEATH.names or ()))
    assert {rule.cause for rule in rules} | ONLY_BESIDE == set(Cause)


def test_the_distance_is_counted_from_the_number_that_a_packet_left_with() -> None:
    hop_limits = np.array([64, 61, 65, 128, 125, 129, 255, 252, 0], np.uint8)
    assert distance(hop_limits).tolist() == [0, 3, 63, 0, 3, 126, 0, 3, -1]


@pytest.mark.parametrize(("hop_limit", "hop"), [(63, 2), (255, 1), (62, 3)])
def test_the_middlebox_is_placed_by_the_hop_limit_of_its_reset(hop_limit: int, hop: int) -> None:
    found = decide(ends([reset(reset_ttl=hop_limit, silence=4.0)]))
    assert (found.hop[0], found.peer_hop[0]) == (hop, 4)


def test_no_middlebox_is_placed_behind_the_peer() -> None:
    """Whoever forges a reset chooses its hop limit."""
    found = decide(ends([reset(reset_ttl=20, silence=4.0)]))
    assert (found.hop[0], found.peer_hop[0]) == (0, 4)


def test_a_peer_with_another_hop_limit_at_the_same_distance_is_no_middlebox() -> None:
    found = decide(ends([reset(peer_ttl=252, reset_ttl=61, silence=4.0, unacked=5)]))
    assert Cause(found.cause[0]) is Cause.UNKNOWN_TO_PEER


def test_a_hop_limit_of_which_nothing_is_known_leaves_both() -> None:
    found = decide(ends([reset(peer_ttl=0, silence=4.0, unacked=5)]))
    assert set(found.candidates(0)) >= {Cause.UNKNOWN_TO_PEER, Cause.MIDDLEBOX_IDLE, Cause.NAT_FORGOT}
    assert found.confidence[0] <= 0.5


def test_a_peer_that_began_at_an_unusual_hop_limit_makes_no_middlebox_sure() -> None:
    found = decide(ends([reset(peer_ttl=29, reset_ttl=61, silence=4.0)]))
    assert found.confidence[0] <= 0.6


STRANGERS_SYN: Facts = {"since_syn": 0.01, "syn_ttl": 61}
RESETS: dict[str, tuple[Facts, Cause]] = {
    "a firewall on the path": (FORGOTTEN_BY_REJECT, Cause.MIDDLEBOX_IDLE),
    "a live peer": (live(silence=0.1), Cause.PEER_ABORTED),
    "a careful box; the peer goes on": (reset(silence=0.1, afterwards=1), Cause.MIDDLEBOX_BUSY),
    "a peer that had closed": (reset(state=8, error=32, unacked=5, fin_first=1), Cause.WROTE_AFTER_CLOSE),
    "the peer, long after the SYN": (reset(silence=4.0, unacked=5, since_syn=2.0), Cause.UNKNOWN_TO_PEER),
    "the peer, and the SYN came from elsewhere": (reset(silence=4.0, unacked=5, syn_ttl=50), Cause.UNKNOWN_TO_PEER),
    "a firewall at the peer's distance, IPv6": ({**V6, **reset(silence=3.0, unacked=5)}, Cause.MIDDLEBOX_IDLE),
}


@pytest.mark.parametrize("name", RESETS)
def test_a_syn_that_anybody_may_have_sent_does_not_hide_who_sent_the_reset(name: str) -> None:
    facts, cause = RESETS[name]
    assert Cause(decide(ends([{**STRANGERS_SYN, **facts}])).cause[0]) is cause


def test_a_live_reset_from_another_distance_names_the_middlebox_too() -> None:
    found = decide(ends([live(reset_ttl=63, silence=0.1)]))
    assert set(found.candidates(0)) == {Cause.PEER_ABORTED, Cause.MIDDLEBOX_BUSY, Cause.PEER_GAVE_UP}
    assert found.confidence[0] == np.float32(0.6)


def test_a_listener_that_overflows_on_a_path_that_loses_packets_is_named() -> None:
    """Its reset comes seconds later, when the peer asks once more."""
    found = decide(ends([reset(silence=3.2, bytes_received=0, bytes_acked=1)]))
    assert {Cause.LISTENER_OVERFLOW, Cause.UNKNOWN_TO_PEER} <= set(found.candidates(0))
    assert found.confidence[0] == np.float32(0.6)


def test_a_reset_of_neither_form_lowers_the_confidence() -> None:
    found = decide(ends([reset(reset_flags=RST_ACK, silence=4.0)]))
    assert set(found.candidates(0)) == {Cause.PEER_ABORTED, Cause.MIDDLEBOX_IDLE, Cause.PEER_GAVE_UP}
    assert found.confidence[0] == np.float32(0.6)


def test_a_silence_that_the_connection_had_survived_before_is_not_what_ended_it() -> None:
    rows = ends([timed_out(unacked=5, silence=50.0)])
    assert Cause(decide(rows, np.array([40.0])).cause[0]) is Cause.SILENT_AFTER_IDLE
    assert Cause(decide(rows, np.array([60.0])).cause[0]) is Cause.PATH_DIED


def test_a_connection_to_an_address_of_this_host_is_not_reset_by_its_firewall() -> None:
    rows = end(**live(peer_ttl=64, reset_ttl=64, reset_local=1, silence=0.1))
    assert Cause(decide(rows).cause[0]) is Cause.PEER_ABORTED


def test_a_reset_over_loopback_is_likely_of_the_own_firewall_where_it_dropped_a_packet_and_never_for_certain() -> None:
    """A program may have forged it (tcpkill), whatever was dropped before, or a proxy of this host may have sent it."""
    here = reset(reset_ttl=64, reset_local=1, silence=0.1)
    dropped = {**here, "dropped_by_firewall": 1}
    found = decide(ends([{**dropped, "dropped_leaving": 1}, here, dropped]))
    assert list(map(Cause, found.cause)) == [Cause.LOCAL_FIREWALL] * 3
    assert found.confidence.round(2).tolist() == pytest.approx([0.95, 0.6, 0.6])
    assert all(Cause.LOCAL_KILL in found.candidates(row) for row in range(3))
    by_a_socket = decide(ends([live(peer_ttl=61, reset_ttl=64, reset_local=1, silence=0.1)]))
    assert Cause(by_a_socket.cause[0]) is Cause.PEER_ABORTED


def test_an_error_that_came_before_has_not_ended_what_its_program_closed() -> None:
    """IP_RECVERR leaves the error of a router in the socket, and the connection goes on."""
    told: Facts = {"error": 113, "soft_error": 113, "shutdown": 3, "unread": 6, "unacked": 4}
    found = decide(ends([{**told, "signal": 9}, told, {**told, "shutdown": 0}]))
    assert list(map(Cause, found.cause)) == [Cause.PROGRAM_KILLED, Cause.CLOSED_UNREAD, Cause.UNREACHABLE]


@pytest.mark.parametrize("silence", [0.1, 5.0])
@pytest.mark.parametrize("unacked", [0, 5])
def test_where_dropped_packets_are_not_seen_the_own_firewall_is_named_beside_in_a_connection_to_this_host(
    silence: float, unacked: int
) -> None:
    here = end(**reset(peer_ttl=64, reset_ttl=64, reset_local=1, silence=silence, unacked=unacked))
    here["remote_low"] = here["local_low"]
    blind = decide(here, unknown=("dropped_leaving",))
    assert Cause.LOCAL_FIREWALL in blind.candidates(0)
    assert blind.confidence[0] <= np.float32(0.6)
    assert Cause.LOCAL_FIREWALL not in decide(here).candidates(0)


def test_of_what_a_thread_of_the_kernel_closed_it_is_not_certain_that_the_program_did() -> None:
    """Sockets that only io_uring holds are closed so when their program is killed."""
    closed = {"state": TcpState.ESTABLISHED, "shutdown": 3, "sent_reset": 1, "by_kernel": 1}
    found = decide(ends([{**closed, "unread": 6}, closed]))
    assert list(map(Cause, found.cause)) == [Cause.CLOSED_UNREAD, Cause.LOCAL_ABORT]
    for row in (0, 1):
        assert {Cause.PROGRAM_KILLED, Cause.PROGRAM_ENDED} <= set(found.candidates(row))
    assert (found.confidence < np.float32(CERTAIN)).all()


def test_what_a_worker_of_ours_closed_half_closed_was_aborted_perhaps_by_the_end_of_its_program() -> None:
    """Nothing is known of the program then, not even its name."""
    half_closed = {"state": TcpState.FIN_WAIT2, "shutdown": 3, "sent_reset": 1, "by_kernel": 1}
    found = decide(ends([half_closed]))
    assert found.candidates(0) == (Cause.LOCAL_ABORT, Cause.PROGRAM_KILLED, Cause.PROGRAM_ENDED)
    assert "closed last by keepaliveD, which had it open beside the program" in evidence(ends([half_closed]))


def test_a_program_that_closes_with_unread_data_after_its_own_fin_has_ended_it() -> None:
    half_closed = {"shutdown": 3, "sent_reset": 1, "unread": 6}
    found = decide(ends([{**half_closed, "state": state} for state in (TcpState.FIN_WAIT1, TcpState.FIN_WAIT2)]))
    assert list(map(Cause, found.cause)) == [Cause.CLOSED_UNREAD, Cause.CLOSED_UNREAD]


def test_a_disconnect_is_an_abort_or_a_close_with_unread_data() -> None:
    found = decide(ends([{"state": TcpState.ESTABLISHED, "sent_reset": 1}]))
    assert found.candidates(0) == (Cause.LOCAL_ABORT, Cause.CLOSED_UNREAD)


def test_a_peer_with_a_closed_window_that_answers_no_probe_is_gone() -> None:
    found = decide(ends([timed_out(window=0, unsent=583_512, probes=3, silence=4.0)]))
    assert found.candidates(0) == (Cause.PATH_DIED, Cause.PEER_NOT_READING)


def test_a_user_timeout_at_a_closed_window_leaves_all_three() -> None:
    found = decide(ends([timed_out(window=0, unsent=583_512, probes=1, silence=4.0, user_timeout=3000)]))
    assert found.candidates(0) == (Cause.PEER_NOT_READING, Cause.PATH_DIED, Cause.USER_TIMEOUT)


def test_what_never_left_this_host_is_no_fault_of_a_router() -> None:
    facts = {"error": errno.ENETUNREACH, "soft_error": errno.ENETUNREACH, "unsent": 4, "window": 64512}
    assert Cause(decide(ends([facts])).cause[0]) is Cause.LOCAL_NETWORK


REFUSED: Facts = {"error": errno.ENETUNREACH, "soft_error": errno.ENETUNREACH, "unacked": 4, "timeout": 0.2}


@pytest.mark.parametrize(
    "facts",
    [
        {"retransmits": 3, "since_sent": 2.496, "since_lost": 2.493},
        {**V6, "unacked": 0, "probes": 2},
        {"error": errno.EINVAL, "soft_error": errno.EINVAL},
    ],
    ids=["no retransmission left", "nothing was on its way", "no router's error"],
)
def test_an_error_of_this_hosts_own_routes_is_no_routers(facts: Facts) -> None:
    found = decide(ends([{**REFUSED, **facts}]))
    assert found.candidates(0) == (Cause.LOCAL_NETWORK,)


def test_an_error_while_retransmissions_leave_is_a_routers_and_one_that_was_not_seen_leaves_both() -> None:
    sent_again = {**REFUSED, "retransmits": 3, "since_sent": 1.2, "since_lost": 2.5}
    found = decide(ends([sent_again, {**sent_again, "icmp_type": 3}]))
    assert found.candidates(0) == (Cause.UNREACHABLE, Cause.LOCAL_NETWORK)
    assert found.candidates(1) == (Cause.UNREACHABLE,)


PROBED: Facts = timed_out(probes=3, silence=4.0, since_sent=7.0, since_received=7.0, since_acked=7.0)


@pytest.mark.parametrize("kept_up", [{}, {"since_acked": 3.0}, {"user_timeout": 5000, "keepcnt": 9}])
def test_probes_that_found_no_route_on_this_host_are_no_fault_of_the_path(kept_up: Facts) -> None:
    found = decide(ends([{**PROBED, **kept_up, "unrouted": 4}]))
    assert found.candidates(0) == (Cause.LOCAL_NETWORK,)


@pytest.mark.parametrize("unrouted", [1, 3])
def test_where_only_some_probes_found_no_route_the_path_may_have_failed_before(unrouted: int) -> None:
    """The reset with which this host gives up is one more."""
    found = decide(ends([{**PROBED, "unrouted": unrouted}]))
    assert found.candidates(0) == (Cause.LOCAL_NETWORK, Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED)


@pytest.mark.parametrize("facts", [{"discarded": 4}, {"no_carrier": 1}], ids=["every packet", "without a carrier"])
def test_packets_that_this_host_discards_are_no_fault_of_the_path(facts: Facts) -> None:
    """By a queue, a tunnel without its program, an address that is gone, or a queue of a firewall's."""
    found = decide(ends([{**timed_out(unacked=5, retransmits=4, silence=60.0), **facts}]))
    assert found.candidates(0)[:2] == (Cause.LOCAL_NETWORK, Cause.LOCAL_FIREWALL)
    assert Cause.SILENT_AFTER_IDLE in found.candidates(0)


def test_where_this_host_has_discarded_some_packets_only_that_is_named_beside() -> None:
    """As a queue that is full when the path fails."""
    found = decide(ends([timed_out(unacked=5, retransmits=4, silence=0.4, discarded=3)]))
    assert found.candidates(0) == (Cause.PATH_DIED, Cause.LOCAL_NETWORK, Cause.LOCAL_FIREWALL)
    assert found.confidence[0] == np.float32(0.6)


def test_of_a_namespace_of_which_no_drops_are_kept_none_is_ruled_out() -> None:
    """The others of the same engine are judged by what is kept of them."""
    given_up = timed_out(unacked=5, retransmits=4, silence=0.4)
    rows = ends([{**given_up, "unkept": 1}, given_up, {"error": errno.ECONNABORTED, "unkept": 1}])
    found = decide(rows)
    assert {Cause.LOCAL_FIREWALL, Cause.LOCAL_NETWORK, Cause.MD5_MISMATCH} < set(found.candidates(0))
    assert found.confidence[0] == np.float32(0.6)
    assert found.candidates(1) == (Cause.PATH_DIED,)
    assert found.candidates(2) == (Cause.LOCAL_KILL,)
    assert any("which packets this host dropped" in line for line in evidence(rows[:1]))
    assert not any("which packets this host dropped" in line for line in evidence(rows[1:2]))


def test_where_no_error_is_seen_a_timeout_may_be_of_this_hosts_own_routes() -> None:
    given_up = ends([timed_out(unacked=5, silence=0.4)])
    assert Cause.LOCAL_NETWORK in decide(given_up, unknown=("unrouted",)).candidates(0)
    assert Cause.LOCAL_NETWORK not in decide(given_up).candidates(0)


def test_an_error_that_no_router_brings_about_is_not_called_unreachable() -> None:
    """TLS in the kernel and MPTCP end a connection so where its data was altered."""
    found = decide(ends([{"error": errno.EBADMSG}, {"error": errno.ENETUNREACH}]))
    assert list(map(Cause, found.cause)) == [Cause.UNKNOWN, Cause.UNREACHABLE]


def test_a_program_that_aborts_after_the_peer_closed_has_ended_it_itself() -> None:
    aborted = {"state": TcpState.CLOSE_WAIT, "fin_first": 1, "shutdown": 3, "sent_reset": 1}
    found = decide(ends([{**aborted, "unread": 39_999}, aborted]))
    assert list(map(Cause, found.cause)) == [Cause.CLOSED_UNREAD, Cause.LOCAL_ABORT]


def test_a_reset_that_answers_an_acknowledgement_may_be_of_the_peers_firewall() -> None:
    assert Cause.PEER_FIREWALL in decide(ends([reset(silence=0.0)])).candidates(0)


def test_a_reset_that_was_not_seen_is_not_explained() -> None:
    found = decide(ends([{"error": 104, "reset": 2, "silence": 4.0}]))
    assert Cause(found.cause[0]) is Cause.UNKNOWN
    assert Cause.MIDDLEBOX_IDLE in found.candidates(0)


def test_an_unknown_silence_leaves_idle_and_busy_open() -> None:
    found = decide(ends([reset(reset_ttl=63)]))
    assert found.candidates(0)[:2] == (Cause.MIDDLEBOX_IDLE, Cause.MIDDLEBOX_BUSY)
    found = decide(ends([timed_out(unacked=5)]))
    assert set(found.candidates(0)) == {
        Cause.RETRANSMISSIONS_GAVE_UP,
        Cause.PATH_DIED,
        Cause.SILENT_AFTER_IDLE,
    }


def test_a_death_of_which_nothing_is_known_is_unknown_or_a_close() -> None:
    found = decide(ends([{"error": 104}]))
    assert (Cause(found.cause[0]), found.confidence[0]) == (Cause.UNKNOWN, 0)


def test_a_reset_of_which_nobody_saw_that_it_was_accepted_is_doubtful() -> None:
    sure, doubtful = FORGOTTEN_BY_REJECT, {**FORGOTTEN_BY_REJECT, "reset": Reset.UNCHECKED}
    found = decide(ends([sure, doubtful]))
    assert found.cause[0] == found.cause[1] == Cause.MIDDLEBOX_IDLE
    assert found.confidence[1] == np.float32(0.6) < found.confidence[0]
    assert found.candidates(1) == (Cause.MIDDLEBOX_IDLE, Cause.UNKNOWN_TO_PEER, Cause.UNKNOWN)


def test_what_an_engine_does_not_see_is_not_ruled_out() -> None:
    """Without BPF nobody sees which packets this host dropped, nor what programs have set."""
    rows = ends([timed_out(unacked=5, silence=4.0)])
    blind = decide(rows, unknown=("dropped_by_firewall", "dropped_by_md5", "user_timeout"))
    assert {Cause.LOCAL_FIREWALL, Cause.MD5_MISMATCH, Cause.USER_TIMEOUT} <= set(blind.candidates(0))
    assert blind.confidence[0] <= np.float32(0.6)
    assert decide(rows).candidates(0) == (Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED)


def test_a_router_that_nobody_checked_leaves_open_that_the_path_was_silent() -> None:
    found = decide(ends([timed_out(unacked=5, silence=0.2, icmp_type=3, icmp_code=1)]))
    assert found.candidates(0) == (Cause.UNREACHABLE, Cause.PATH_DIED, Cause.SILENT_AFTER_IDLE)


def test_an_error_of_this_host_itself_is_not_that_of_a_router() -> None:
    """No neighbour has answered it, as when a cable is pulled at the other end."""
    row = end(**timed_out(unacked=5, silence=0.2, icmp_type=3, icmp_code=1))
    row["local_low"] = row["router_low"] = 0xFFFF0A000001
    assert Cause(decide(row).cause[0]) is Cause.PATH_DIED


def test_where_nobody_sees_who_closed_a_socket_with_unread_data_all_who_may_have_are_named() -> None:
    closed = {"state": TcpState.ESTABLISHED, "shutdown": 3, "sent_reset": 1, "unread": 6}
    found = decide(ends([closed]), unknown=("closer",))
    assert found.candidates(0)[0] is Cause.CLOSED_UNREAD
    assert {Cause.PROGRAM_KILLED, Cause.PROGRAM_ENDED, Cause.OUT_OF_MEMORY, Cause.LOCAL_KILL} <= set(
        found.candidates(0)
    )
    assert found.confidence[0] == np.float32(0.6)


def test_where_nobody_sees_who_destroyed_a_socket_it_is_not_certain_that_somebody_did() -> None:
    found = decide(ends([{"error": errno.ECONNABORTED, "state": TcpState.ESTABLISHED}]), unknown=("closer",))
    assert found.candidates(0)[:2] == (Cause.LOCAL_KILL, Cause.UNKNOWN)
    assert found.confidence[0] == np.float32(0.6)


def test_without_the_peers_probes_its_keepalive_is_not_ruled_out() -> None:
    found = decide(ends([live(silence=0.1)]), unknown=("peer_probes",))
    assert found.candidates(0)[0] is Cause.PEER_ABORTED
    assert Cause.PEER_KEEPALIVE in found.candidates(0)


@pytest.mark.parametrize(
    ("exchanged", "cause"),
    [
        ({"since_received": 0.5}, Cause.PEER_ABORTED),
        ({"since_sent": 0.5}, Cause.PEER_ABORTED),
        ({"since_sent": 0.5, "unacked": 5}, Cause.PEER_KEEPALIVE),
        ({"since_received": 9.0, "since_sent": 9.0}, Cause.PEER_KEEPALIVE),
    ],
)
def test_a_peers_keepalive_does_not_give_up_after_data_that_arrived_since_its_last_probe(
    exchanged: Facts, cause: Cause
) -> None:
    found = decide(ends([live(peer_probes=6, since_peer_probe=1.0, peer_probe_gap=1.0, silence=1.0, **exchanged)]))
    assert found.cause[0] == cause


@pytest.mark.parametrize(("silence", "others"), [(0.2, ()), (300.0, (Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED))])
def test_a_user_timeout_after_a_long_silence_may_stand_for_a_path_that_forgot(
    silence: float, others: tuple[Cause, ...]
) -> None:
    rows = ends([timed_out(unacked=5, silence=silence, since_lost=20.1, user_timeout=20_000)])
    assert decide(rows).candidates(0) == (Cause.USER_TIMEOUT, *others)
    assert decide(rows, np.full(1, 400.0)).candidates(0) == (Cause.USER_TIMEOUT,)
