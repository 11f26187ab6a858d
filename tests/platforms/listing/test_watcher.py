"""What every watcher's table means, whatever its system's programs print; they run as real children."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
from pathlib import Path

import pytest

from keepaliveD.model.errors import KernelError, NotPermitted, Refusal, Unsupported
from keepaliveD.model.sockets import SocketTable, TcpState
from keepaliveD.platforms import PLATFORMS
from keepaliveD.platforms.commands import run
from tests.platforms.emulators.wire import Connection
from tests.platforms.foreign import SYSTEMS, System, Watched
from tests.support.tables import watch

NOW = 100_000.0


@pytest.fixture(params=SYSTEMS, ids=lambda system: system.name)
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Watched:
    system: System = request.param
    return Watched(system, tmp_path)


def heard(connection: Connection, at: float) -> Connection:
    """The same connection after a segment from the peer."""
    return dataclasses.replace(connection, heard_at=at, received=connection.received + 500)


def ends(table: SocketTable) -> list[tuple[str, int, str, int]]:
    sockets = table.sockets
    return [
        (
            address(sockets["local_high"][row], sockets["local_low"][row]),
            int(sockets["local_port"][row]),
            address(sockets["remote_high"][row], sockets["remote_low"][row]),
            int(sockets["remote_port"][row]),
        )
        for row in range(len(sockets))
    ]


def address(high: int, low: int) -> str:
    number = ipaddress.IPv6Address(int(high) << 64 | int(low))
    return str(number.ipv4_mapped or number)


def idle(*tables: SocketTable) -> float:
    """Seconds without a packet, as policy understands these looks."""
    return tables[-1].taken_at - float(watch(*tables).activity.last_packet[0])


def test_addresses_and_ports_are_whole(watched: Watched) -> None:
    longest = "2001:db8:1234:5678:9abc:def0:1234:5678"
    table = watched.look(
        NOW,
        Connection("192.0.2.1", 40000, "198.51.100.1", 22, heard_at=NOW),
        Connection(longest, 40001, "2001:db8::1", 65535, heard_at=NOW),
        Connection("fe80::1", 40002, "fe80::9abc:def0:1234:5678", 1, zone="em0", heard_at=NOW),
    )
    assert ends(table) == [
        ("192.0.2.1", 40000, "198.51.100.1", 22),
        (longest, 40001, "2001:db8::1", 65535),
        ("fe80::1", 40002, "fe80::9abc:def0:1234:5678", 1),
    ]


def test_what_listens_or_is_closed_is_left_out(watched: Watched) -> None:
    left_out = ("CLOSED", "LISTEN", "SYN_SENT", "SYN_RCVD", "CLOSING", "LAST_ACK", "TIME_WAIT")
    shown = ("ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "FIN_WAIT_2")
    table = watched.look(
        NOW,
        Connection("0.0.0.0", 22, "0.0.0.0", 0, "LISTEN"),
        *(Connection(local_port=port, state=state) for port, state in enumerate(left_out, 1000)),
        *(Connection(local_port=port, state=state) for port, state in enumerate(shown, 2000)),
    )
    assert table.sockets["state"].tolist() == [
        TcpState.ESTABLISHED,
        TcpState.CLOSE_WAIT,
        TcpState.FIN_WAIT1,
        TcpState.FIN_WAIT2,
    ]
    assert table.sockets["local_port"].tolist() == [2000, 2001, 2002, 2003]


def test_a_host_without_connections_has_none(watched: Watched) -> None:
    assert len(watched.look(NOW)) == 0


def test_at_the_first_scan_a_silence_is_known_or_left_open(watched: Watched) -> None:
    table = watched.look(NOW, Connection(heard_at=NOW - 100))
    assert idle(table) == pytest.approx(100) if watched.system.tells_idle else math.isnan(idle(table))


def test_a_connection_that_carried_a_packet_is_young(watched: Watched) -> None:
    quiet = Connection(heard_at=NOW - 100)
    looks = [watched.look(NOW, quiet), watched.look(NOW + 15, heard(quiet, NOW + 10))]
    assert idle(*looks) <= 15


def test_a_connection_that_is_quiet_gets_older(watched: Watched) -> None:
    spoke = heard(Connection(heard_at=NOW - 100), NOW + 10)
    looks = [
        watched.look(NOW, Connection(heard_at=NOW - 100)),
        watched.look(NOW + 15, spoke),
        watched.look(NOW + 30, spoke),
        watched.look(NOW + 1000, spoke),
    ]
    assert 985 <= idle(*looks) <= 1000


def test_a_connection_that_was_opened_between_two_scans_is_young(watched: Watched) -> None:
    looks = [watched.look(NOW), watched.look(NOW + 15, Connection(heard_at=NOW + 5))]
    assert idle(*looks) <= 15


def test_one_that_was_opened_and_stays_quiet_gets_older(watched: Watched) -> None:
    opened = Connection(heard_at=NOW + 5)
    looks = [watched.look(NOW), *(watched.look(NOW + seconds, opened) for seconds in (15, 30, 300))]
    assert 295 <= idle(*looks) <= 300


def test_counters_that_wrap_around_have_moved(watched: Watched) -> None:
    before = Connection(heard_at=NOW - 100, received=2**32 - 1)
    after = dataclasses.replace(before, heard_at=NOW + 10, received=2**32 + 100)
    assert idle(watched.look(NOW, before), watched.look(NOW + 15, after)) <= 15


def test_a_connection_keeps_its_cookie_and_no_other_has_it(watched: Watched) -> None:
    one, other = Connection(heard_at=NOW), Connection(local_port=40001, block=1, generation=2, heard_at=NOW)
    first = watched.look(NOW, one, other).sockets["cookie"].tolist()
    second = watched.look(NOW + 15, other, heard(one, NOW + 1)).sockets["cookie"].tolist()
    assert second == first[::-1]
    assert len(set(first)) == 2


def test_link_local_peers_of_two_zones_are_two(watched: Watched) -> None:
    """The zone is no part of the address, but of what tells connections apart, where it is shown."""
    peers = [Connection("fe80::1", 40000, "fe80::2", 22, zone=zone, heard_at=NOW) for zone in ("em0", "em1")]
    assert len(set(watched.look(NOW, *peers).sockets["cookie"].tolist())) == 1 + watched.system.tells_zone


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("killed", KernelError, "killed by signal 9"),
        ("garbage", KernelError, "unexpected output"),
        ("language", KernelError, "unexpected output"),
        ("silent", NotPermitted, "not permitted"),
        ("refused", NotPermitted, "[Pp]ermission denied"),
    ],
)
def test_a_program_that_fails_is_named_in_one_line(
    watched: Watched, fault: str, error: type[Refusal], words: str
) -> None:
    watched.fail(fault)
    with pytest.raises(error, match=f"(?i){words}") as caught:
        watched.look(NOW, Connection())
    said = str(caught.value)
    assert said.isprintable()
    assert watched.system.program in said


def test_a_program_that_hangs_is_ended(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LIMIT", 0.5)
    watched.fail("hang")
    with pytest.raises(KernelError, match=r"no answer within 0\.5s"):
        watched.look(NOW, Connection())


def test_a_program_that_is_missing_is_named(watched: Watched) -> None:
    watched.program.unlink()
    with pytest.raises(Unsupported, match=watched.system.program):
        watched.look(NOW, Connection())


def test_a_scan_that_failed_spoils_nothing(watched: Watched) -> None:
    """The next one goes by the last that succeeded."""
    quiet = Connection(heard_at=NOW - 100)
    first = watched.look(NOW, quiet)
    watched.fail("garbage")
    with pytest.raises(KernelError):
        watched.look(NOW + 15, quiet)
    watched.fail("")
    spoke = heard(quiet, NOW + 20)
    assert idle(first, watched.look(NOW + 30, spoke)) <= 30


def test_it_says_what_the_system_does_not_tell(watched: Watched) -> None:
    assert watched.platform.notes
    assert all(line.isprintable() for line in watched.platform.notes)


def test_every_system_is_tested() -> None:
    elsewhere = {"solaris10", "openbsd", "netbsd", "aix"}  # as solaris11; by psutil, test_listings.py
    elsewhere |= {"linux", "dragonfly", "hpux"}  # by other means; not at all
    assert {system.name for system in SYSTEMS} == set(PLATFORMS) - elsewhere
