"""What this host's own firewall is asked, and what its answers prove."""

from __future__ import annotations

import dataclasses
from typing import Unpack

import numpy as np
import pytest

from keepaliveD.model.actions import AskFirewall, Outcome
from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.firewall import ENTRY, Tracked
from keepaliveD.model.origin import Source
from keepaliveD.model.reports import ReportConnections
from keepaliveD.model.rules import OnDrift, Path, Rules
from keepaliveD.model.sockets import SocketTable, Switch, Timer
from keepaliveD.policy.scans import ScanDecider
from keepaliveD.policy.verdicts.activity import Activity, nothing_known
from keepaliveD.policy.verdicts.connections import connections
from keepaliveD.policy.verdicts.firewall import PAUSE, NearlyFull, learn, nearly_full, to_ask, to_ask_about
from keepaliveD.policy.verdicts.judge import Judgement, judge
from tests.support.tables import CONFIGURED, Socket, idle, table

HOUR = Path("hour", 3600.0, CONFIGURED)
WARN_BEFORE = 60.0


class Host:
    """A host whose own firewall forgets after 20 s, or another `timeout`, and is asked when policy wants it to be."""

    def __init__(self, path: Path = HOUR, *, picks_up: bool = False) -> None:
        self._path = path
        self._picks_up = picks_up
        self.memory: Activity = nothing_known()
        self.asked: list[int] = []
        self.setting = 20.0

    def scan(self, now: float, *sockets: Socket, forgets_in: float | None = None, timeout: float = 20.0) -> Judgement:
        """Scan, ask, and scan again at the same instant."""
        seen = self.judge(scanned(now, *sockets, timeout=self.setting))
        actions, self.memory = to_ask(seen, seen.activity, WARN_BEFORE)
        for action in actions:
            self.asked += action.cookies.tolist()
            looked = answers(action, now, forgets_in, timeout, picks_up=self._picks_up)
            self.memory = learn(self.memory, Outcome(action, looked=looked))
        seen = self.judge(scanned(now, *sockets, timeout=self.setting))
        self.memory = seen.activity
        return seen

    def judge(self, table: SocketTable) -> Judgement:
        """Judge without asking."""
        return judge(table, self.memory, [self._path], [])


def answers(
    action: AskFirewall, now: float, forgets_in: float | None, timeout: float = 20.0, *, picks_up: bool = False
) -> np.ndarray:
    """Return that each connection is forgotten in so many seconds, or that there is no entry."""
    found = np.zeros(len(action.cookies), ENTRY)
    if forgets_in is not None:
        found["found"], found["forgets_in"], found["asked_at"] = True, forgets_in, now
        found["timeout"], found["picks_up"] = timeout, picks_up
    return found


def scanned(now: float, *sockets: Socket, timeout: float = 20.0) -> SocketTable:
    return dataclasses.replace(table(now, *sockets), firewall_timeout=timeout)


def said(judgement: Judgement) -> tuple[Verdict, bool]:
    return Verdict(judgement.forecast.verdict[0]), bool(judgement.forecast.confirmed[0])


def test_a_quiet_connection_is_forgotten_when_the_firewall_says_so() -> None:
    seen = Host().scan(1000.0, idle(5.0), forgets_in=14.0)
    (one,) = connections(seen, np.array([0]))
    assert (one.origin.source, one.timeout) == (Source.FIREWALL, 20.0)
    assert one.left == pytest.approx(15.0, abs=1.0)
    assert said(seen) == (Verdict.BARE, True)


def test_a_probe_of_the_peer_that_no_age_shows_makes_the_verdict_certain() -> None:
    """On the whole path: what passed here passed there."""
    seen = Host(Path("short", 30.0, CONFIGURED)).scan(1000.0, idle(500.0), forgets_in=17.0)
    assert said(seen) == (Verdict.BARE, True)
    assert seen.activity.last_packet[0] == pytest.approx(997.0)
    assert seen.activity.last_packet_by[0] == pytest.approx(998.0)


def test_it_is_asked_once_in_a_silence() -> None:
    host = Host()
    for now in (1000.0, 1005.0, 1010.0):
        host.scan(now, idle(now - 990.0), forgets_in=1010.0 - now)
    assert host.asked == [1]


def test_it_is_not_asked_again_where_the_newest_packet_is_known() -> None:
    """Its timeout is known by then."""
    host = Host()
    host.scan(1000.0, idle(10.0), forgets_in=10.0)
    seen = host.scan(1010.0, idle(5.0, segments_in=11), forgets_in=15.0)
    assert host.asked == [1]
    assert seen.forecast.cut_at[0] == pytest.approx(1025.0)


