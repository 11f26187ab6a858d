"""What the daemon says of a few hundred connections, against what real firewalls did to them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.kernel.conftest import missing
from tests.kernel.verdicts.stage import Entry, Life, Pause, Played, Scan, Watch, play
from tests.kernel.verdicts.stories import NO_KEEPALIVE, SPAN, WALLS, Settings, Story, Wall, plan
from tests.kernel.verdicts.table import table
from tests.kernel.verdicts.truth import Fault, Judged, Kind, judge, timeline
from tests.kernel.verdicts.wire import FIN, Packet
from tests.support.versions import ITERATOR, since

SEED = 13
BACK = {Kind.TAKEN_BACK}
LIFETIMES = 42  # at each firewall

pytestmark = since(ITERATOR)


@dataclass(frozen=True)
class Day:
    """One day at all firewalls, with each engine at both ends, and what was wrong."""

    judged: list[Judged]
    faults: list[Fault]

    def forbid(self, kind: Kind) -> None:
        """Fail with the first of this kind, for whoever is to mend it."""
        found = [fault for fault in self.faults if fault.kind is kind]
        if found:
            counted = f"{len(found)} of seed {SEED}:\n{table(self.judged, self.faults)}"
            pytest.fail(f"{counted}\nThe first: {timeline(found[0])}", pytrace=False)


@pytest.fixture(scope="module")
def day() -> Day:
    """The same day for all tests."""
    if reason := missing():
        pytest.skip(reason)
    played = play({wall: plan(SEED, wall, LIFETIMES, SPAN) for wall in WALLS})
    judged = [each for stage in played for each in judge(stage)]
    return Day(judged, [fault for each in judged for fault in each.faults()])


WALL = Wall(timeout=5, interval=1, mode="drop", system=7200)
LAST = 100.0  # instant of the last packet of a connection that dies at 105


def packet(at: float, *, probe: bool = False, size: int = 0) -> Packet:
    """One of the server's that passed."""
    return Packet(at, from_client=False, number=0, flags=16, size=size, probe=probe, passed=True)


def scans(first: int, last: int) -> list[Scan]:
    """One in each second, between whole ones."""
    return [Scan(second + 0.5, second + 0.51) for second in range(first, last)]


def entry(at: float, verdict: str, before: str = "unknown") -> Entry:
    """A word at that instant."""
    priority = {"cut": 3, "safe": 6}.get(verdict, 4)
    return {
        "timestamp": at,
        "KEEPALIVE_VERDICT": verdict,
        "KEEPALIVE_BEFORE": before,
        "PRIORITY": priority,
        "KEEPALIVE_LEFT_SEC": LAST + WALL.timeout - at,
    }


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ([], {Kind.UNWARNED, Kind.DEAD_UNSAID}),
        ([entry(103, "bare"), entry(105.1, "cut")], set()),
        ([entry(103, "late"), entry(105.1, "cut?")], {Kind.PRESUMED_DEAD}),
        ([entry(103, "bare"), entry(104.9, "cut")], {Kind.CUT_EARLY}),
        ([entry(99, "cut"), entry(105.1, "cut")], {Kind.CUT_LIVES}),
        ([entry(99, "cut?"), entry(103, "bare", "cut?")], {Kind.PRESUMED_LIVES}),
        ([entry(103, "late"), entry(104, "safe"), entry(106, "cut")], {Kind.SAFE_DIES}),
        ([entry(103, "late"), entry(105.1, "safe"), entry(109, "cut")], {Kind.SAFE_DIES}),
        ([entry(91, "safe"), entry(94, "bare"), entry(96, "safe"), entry(103, "bare"), entry(106, "cut")], BACK),
        ([entry(98, "bare"), entry(103, "bare"), entry(106, "cut")], {Kind.FALSE_BARE}),
        ([entry(98, "late"), entry(103, "bare"), entry(106, "cut")], {Kind.FALSE_LATE}),
    ],
)
def test_each_kind_of_fault_is_found(said: list[Entry], wrong: set[Kind]) -> None:
    """In what is said of a connection whose peer probes four times and then never again."""
    story = Story("peer", 0, NO_KEEPALIVE, Settings(2), (), 0)
    passed = [packet(90), *(packet(at, probe=True) for at in (92, 94, 96, LAST))]
    life = Life(story, 1, passed, until={"client": 112.0, "server": 112.0})
    watch = Watch(WALL, "bpf", "client", 80.0, {1: said}, scans(80, 112))
    (judged,) = judge(Played(WALL, [life], [watch]))
    assert {fault.kind for fault in judged.faults()} == wrong


def test_a_death_is_called_only_by_a_scan_that_came_after_it() -> None:
    """On a busy machine none may come for seconds."""
    story = Story("peer", 0, NO_KEEPALIVE, NO_KEEPALIVE, (), 0)
    life = Life(story, 1, [packet(98), packet(LAST)], until={"client": 112.0, "server": 112.0})
    for looks, wrong in ((scans(80, 112), True), (scans(80, 105), False)):
        (judged,) = judge(Played(WALL, [life], [Watch(WALL, "bpf", "client", 80.0, {1: []}, looks)]))
        assert (Kind.DEAD_UNSAID in {fault.kind for fault in judged.faults()}) == wrong


