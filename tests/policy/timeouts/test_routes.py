"""Evidence of connections that no configured path concerns, apart by interface and next hop."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keepaliveD.log import entries
from keepaliveD.model.actions import FindRoutes, Outcome
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.reports import ReportEvidence
from keepaliveD.model.routes import Route
from keepaliveD.model.rules import OnDrift, Path, Rules
from keepaliveD.policy.ended import EndedDecider
from keepaliveD.policy.timeouts.advice import Advisor
from keepaliveD.policy.timeouts.path_evidence import Events
from keepaliveD.policy.timeouts.routes import AT_ONCE, ENDS, MOST_ENDS, MOST_ROUTES, STANDS, ByRoute
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.judge import judge
from tests.support.tables import idle, table

NETNS = 4026531840
GUESS = Path("default", 600.0, Origin(Source.GUESS))
PRODUCTS = (240.0, 350.0, 600.0, 3600.0)
CABLE, RADIO = Route("eth0", "192.0.2.1"), Route("wwan0", "198.51.100.1")
HERE = {CABLE: 0xFFFF_C000_0202, RADIO: 0xFFFF_C633_6402}  # our address on each


def ends(*pairs: tuple[int, int]) -> np.ndarray:
    """Pairs of a local and a remote address."""
    rows = np.zeros(len(pairs), ENDS)
    for row, (local, remote) in zip(rows, pairs, strict=True):
        row["local_low"], row["remote_low"] = local, remote
    return rows


def peers(route: Route, number: int = 9) -> np.ndarray:
    return ends(*((HERE[route], 0xFFFF_0A00_0000 + peer) for peer in range(number)))


def every(rows: np.ndarray) -> np.ndarray:
    return np.arange(len(rows))


def learned(by_route: ByRoute, *taken: Route) -> ByRoute:
    """New connections to the same peers by each of these routes, which are found."""
    for route in taken:
        by_route.meet(peers(route), every(peers(route)), 1000.0)
        by_route.learn(by_route.to_find(), [route] * len(by_route.to_find()))
    return by_route


def count(by_route: ByRoute, route: Route, silence: float, times: int, *, died: bool = False, path: int = 0) -> None:
    rows = np.tile(peers(route), times)[:times]
    silences, ended = np.full(times, silence), np.full(times, died)
    by_route.count(rows, every(rows), Events(np.full(times, path), silences, ended, rows["remote_low"]))


def advisor(route_of_deaths: Route) -> Advisor:
    """One uplink on which connections die in 400 s; on the other they survive longer silences, and there are more."""
    it = Advisor([GUESS], PRODUCTS)
    learned(it.by_route, CABLE, RADIO)
    other = RADIO if route_of_deaths is CABLE else CABLE
    for route, silence, times, died in (
        (route_of_deaths, 300.0, 30, False),
        (route_of_deaths, 400.0, 4, True),
        (other, 500.0, 300, False),
    ):
        rows = np.tile(peers(route), times)[:times]
        events = Events(np.zeros(times, np.intp), np.full(times, silence), np.full(times, died), rows["remote_low"])
        it._count(events)
        it.by_route.count(rows, every(rows), events)
    return it


def test_each_uplink_has_evidence_of_its_own() -> None:
    by_route = learned(ByRoute(), CABLE, RADIO)
    count(by_route, CABLE, 3600.0, 12)
    count(by_route, RADIO, 300.0, 30)
    count(by_route, RADIO, 400.0, 3, died=True)
    cable, radio = by_route.seen()
    assert (cable.route, cable.survived, cable.deaths, cable.shortest) == (CABLE, 12, 0, 0.0)
    assert cable.longest == pytest.approx(3600.0, rel=0.05)
    assert (radio.route, radio.survived, radio.deaths) == (RADIO, 30, 3)
    assert radio.shortest == pytest.approx(400.0, rel=0.05)


@pytest.mark.parametrize("route", [CABLE, RADIO])
def test_deaths_on_one_uplink_are_advised_about_although_the_other_hides_them(route: Route) -> None:
    """All together they say nothing."""
    it = advisor(route)
    (found,) = it.due(2000.0)
    assert (found.route, found.path, found.deaths, found.is_shorter) == (route, GUESS, 4, True)
    assert 200 < found.timeout <= 350
    assert it.due(3000.0) == ()


def test_no_verdict_follows_what_holds_for_one_uplink() -> None:
    it = advisor(RADIO)
    assert it.due(2000.0)
    assert it.with_evidence([GUESS]) == [GUESS]


def test_the_entry_names_the_uplink_and_what_to_write() -> None:
    (entry,) = entries.of(Outcome(ReportEvidence(advisor(RADIO).due(2000.0))))
    assert entry.message.startswith("path default by wwan0 (next hop 198.51.100.1): idle timeout 10min ")
    assert "probably too long: 4 connections died in silences of " in entry.message
    assert (
        'write a [[path]] with interface = "wwan0", or with the networks of these peers, and timeout = '
        in entry.message
    )
    assert "until then" not in entry.message
    assert (entry.fields["KEEPALIVE_INTERFACE"], entry.fields["KEEPALIVE_NEXT_HOP"]) == ("wwan0", "198.51.100.1")


def test_with_one_uplink_nothing_is_told_apart() -> None:
    by_route = learned(ByRoute(), CABLE)
    count(by_route, CABLE, 300.0, 30)
    count(by_route, CABLE, 400.0, 4, died=True)
    assert by_route.seen() == ()
    assert by_route.findings(GUESS, PRODUCTS) == []


def test_connections_of_a_configured_path_are_not_counted_by_route() -> None:
    by_route = learned(ByRoute(), CABLE, RADIO)
    count(by_route, CABLE, 300.0, 30)
    count(by_route, RADIO, 300.0, 30, path=1)
    assert by_route.seen() == ()


def test_a_route_is_asked_for_once_and_again_when_it_may_have_changed() -> None:
    by_route = learned(ByRoute(), CABLE)
    by_route.meet(peers(CABLE), every(peers(CABLE)), 1000.0 + STANDS)
    assert len(by_route.to_find()) == 0
    by_route.meet(peers(CABLE), every(peers(CABLE)), 1001.0 + STANDS)
    assert len(by_route.to_find()) == len(peers(CABLE))
    by_route.learn(by_route.to_find(), [RADIO] * len(peers(CABLE)))
    count(by_route, CABLE, 300.0, 5)
    assert by_route._seen(1).survived == 5


def test_the_rest_is_asked_for_after_the_next_scan() -> None:
    """The time for it was over, or there are more than are asked for at once."""
    by_route, many = ByRoute(), peers(CABLE, 2 * AT_ONCE)
    by_route.meet(many, every(many), 1000.0)
    first = by_route.to_find()
    assert len(first) == AT_ONCE
    by_route.learn(first, [CABLE] * 5)
    rest = by_route.to_find()
    assert rest[:3].tolist() == first[5:8].tolist()


def test_a_peer_without_a_route_is_not_counted() -> None:
    by_route = learned(ByRoute(), CABLE, RADIO)
    by_route.meet(peers(RADIO), every(peers(RADIO)), 1001.0 + STANDS)
    by_route.learn(by_route.to_find(), [None] * len(peers(RADIO)))
    count(by_route, CABLE, 300.0, 5)
    count(by_route, RADIO, 300.0, 5)
    assert by_route.seen() == ()


def test_memory_is_bounded_however_many_peers_and_routes_there_are() -> None:
    by_route, many = ByRoute(), peers(CABLE, 3 * MOST_ENDS)
    by_route.meet(many, every(many), 1000.0)
    assert len(by_route._wanted) == MOST_ENDS
    for number in range(MOST_ROUTES + 5):
        by_route.learn(many[number : number + 1], [Route(f"tun{number}")])
    assert len(by_route._routes) == MOST_ROUTES
    by_route.learn(many, [CABLE] * len(many))
    assert len(by_route._known) == MOST_ENDS


def test_after_a_scan_the_routes_of_what_services_have_opened_are_asked_for_once() -> None:
    """Of others nothing is counted."""
    decider = EndedDecider(Rules({}, OnDrift.REAPPLY, [GUESS], [], 60.0, autopsy=True))
    of_service = idle(1.0, cookie=1, uid=0, netns=NETNS, local="192.0.2.2", remote="10.0.0.7")
    of_person = idle(1.0, cookie=2, netns=NETNS, remote="10.0.0.8")
    scan = dataclasses.replace(table(1000.0, of_service, of_person), netns=NETNS)
    judgement = judge(scan, nothing_known(), [GUESS], [])
    (asked,) = (one for one in decider.remember(judgement, judgement.activity) if isinstance(one, FindRoutes))
    assert asked.ends.tolist() == [(0, HERE[CABLE], 0, 0xFFFF_0A00_0007)]
    decider.learn(Outcome(FindRoutes(asked.ends, [CABLE])))
    again = decider.remember(judgement, judgement.activity)
    assert not [one for one in again if isinstance(one, FindRoutes)]
