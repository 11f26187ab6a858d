"""The decoder of sock_diag's messages, held to bytes made by hand and to bytes that a kernel sent."""

from __future__ import annotations

import ipaddress
import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import Sockets, TcpState, Timer
from keepaliveD.platforms.linux.reading.messages import Malformed, decode, survey
from tests.platforms.linux.reading import netlink
from tests.platforms.linux.reading.netlink import V6, attribute, cgroup, connection, cookies, done, error, info

DATA = Path(__file__).parent / "data"
UNKNOWN = attribute(999, b"from a kernel of tomorrow")


def decoded(*messages: bytes) -> Sockets:
    """The rows of these messages."""
    sockets = Sockets()
    decode(survey(memoryview(b"".join(messages)))[0], 77, sockets)
    return sockets


def the_one(*messages: bytes) -> dict[str, float]:
    """The columns of the only row."""
    sockets = decoded(*messages)
    assert len(sockets) == 1
    return {name: column[0].item() for name, column in sockets.since(0).items()}


def address(row: dict[str, float], side: str) -> str:
    return str(ipaddress.IPv6Address(int(row[f"{side}_high"]) << 64 | int(row[f"{side}_low"])))


# one message


def test_every_field_of_a_socket_finds_its_column() -> None:
    """A field read from a wrong offset would still look like a number."""
    row = the_one(
        connection(
            info(sent=1000, received=2000, acked=3000, segments_out=44, segments_in=55),
            cgroup(0x1_0000_0002),
            state=8,
            timer=2,
            expires=7000,
            local=("192.0.2.1", 40001),
            remote=("198.51.100.2", 5432),
            interface=3,
            uid=1000,
            inode=4711,
            cookie=9,
        )
    )
    expected = {
        "cookie": 9,
        "cgroup": 0x1_0000_0002,
        "netns": 77,
        "inode": 4711,
        "uid": 1000,
        "interface": 3,
        "segments_in": 55,
        "segments_out": 44,
        "since_sent": 1,
        "since_received": 2,
        "since_acked": 3,
        "expires": 7,
        "local_port": 40001,
        "remote_port": 5432,
        "state": TcpState.CLOSE_WAIT,
        "timer": Timer.KEEPALIVE,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert (address(row, "local"), address(row, "remote")) == ("::ffff:c000:201", "::ffff:c633:6402")


def test_milliseconds_become_seconds_however_many_they_are() -> None:
    """Units live in the adapter; a socket may have been idle for as long as the counter can tell."""
    row = the_one(connection(info(sent=1, received=250, acked=2**32 - 1), expires=7_200_000))
    assert row["since_sent"] == pytest.approx(0.001)
    assert row["since_received"] == pytest.approx(0.25)
    assert row["since_acked"] == pytest.approx(4294967.295, rel=1e-6)
    assert row["expires"] == pytest.approx(7200)


def test_both_halves_of_a_cookie_count() -> None:
    """On a busy host the low half repeats within days."""
    assert the_one(connection(cookie=0x8123_4567_89AB_CDEF))["cookie"] == 0x8123_4567_89AB_CDEF
    assert the_one(connection(cookie=1 << 32))["cookie"] == 1 << 32


def test_ipv6_addresses_are_read_whole() -> None:
    """And in the right order of their halves."""
    row = the_one(connection(family=V6, local=("2001:db8::1", 1), remote=("fe80:1:2:3:4:5:6:7", 2)))
    assert (address(row, "local"), address(row, "remote")) == ("2001:db8::1", "fe80:1:2:3:4:5:6:7")


def test_a_v4_mapped_peer_and_an_ipv4_peer_are_the_same_address() -> None:
    """One comparison serves both families: an IPv6 server's IPv4 clients are matched like all others."""
    mapped = the_one(connection(family=V6, local=("::1", 1), remote=("::ffff:198.51.100.1", 22)))
    plain = the_one(connection(remote=("198.51.100.1", 22)))
    assert address(mapped, "remote") == address(plain, "remote") == "::ffff:c633:6401"


def test_what_the_kernel_leaves_unset_behind_an_ipv4_address_does_not_show() -> None:
    """The kernel fills 4 of the 16 bytes."""
    row = the_one(connection(local=("255.255.255.255", 1), remote=("0.0.0.0", 2)))
    assert address(row, "local") == "::ffff:ffff:ffff"
    assert address(row, "remote") == "::ffff:0:0"


def test_a_socket_without_a_cgroup_has_none() -> None:
    """Kernels before 5.7 do not tell it."""
    assert the_one(connection(info()))["cgroup"] == 0


def test_a_cgroup_of_another_length_is_none() -> None:
    """Half an inode number would name another unit."""
    assert the_one(connection(info(), attribute(netlink.CGROUP, bytes(4))))["cgroup"] == 0


def test_unknown_attributes_are_passed_over() -> None:
    """A newer kernel sends more."""
    row = the_one(connection(UNKNOWN, info(sent=5000), attribute(0x8000 | 998, b""), cgroup(3), UNKNOWN))
    assert (row["since_sent"], row["cgroup"]) == (5, 3)


def test_flags_in_an_attributes_type_are_no_part_of_it() -> None:
    """NLA_F_NESTED and NLA_F_NET_BYTEORDER share the field with the type."""
    row = the_one(connection(attribute(0x8000 | netlink.CGROUP, struct.pack("=Q", 3)), info(sent=5000)))
    assert (row["since_sent"], row["cgroup"]) == (5, 3)


@pytest.mark.parametrize("size", [144, 192, 232, 248, 512])
def test_a_longer_or_shorter_tcp_info_is_read_all_the_same(size: int) -> None:
    """The structure has grown with almost every kernel, and will."""
    row = the_one(connection(info(sent=5000, segments_in=7, size=size), cgroup(3)))
    assert (row["since_sent"], row["segments_in"], row["cgroup"]) == (5, 7, 3)


@pytest.mark.parametrize("size", [0, 104, 140])
def test_a_tcp_info_without_segment_counters_is_refused(size: int) -> None:
    """Without them a peer's probes cannot be seen, and every alarm would be false (kernels before 4.2)."""
    with pytest.raises(Malformed, match="INET_DIAG_INFO"):
        decoded(connection(info(size=size)))


def test_a_socket_that_should_have_a_tcp_info_and_has_none_is_refused() -> None:
    """Its ages would be those of the row that stood there before."""
    with pytest.raises(Malformed, match="INET_DIAG_INFO"):
        decoded(connection(cgroup(1)))


# many messages


def test_a_batch_of_one_layout_keeps_its_rows_apart() -> None:
    """The usual case: thousands of messages, read as one array."""
    rows = decoded(*(connection(info(sent=1000 * n), cgroup(n), cookie=n, inode=2 * n) for n in range(1, 501)))
    numbers = np.arange(1, 501)
    assert (rows["cookie"] == numbers).all()
    assert (rows["cgroup"] == numbers).all()
    assert (rows["inode"] == 2 * numbers).all()
    assert np.allclose(rows["since_sent"], numbers)


def test_messages_of_different_lengths_mix() -> None:
    """A socket with a class id, a mark or IPv6 attributes is longer than its neighbours."""
    layouts = [(info(),), (info(), cgroup(5)), (UNKNOWN, info(size=512), cgroup(5)), (info(size=192),)]
    messages = [connection(*layouts[n * n % 4], cookie=n) for n in range(1, 200)]
    assert cookies(decoded(*messages)) == list(range(1, 200))


def test_messages_of_one_length_may_have_their_attributes_in_another_place() -> None:
    """Equal length proves nothing: read through the first one's layout, an age would be rubbish."""
    small, large = attribute(900, bytes(4)), attribute(901, bytes(12))
    layouts = [
        (small, info(sent=1000), large, cgroup(1)),
        (large, info(sent=1000), small, cgroup(1)),
        (cgroup(1), info(sent=1000), small, large),
        (info(sent=1000), cgroup(1), large, small),
    ]
    messages = [connection(*layouts[n % 4], cookie=n) for n in range(1, 101)]
    assert len({len(each) for each in messages}) == 1
    rows = decoded(*messages)
    assert cookies(rows) == list(range(1, 101))
    assert rows["since_sent"].tolist() == [1.0] * 100
    assert rows["cgroup"].tolist() == [1] * 100


def test_an_attribute_in_anothers_place_is_not_taken_for_it() -> None:
    """A message of the same length without a cgroup must not get one from what stands there."""
    other = attribute(902, struct.pack("=Q", 666))
    rows = decoded(connection(info(), cgroup(5), cookie=1), connection(info(), other, cookie=2))
    assert dict(zip(rows["cookie"].tolist(), rows["cgroup"].tolist(), strict=True)) == {1: 5, 2: 0}


def test_both_families_in_one_batch_keep_their_addresses() -> None:
    """Only IPv4 rows are mapped."""
    rows = decoded(connection(cookie=1), connection(family=V6, local=("2001:db8::1", 1), remote=("::1", 2), cookie=2))
    assert rows["remote_low"].tolist() == [0xFFFF_C633_6401, 1]
    assert rows["local_high"].tolist() == [0, 0x2001_0DB8_0000_0000]


def test_rows_are_appended_after_those_of_other_namespaces() -> None:
    """All namespaces share one table."""
    sockets = decoded(connection(cookie=1))
    decode(survey(memoryview(connection(cookie=2)))[0], 88, sockets)
    assert sockets["netns"].tolist() == [77, 88]
    assert sockets["cookie"].tolist() == [1, 2]


@pytest.mark.parametrize("state", [2, 7, 9])
def test_a_socket_that_left_the_states_asked_for_meanwhile_is_left_out(state: int) -> None:
    """The kernel chooses by the state, and reads it again when it tells; here SYN_SENT, CLOSE, LAST_ACK."""
    states = {number: state if number % 3 == 0 else 8 for number in range(1, 10)}
    messages = [connection(cookie=number, state=one) for number, one in states.items()]
    assert decoded(*messages)["cookie"].tolist() == [1, 2, 4, 5, 7, 8]
    assert len(decoded(*messages[2:3])) == 0


def test_a_socket_in_timewait_is_no_connection() -> None:
    """Asked for FIN_WAIT2, the kernel also sends orphans that are a mere timer, without INET_DIAG_INFO.

    One program that closes before its peer makes one, so a single one must not blind the watch.
    """
    assert len(decoded(netlink.timewait(cookie=9))) == 0
    messages = [netlink.timewait(cookie=n) if n % 3 == 0 else connection(cookie=n) for n in range(1, 10)]
    assert cookies(decoded(*messages)) == [1, 2, 4, 5, 7, 8]


# refusals


@pytest.mark.parametrize("code", [-(2**31), -99999, 0, 5, 2**31 - 1])
def test_an_error_that_is_none_is_still_a_refusal(code: int) -> None:
    """Whatever number stands there."""
    with pytest.raises(KernelError):
        survey(memoryview(error(code)))


# any bytes at all

LAYOUTS = st.lists(
    st.sampled_from([UNKNOWN, info(), info(size=512), cgroup(7), attribute(5, b"\1"), attribute(8, bytes(12))]),
    max_size=5,
)
MESSAGES = st.one_of(
    LAYOUTS.map(lambda layout: connection(info(), *layout)),
    LAYOUTS.map(lambda layout: connection(*layout, info(), family=V6, local=("::1", 1), remote=("::2", 2))),
    st.just(netlink.timewait()),
    st.just(done()),
    st.just(error(-2)),
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[bytes, int]:
    """A stream of valid messages of which some bytes are changed, cut out or put in; and how many it had."""
    messages = draw(st.lists(MESSAGES, max_size=20))
    stream = bytearray(b"".join(messages))
    dice = random.Random(draw(st.integers()))
    for _ in range(draw(st.integers(0, 6)) if stream else 0):
        # preferably where it hurts: the head of a message or the heads of its attributes
        place = dice.choice([dice.randrange(len(stream)), min(dice.choice([0, 4, 6, 16, 88, 90, 92]), len(stream) - 1)])
        stream[place] = dice.choice([0, 1, 2, 3, 4, 16, 20, 255, dice.randrange(256)])
    cut = draw(st.integers(0, len(stream)) | st.just(len(stream)))
    return bytes(stream[:cut]), len(messages)


def rows_or_refusal(data: bytes) -> int:
    """How many rows these bytes give, -1 if they are refused."""
    sockets = Sockets()
    try:
        messages, _, _ = survey(memoryview(data))
        decode(messages, 77, sockets)
    except KernelError as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017
        return -1
    return len(sockets)


@given(st.binary(max_size=2000))
def test_any_bytes_are_rows_or_a_refusal(data: bytes) -> None:
    """The daemon survives whatever comes; a row takes at least the bytes of a whole socket."""
    assert rows_or_refusal(data) <= len(data) // (16 + 72 + 4 + 144)


@given(mutated())
def test_damaged_messages_are_rows_or_a_refusal(damaged: tuple[bytes, int]) -> None:
    """And never more rows than there is room for: no message is read twice."""
    data, _ = damaged
    assert rows_or_refusal(data) <= len(data) // (16 + 72 + 4 + 144)


@given(st.lists(LAYOUTS, max_size=30))
def test_any_mix_of_layouts_gives_every_socket_once(layouts: list[list[bytes]]) -> None:
    """Whatever is grouped with whatever, each keeps its own values."""
    messages = [
        connection(info(sent=1000 * n), *layout, cookie=n, inode=n)
        for n, layout in enumerate(layouts)
        if info() not in layout
    ]
    wanted = [n for n, layout in enumerate(layouts) if info() not in layout]
    sockets = decoded(*messages)
    assert cookies(sockets) == wanted
    assert (sockets["inode"] == sockets["cookie"]).all()


# a real kernel's bytes


def test_a_recorded_dump_says_what_the_programs_themselves_knew() -> None:
    """Linux 6.18's answer for a handful of sockets, recorded beside what getsockopt told of each.

    To record anew: unshare --net .venv/bin/python -m tests.platforms.linux.reading.record
    """
    known = json.loads((DATA / "known.json").read_text())["sockets"]
    sockets = Sockets()
    for family in ("v4", "v6"):
        messages, ended, undisturbed = survey(memoryview((DATA / f"{family}.bin").read_bytes()))
        assert ended
        assert undisturbed
        decode(messages, 77, sockets)
    assert len(sockets) == 11  # both ends of five connections, one end of a sixth; its other is in TIME_WAIT
    by_cookie = {
        row["cookie"]: row
        for row in ({name: sockets[name][n].item() for name in sockets.since(0)} for n in range(len(sockets)))
    }
    for one in known:
        row = by_cookie[one["cookie"]]
        for side in ("local", "remote"):
            ip = ipaddress.ip_address(one[side][0])
            six = ip if ip.version == 6 else ipaddress.IPv6Address(f"::ffff:{ip}")
            assert address(row, side) == str(ipaddress.IPv6Address(int(six))), one["name"]
            assert row[f"{side}_port"] == one[side][1], one["name"]
        assert (row["inode"], row["uid"]) == (one["inode"], one["uid"])
        assert row["cgroup"] > 0
        if one["keepalive"]:
            assert row["timer"] == Timer.KEEPALIVE
            assert one["keepalive"] - 2 < row["expires"] <= one["keepalive"]
        else:
            assert row["timer"] == Timer.OFF
    rows = {one["name"]: by_cookie[one["cookie"]] for one in known}
    assert {name: TcpState(int(row["state"])).name for name, row in rows.items()} == {
        "bare": "ESTABLISHED",
        "keepalive": "ESTABLISHED",
        "six": "ESTABLISHED",
        "mapped": "ESTABLISHED",
        "half closed by us": "FIN_WAIT2",
        "half closed by the peer": "CLOSE_WAIT",
        "left alone by its peer": "CLOSE_WAIT",
    }
    for name in ("bare", "keepalive", "six", "mapped"):
        row = rows[name]
        assert (row["segments_out"], row["segments_in"]) == (3, 2)  # SYN, ACK, data; SYN+ACK, ACK
        assert 0.5 <= row["since_sent"] < 2
        assert 0.5 <= row["since_acked"] < 2