def test_it_is_asked_again_after_a_packet_that_only_the_counters_show() -> None:
    host = Host()
    host.scan(1000.0, idle(10.0), forgets_in=10.0)
    host.scan(1008.0, idle(18.0, segments_in=11), forgets_in=15.0)
    host.scan(1018.0, idle(28.0, segments_in=11), forgets_in=5.0)
    assert host.asked == [1, 1]


def test_it_is_asked_again_once_its_setting_has_changed() -> None:
    """What it remembers in this silence stands; from the next packet on the new setting of 8 s applies."""
    host = Host()
    host.scan(1000.0, idle(10.0), forgets_in=10.0)
    host.setting = 8.0
    stands = host.scan(1005.0, idle(15.0), forgets_in=5.0)
    assert stands.forecast.cut_at[0] == pytest.approx(1010.0, abs=1.0)
    seen = host.scan(1010.0, idle(2.0, segments_in=11), forgets_in=6.0, timeout=8.0)
    assert host.asked == [1, 1]
    assert seen.forecast.cut_at[0] == pytest.approx(1016.0, abs=1.0)


@pytest.mark.parametrize(("keepidle", "certain"), [(25, False), (10, True)])
def test_what_its_setting_may_forget_before_the_next_packet_is_not_certainly_safe(
    keepidle: int, *, certain: bool
) -> None:
    """Whether the connection is new, or the setting: nobody has asked about it yet."""
    timer: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": keepidle, "keepintvl": 5}
    host = Host(Path("long", 60.0, CONFIGURED))
    quiet = idle(2.0, expires=keepidle - 2.0) | timer
    assert said(host.judge(scanned(1000.0, quiet))) == (Verdict.SAFE, certain)
    told = host.scan(1000.0, quiet, forgets_in=18.0)
    assert (said(told) == (Verdict.SAFE, True)) == certain
    spoken = idle(1.0, expires=keepidle - 1.0, segments_in=11) | timer
    host.setting = 16.0
    assert said(host.judge(scanned(1010.0, spoken, timeout=16.0))) == (Verdict.SAFE, certain)
    asked = host.scan(1010.0, spoken, forgets_in=15.0, timeout=16.0)
    assert (said(asked) == (Verdict.SAFE, True)) == certain


def test_a_connection_that_it_was_never_found_to_track_is_not_certainly_safe() -> None:
    """A policy may have been over when it was asked for the first time, also if nothing else is tracked any more."""
    timer: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 10, "keepintvl": 5}
    quiet = idle(7.0, expires=3.0) | timer
    host = Host()
    assert said(host.scan(1000.0, quiet)) == (Verdict.SAFE, False)
    assert said(host.judge(scanned(1001.0, idle(8.0, expires=2.0) | timer, timeout=FOREVER))) == (Verdict.SAFE, False)
    host = Host()
    host.setting = FOREVER
    assert said(host.scan(1000.0, quiet)) == (Verdict.SAFE, True)


def test_what_it_has_forgotten_stays_forgotten_when_its_setting_changes() -> None:
    """Whoever raises it, as a message says, heals no connection."""
    host = Host()
    host.scan(1000.0, idle(10.0), forgets_in=10.0)
    assert said(host.scan(1012.0, idle(22.0))) == (Verdict.CUT, True)
    host.setting = 432000.0
    assert said(host.scan(1014.0, idle(24.0))) == (Verdict.CUT, True)
    probed = host.scan(1020.0, idle(30.0, segments_out=11))
    assert said(probed)[0] is Verdict.CUT
    assert host.memory.firewall_forgets_at[0] == pytest.approx(1010.0)


def test_a_connection_that_it_tracked_and_tracks_no_more_is_forgotten() -> None:
    """Our own probe, which nobody has answered, is no packet that passed."""
    host = Host()
    host.scan(1000.0, idle(10.0), forgets_in=10.0)
    host.scan(1012.0, idle(22.0))
    seen = host.scan(1014.0, idle(24.0, since_sent=24.0, segments_out=11))
    assert said(seen)[0] is Verdict.CUT
    assert seen.forecast.by_firewall[0]


PROBING: Socket = {"timer": Timer.KEEPALIVE, "keepalive": Switch.ON, "keepidle": 12, "keepintvl": 12, "keepcnt": 9}
POLICY_S = 6.0  # which gives a connection so many seconds in place of the 20 of the setting


def by_policy(path: Path = HOUR) -> Host:
    """Return a host whose firewall said at 1000 of a connection, quiet for 1 s, that it forgets it at 1005."""
    host = Host(path)
    host.scan(1000.0, idle(1.0, since_packet=1.0, expires=11.0) | PROBING, forgets_in=POLICY_S - 1.0)
    return host