@pytest.mark.parametrize(
    ("idle", "pauses", "wrong"), [(2, [], True), (2, [Pause(101, 106)], False), (9, [Pause(101, 106)], True)]
)
def test_who_probes_in_time_and_dies_because_the_machine_stood_still_was_rightly_called_safe(
    idle: int, pauses: list[Pause], wrong: bool
) -> None:
    """Nobody foresees that; but who probes too late is not safe, whatever the machine does."""
    story = Story("own", 0, Settings(idle), NO_KEEPALIVE, (), 0)
    life = Life(story, 1, [packet(98), packet(LAST)], until={"client": 112.0, "server": 112.0})
    watch = Watch(WALL, "bpf", "client", 80.0, {1: [entry(99, "safe"), entry(105.1, "cut")]}, scans(80, 112))
    (judged,) = judge(Played(WALL, [life], [watch], pauses))
    assert (Kind.SAFE_DIES in {fault.kind for fault in judged.faults()}) == wrong


LONG_WALL = Wall(timeout=8, interval=1, mode="drop", system=7200)
WARNED = 100.0  # instant of a warning, four seconds before the peer's next probe


def alarms(passed: list[Packet], looks: list[Scan], verdict: str) -> set[Kind]:
    """What is wrong with that warning, where the connection is closed after that probe."""
    story = Story("peer", 0, NO_KEEPALIVE, Settings(4), (), 0)
    ended = Packet(105.0, from_client=False, number=0, flags=FIN, size=0, probe=False, passed=True)
    life = Life(story, 1, [*passed, packet(104, probe=True), ended], until={"client": 105.0, "server": 105.0})
    watch = Watch(LONG_WALL, "bpf", "client", 50.0, {1: [entry(WARNED, verdict)]}, looks)
    (judged,) = judge(Played(LONG_WALL, [life], [watch]))
    return {fault.kind for fault in judged.faults()}


IN_A_ROW = [packet(86, size=1), packet(90, probe=True), packet(94, probe=True), packet(96, size=1)]
DATA_BETWEEN = [packet(86, size=1), packet(90, probe=True), packet(92, size=1), packet(96, probe=True)]
DATA_BEFORE = [packet(89.8, size=1), packet(90, probe=True), packet(94, probe=True), packet(96, size=1)]
ANSWER_BESIDE = [packet(86, size=1), packet(90, probe=True), packet(94, probe=True), packet(94.2)]


@pytest.mark.parametrize(
    ("passed", "late_between", "wrong"),
    [
        (IN_A_ROW, (0, 0), {"bare": {Kind.FALSE_BARE}, "late": {Kind.FALSE_LATE}}),
        (IN_A_ROW, (92, 95), {"bare": {Kind.FALSE_BARE}, "late": {Kind.FALSE_LATE}}),
        (IN_A_ROW, (87, 93), {"bare": {Kind.FALSE_BARE}, "late": set()}),
        (IN_A_ROW, (92, 97), {"bare": set(), "late": set()}),
        (IN_A_ROW, (92, 100), {"bare": set(), "late": set()}),
        (DATA_BETWEEN, (0, 0), {"bare": set(), "late": set()}),
        (DATA_BEFORE, (0, 0), {"bare": set(), "late": set()}),
        (ANSWER_BESIDE, (0, 0), {"bare": set(), "late": set()}),
    ],
    ids=["in a row", "late", "too late for its length", "late until data", "after that", "data", "before", "answer"],
)
def test_a_rhythm_is_known_by_what_scans_could_see(
    passed: list[Packet], late_between: tuple[int, int], wrong: dict[str, set[Kind]]
) -> None:
    """By two probes without data between, which nothing else hid; else a warning is not wrong."""
    begin, end = late_between
    looks = [scan for scan in scans(50, 105) if not begin < scan.begin < end]
    assert {verdict: alarms(passed, looks, verdict) for verdict in wrong} == wrong


def test_the_day_has_enough_of_life_and_death(day: Day) -> None:
    """Else the other tests would mean nothing."""
    print(f"seed {SEED}\n{table(day.judged, day.faults)}")
    connections = len(day.judged)
    assert connections / 10 < sum(each.died for each in day.judged) < connections / 2
    assert sum(any(packet.probe for packet in each.passed) for each in day.judged) > connections / 4


def test_no_packet_passes_after_a_certain_cut(day: Day) -> None:
    """Certain means certain for all that may have passed unseen."""
    day.forbid(Kind.CUT_LIVES)


def test_no_connection_dies_while_it_is_called_safe(day: Day) -> None:
    """Nor does a probe that came too late make it safe."""
    day.forbid(Kind.SAFE_DIES)


def test_every_dead_connection_is_called_cut(day: Day) -> None:
    """Certainly or presumably, once there was time to."""
    day.forbid(Kind.DEAD_UNSAID)