def probed(now: float, **others: Unpack[Socket]) -> Socket:
    """That connection after its own probe at 1011, which nobody has answered."""
    silence, since_probe = now - 999.0, now - 1011.0
    shown: Socket = {"since_packet": since_probe, "expires": 12.0 - since_probe, "probes": 1, "segments_out": 11}
    return idle(silence) | PROBING | shown | others


def test_a_probe_that_may_have_left_before_it_forgot_does_not_make_a_dead_connection_safe() -> None:
    """The daemon stood still from 1000 to 1013. The firewall is asked although the probe is not answered."""
    host = by_policy(Path("short", 40.0, CONFIGURED))
    unclear = host.judge(scanned(1013.0, probed(1013.0)))
    assert said(unclear) == (Verdict.CUT, False)
    assert said(host.scan(1013.0, probed(1013.0))) == (Verdict.CUT, True)
    again = probed(1024.0, since_packet=1.0, expires=11.0, probes=2, segments_out=12)
    assert said(host.scan(1024.0, again)) == (Verdict.CUT, True)
    assert host.asked == [1, 1]


def test_a_cut_that_the_answer_decides_is_reported_once_it_is_there() -> None:
    """As expired, not as presumably expired a moment before."""
    decider = ScanDecider(Rules({}, OnDrift.REAPPLY, [Path("short", 40.0, CONFIGURED)], [], WARN_BEFORE))
    reported: list[tuple[Verdict, bool]] = []

    def scan(now: float, socket: Socket, forgets_in: float | None) -> None:
        _, actions = decider.observe(scanned(now, socket))
        for action in actions:
            if isinstance(action, AskFirewall):
                decider.record(Outcome(action, looked=answers(action, now, forgets_in)))
            if isinstance(action, ReportConnections):
                reported.extend((one.verdict, one.confirmed) for one in action.connections)

    scan(1000.0, idle(1.0, since_packet=1.0, expires=11.0) | PROBING, POLICY_S - 1.0)
    scan(1013.0, probed(1013.0), None)
    assert reported == []
    scan(1013.01, probed(1013.01), None)
    assert reported == [(Verdict.CUT, True)]


def test_what_it_still_remembers_after_a_probe_without_an_answer_is_not_cut() -> None:
    """The probe refreshed this firewall, and perhaps nothing else: the path counts from the peer's packet."""
    host = by_policy(Path("short", 40.0, CONFIGURED))
    host.scan(1013.0, probed(1013.0), forgets_in=4.0)
    seen = host.judge(scanned(1013.0, probed(1013.0)))
    assert said(seen) == (Verdict.LATE, True)
    assert seen.forecast.cut_at[0] == pytest.approx(1017.0)
    assert seen.activity.last_packet[0] == pytest.approx(999.0)


def test_a_probe_that_has_just_left_in_time_is_presumed_to_be_answered() -> None:
    """The latest instant of the cut is then that of the path."""
    host = by_policy(Path("short", 40.0, CONFIGURED))
    just = idle(4.0, since_packet=0.1, expires=11.9, probes=1, segments_out=11) | PROBING
    seen = host.judge(scanned(1003.0, just))
    assert said(seen) == (Verdict.SAFE, False)
    assert seen.forecast.cut_by[0] == pytest.approx(1003.0 + 40.0, abs=0.2)


def test_data_without_an_answer_does_not_make_a_dead_connection_safe() -> None:
    host = Host(Path("short", 40.0, CONFIGURED))
    host.scan(1000.0, idle(1.0, since_packet=1.0), forgets_in=POLICY_S - 1.0)
    unsent: Socket = {"since_sent": 1.0, "since_packet": 1.0, "timer": Timer.ZERO_WINDOW, "expires": 1.0, "probes": 3}
    data = idle(14.0) | unsent | {"segments_out": 14}
    assert said(host.judge(scanned(1013.0, data))) == (Verdict.CUT, False)
    assert said(host.scan(1013.0, data)) == (Verdict.CUT, True)


def test_a_connection_without_its_entry_is_certainly_cut_where_only_its_timeout_was_known() -> None:
    """Its own probe fell between two scans: by it alone the firewall may have been refreshed."""
    host = Host()
    host.scan(990.0, idle(1.0, since_packet=1.0, expires=11.0) | PROBING, forgets_in=19.0)
    host.scan(1000.0, idle(1.0, since_packet=1.0, expires=23.0, segments_in=11) | PROBING)
    late = probed(1021.0, since_packet=1.0, expires=11.0, segments_in=11)
    assert said(host.judge(scanned(1021.0, late))) == (Verdict.CUT, False)
    assert said(host.scan(1021.0, late)) == (Verdict.CUT, True)


def test_where_not_a_single_connection_is_tracked_any_more_nobody_need_ask() -> None:
    """Its entry was the last one."""
    host = Host()
    host.scan(990.0, idle(1.0, since_packet=1.0, expires=11.0) | PROBING, forgets_in=19.0)
    host.scan(1000.0, idle(1.0, since_packet=1.0, expires=23.0, segments_in=11) | PROBING)
    late = probed(1021.0, since_packet=1.0, expires=11.0, segments_in=11)
    assert said(host.judge(scanned(1021.0, late, timeout=FOREVER))) == (Verdict.CUT, True)


def test_what_was_certainly_cut_stays_so_after_a_packet_of_this_end() -> None:
    """Nobody asks about it again."""
    host = Host()
    host.scan(990.0, idle(1.0, since_packet=1.0), forgets_in=19.0)
    host.scan(1000.0, idle(1.0, since_packet=1.0, segments_in=11))
    assert said(host.scan(1020.0, idle(21.0, since_packet=21.0, segments_in=11))) == (Verdict.CUT, True)
    spoke = idle(22.0, since_packet=0.5, segments_in=11, segments_out=11) | {"since_sent": 0.5}
    assert said(host.judge(scanned(1021.0, spoke))) == (Verdict.CUT, True)


def test_a_packet_within_the_second_by_which_it_may_forget_later_may_have_refreshed_it() -> None:
    host = by_policy()
    quiet = idle(6.2, since_packet=6.2, expires=5.8) | PROBING
    host.scan(1005.2, quiet)
    spoke = idle(6.6, since_sent=0.1, since_packet=0.1, segments_out=11, timer=Timer.RETRANSMIT, expires=0.1)
    host.memory = host.judge(scanned(1005.6, spoke)).activity
    later = idle(8.1, since_sent=1.6, since_packet=0.4, segments_out=11, timer=Timer.RETRANSMIT, expires=0.4)
    assert said(host.judge(scanned(1007.1, later))) == (Verdict.CUT, False)


def test_every_new_connection_is_asked_about_once_for_its_timeout_may_be_another_one() -> None:
    """That of a policy, or of a container."""
    host = Host()
    host.setting = 3600.0
    seen = host.scan(1000.0, idle(2.0), forgets_in=6.0, timeout=8.0)
    assert host.asked == [1]
    assert seen.forecast.cut_at[0] == pytest.approx(1006.0, abs=1.0)


def test_it_is_asked_in_each_silence_while_its_timeout_is_not_known() -> None:
    """Its answer was about a packet of before the change: by the new setting it would have passed later."""
    host = Host(Path("short", 100.0, CONFIGURED))
    host.scan(1000.0, idle(1.0), forgets_in=19.0, timeout=8.0)
    assert np.isnan(host.memory.firewall_timeout[0])
    seen = host.scan(1010.0, idle(2.0, segments_in=11), forgets_in=6.0, timeout=8.0)
    assert host.asked == [1, 1]
    assert seen.forecast.timeout[0] == 8.0


def test_a_connection_that_it_does_not_track_is_not_its_business() -> None:
    host = Host()
    seen = host.scan(1000.0, idle(100.0))
    assert seen.forecast.cut_at[0] == pytest.approx(1000.0 + 3500.0, abs=1)
    host.scan(1010.0, idle(0.0, segments_in=11))
    assert host.asked == [1]


def test_another_timeout_than_the_settings_proves_nothing_of_the_newest_packet() -> None:
    """A policy gave this connection 77 s: by the 20 s of the others the packet would have passed later than it did."""
    host = Host(Path("short", 30.0, CONFIGURED))
    host.scan(1000.0, idle(5.0))
    host = Host(Path("short", 30.0, CONFIGURED))
    seen = host.scan(1000.0, idle(1.0) | {"since_received": 1.0}, forgets_in=4.0)
    assert seen.activity.last_packet[0] == pytest.approx(999.0)
    assert np.isnan(seen.activity.firewall_timeout[0])
    assert seen.forecast.cut_at[0] == pytest.approx(1004.0)


def test_where_it_remembers_anew_at_the_next_packet_nothing_is_certainly_lost() -> None:
    """A packet of this end heals the connection; only one of the peer's is lost."""
    host = Host(picks_up=True)
    host.scan(1000.0, idle(10.0), forgets_in=10.0)
    assert said(host.scan(1012.0, idle(22.0))) == (Verdict.CUT, False)
    host = Host(picks_up=False)
    host.scan(1000.0, idle(10.0), forgets_in=10.0)
    assert said(host.scan(1012.0, idle(22.0))) == (Verdict.CUT, True)


def test_a_silence_that_was_survived_outweighs_it() -> None:
    host = Host()
    host.scan(1000.0, idle(1.0), forgets_in=19.0)
    host.scan(1030.0, idle(31.0))
    seen = host.scan(1040.0, idle(2.0, segments_in=11))
    assert not seen.forecast.by_firewall[0]


def test_the_most_urgent_are_asked_about_and_the_others_later() -> None:
    host = Host()
    sockets = [idle(1.0 + number / 100, cookie=number + 1) for number in range(100)]
    host.scan(1000.0, *sockets, forgets_in=15.0)
    assert sorted(host.asked) == list(range(69, 101))
    host.scan(1000.1, *sockets, forgets_in=15.0)
    assert sorted(host.asked) == list(range(37, 101))


def test_it_is_asked_about_the_connection_of_one_user_however_many_urgent_ones_another_has() -> None:
    """And where both are root: about one of this host, however many there are in a container."""
    of_a_user: Socket = {"uid": 65534}
    of_a_container: Socket = {"uid": 0, "netns": 2}
    for theirs in (of_a_user, of_a_container):
        host = Host()
        many = [idle(19.0, cookie=number + 2) | theirs for number in range(10_000)]
        host.scan(1000.0, idle(10.0, cookie=1, uid=0), *many, forgets_in=5.0)
        assert 1 in host.asked
        assert len(host.asked) == 32


def test_what_is_to_be_explained_is_asked_about_however_far_its_cut_is() -> None:
    """Once in a silence as well, and nothing about other connections."""
    sockets = idle(1.0, cookie=1), idle(1.0, cookie=2), idle(1.0, cookie=3, retransmits=1)
    near_nothing = judge(scanned(1000.0, *sockets), nothing_known(), [HOUR], [])
    wanted = connections(near_nothing, np.array([1, 2]))
    (action,), memory = to_ask_about(near_nothing, near_nothing.activity, wanted)
    assert (action.rows.tolist(), action.cookies.tolist(), action.urgent) == ([1], [2], False)
    assert to_ask_about(near_nothing, memory, wanted)[0] == []
    untracked = judge(table(1000.0, *sockets), nothing_known(), [HOUR], [])
    assert to_ask_about(untracked, near_nothing.activity, wanted)[0] == []
    assert to_ask_about(near_nothing, near_nothing.activity, ())[0] == []


def test_nothing_is_asked_where_nothing_is_tracked() -> None:
    seen = judge(table(1000.0, idle(3590.0)), nothing_known(), [HOUR], [])
    assert to_ask(seen, seen.activity, WARN_BEFORE)[0] == []


OWN = 0


class Watched:
    """The firewalls that are watched, from one scan to the next."""

    def __init__(self) -> None:
        self._reported = NearlyFull()

    def scan(self, now: float, **counts: int) -> list[int]:
        """Return the network namespaces that are reported; each can track 1,000 connections."""
        tracked = [Tracked(int(name[1:]), count, 1000) for name, count in counts.items()]
        news, self._reported = nearly_full(tracked, self._reported, now)
        return [each.netns for each in news]


def test_a_firewall_that_is_nearly_full_is_reported_once_until_it_has_recovered() -> None:
    counts = (899, 900, 1000, 850, 950, 799, 899, 900)
    watched = Watched()
    reported = [watched.scan(float(now), n0=count) for now, count in enumerate(counts)]
    assert reported == [[], [OWN], [], [], [], [], [], [OWN]]


def test_a_namespace_that_was_not_asked_this_time_is_not_reported_again() -> None:
    watched = Watched()
    assert watched.scan(0.0, n0=10, n7=990) == [7]
    assert watched.scan(1.0, n0=10) == []
    assert watched.scan(2 * PAUSE, n0=10, n7=990) == []


def test_nobody_fills_the_log_by_making_namespaces_that_are_full() -> None:
    watched = Watched()
    assert watched.scan(0.0, n7=990) == [7]
    assert watched.scan(1.0, n7=990, n8=990, n0=990) == [OWN]
    assert watched.scan(PAUSE, n7=990, n8=990, n0=990) == [8]


def test_where_it_is_not_known_how_many_can_be_tracked_nothing_is_reported() -> None:
    assert nearly_full([Tracked(OWN, 5, 0)], NearlyFull(), 0.0)[0] == ()
