"""The decoder of sock_diag, held to bytes made by hand and to bytes that a kernel sent."""

from __future__ import annotations

import errno
import ipaddress
import json
import random
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.model.errors import KernelError, NotPermitted, Unsupported
from keepaliveD.model.sockets import Sockets, TcpState, Timer
from keepaliveD.platforms.linux.reading.sock_diag import (
    ATTEMPTS,
    BATCH,
    DATAGRAM,
    Malformed,
    SockDiag,
    Tally,
    are_all,
    decode,
    survey,
)
from tests.platforms.linux.reading import netlink
from tests.platforms.linux.reading.netlink import (
    DUMP_INTR,
    MULTI,
    V4,
    V6,
    Kernel,
    attribute,
    cgroup,
    connection,
    done,
    error,
    info,
    talking_to,
    timewait,
)

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


def dump(kernel: Kernel, sockets: Sockets | None = None) -> tuple[bool, Sockets]:
    """Whether the dump is complete, and its rows."""
    sockets = Sockets() if sockets is None else sockets
    with netlink.talking_to(kernel) as diag:
        return diag.dump(77, sockets, bytearray(BATCH)), sockets


def cookies(sockets: Sockets) -> list[int]:
    """In ascending order: that of a dump has no meaning."""
    return sorted(sockets["cookie"].tolist())


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


# the dump


def test_a_dump_asks_for_both_families_and_the_states_that_the_kernel_counts() -> None:
    """Those in which no packet flows are counted only: there are few. SYN_RECV is another kind of socket."""
    kernel = Kernel()
    dump(kernel)
    assert [request[16] for request in kernel.requests] == [socket.AF_INET, socket.AF_INET6]
    for request in kernel.requests:
        length, kind, flags = struct.unpack_from("=IHH", request)
        assert (length, kind, flags) == (len(request), 20, 0x301)
        assert (request[17], request[18]) == (socket.IPPROTO_TCP, 1 << (netlink.INFO - 1))
        assert struct.unpack_from("=I", request, 20) == (sum(1 << state for state in (1, 2, 4, 5, 8, 9, 10, 11)),)


def test_a_dump_joins_its_datagrams_and_families() -> None:
    """The kernel sends 32 KiB at most at once."""
    kernel = Kernel(
        v4=[[connection(cookie=1) + connection(cookie=2), connection(cookie=3) + done()]],
        v6=[[connection(family=V6, local=("::1", 1), remote=("::1", 2), cookie=4) + done()]],
    )
    complete, sockets = dump(kernel)
    assert complete
    assert cookies(sockets) == [1, 2, 3, 4]
    assert sockets["netns"].tolist() == [77] * 4


def test_the_end_may_come_in_a_datagram_of_its_own() -> None:
    """It does whenever it did not fit."""
    complete, sockets = dump(Kernel(v4=[[connection(cookie=1), connection(cookie=2), done()]]))
    assert complete
    assert cookies(sockets) == [1, 2]


def test_a_host_without_connections_is_complete() -> None:
    """It is no error to have none."""
    complete, sockets = dump(Kernel())
    assert complete
    assert len(sockets) == 0


def test_a_dump_may_be_larger_than_a_batch() -> None:
    """100,000 sockets are forty times that."""
    each = len(connection())
    at_once = DATAGRAM // each
    datagrams: list[bytes] = []
    cookie = 1
    while sum(map(len, datagrams)) < 2.5 * BATCH:
        datagrams.append(b"".join(connection(cookie=cookie + n) for n in range(at_once)))
        cookie += at_once
    complete, sockets = dump(Kernel(v4=[[*datagrams, done()]]))
    assert complete
    assert cookies(sockets) == list(range(1, cookie))


def test_bytes_that_look_like_the_end_do_not_end_a_dump() -> None:
    """The last bytes of a socket may be anything, also those of a message NLMSG_DONE."""
    lure = connection(info(), attribute(999, done()), cookie=1)
    complete, sockets = dump(Kernel(v4=[[lure, lure, connection(cookie=2) + done()]]))
    assert complete
    assert cookies(sockets) == [1, 1, 2]


@pytest.mark.parametrize("place", ["a socket", "the end"])
def test_a_dump_that_changes_interrupt_is_taken_again(place: str) -> None:
    """The kernel may have left out a socket; another try usually succeeds."""
    flags = {"a socket": (MULTI | DUMP_INTR, MULTI), "the end": (MULTI, MULTI | DUMP_INTR)}[place]
    disturbed = [connection(cookie=1, flags=MULTI) + connection(cookie=2, flags=flags[0]), done(flags=flags[1])]
    kernel = Kernel(v4=[disturbed, [connection(cookie=1), connection(cookie=3) + done()]])
    complete, sockets = dump(kernel)
    assert complete
    assert cookies(sockets) == [1, 3]


def test_an_interruption_is_remembered_to_the_end_of_the_dump() -> None:
    """A dump of many batches may be disturbed in the first."""
    first = connection(info(), attribute(999, done()), cookie=1, flags=MULTI | DUMP_INTR)  # looks like the last
    kernel = Kernel(v4=[[first, connection(cookie=2) + done()]] * 10)
    complete, sockets = dump(kernel)
    assert not complete
    assert cookies(sockets) == [1, 2]


def test_a_dump_that_changes_always_interrupt_is_reported_incomplete() -> None:
    """A busy host is watched as well as it can be; rows of earlier tries are not shown twice."""
    disturbed = [connection(cookie=1, flags=MULTI | DUMP_INTR) + connection(cookie=2), done()]
    kernel = Kernel(v4=[disturbed] * 10, v6=[[connection(cookie=3) + done()]])
    complete, sockets = dump(kernel)
    assert not complete
    assert len(kernel.requests) == ATTEMPTS + 1
    assert cookies(sockets) == [1, 2, 3]


def test_a_dump_that_is_taken_again_leaves_other_namespaces_alone() -> None:
    """Only its own rows are forgotten."""
    sockets = decoded(connection(cookie=42))
    disturbed = [connection(cookie=1, flags=MULTI | DUMP_INTR) + done()]
    _, sockets = dump(Kernel(v4=[disturbed, [connection(cookie=1) + done()]]), sockets)
    assert cookies(sockets) == [1, 42]


def test_datagrams_of_a_dump_that_was_given_up_are_passed_over() -> None:
    """They are still in the queue when the next scan asks, and speak of the past."""
    old = connection(cookie=666), connection(cookie=667) + done()
    kernel = Kernel(v4=[[old[0], connection(cookie=1), old[1], connection(cookie=2) + done()]])
    kernel.stale = set(old)
    complete, sockets = dump(kernel)
    assert complete
    assert cookies(sockets) == [1, 2]


def test_the_same_socket_serves_scan_after_scan() -> None:
    """Each with its own sequence number."""
    kernel = Kernel(v4=[[connection(cookie=1) + done()], [connection(cookie=2) + done()]])
    with netlink.talking_to(kernel) as diag:
        for cookie in (1, 2):
            sockets = Sockets()
            assert diag.dump(77, sockets, bytearray(BATCH))
            assert cookies(sockets) == [cookie]
    sequences = [struct.unpack_from("=I", request, 8)[0] for request in kernel.requests]
    assert len(set(sequences)) == len(sequences)
    assert not kernel.open


# refusals


def test_an_error_message_is_a_refusal_in_the_kernels_words() -> None:
    """Without tcp_diag a kernel knows no answer; that must not look like a host without connections."""
    with pytest.raises(KernelError, match=r"No such file or directory.*tcp_diag"):
        dump(Kernel(v4=[[error(-errno.ENOENT)]]))


def test_an_error_in_the_end_of_a_dump_is_a_refusal_too() -> None:
    """That is where a dump's error really comes (netlink_dump_done, net/netlink/af_netlink.c).

    A kernel without tcp_diag answers NLMSG_DONE with -ENOENT: no sockets, and yet not none.
    """
    with pytest.raises(KernelError, match=r"No such file or directory.*tcp_diag"):
        dump(Kernel(v4=[[done(-errno.ENOENT)]]))
    with pytest.raises(KernelError, match="Message too long"):
        dump(Kernel(v4=[[connection() + done(-errno.EMSGSIZE)]]))


@pytest.mark.parametrize("code", [-(2**31), -99999, 0, 5, 2**31 - 1])
def test_an_error_that_is_none_is_still_a_refusal(code: int) -> None:
    """Whatever number stands there."""
    with pytest.raises(KernelError):
        survey(memoryview(error(code)))


def test_a_kernel_that_does_not_answer_is_given_up() -> None:
    """The daemon's watchdog must not be what notices."""
    with pytest.raises(KernelError, match="the dump is incomplete"):
        dump(Kernel(v4=[[connection(cookie=1)]]))


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 15, id="shorter than a header"),
        pytest.param(bytes(DATAGRAM + 4), id="longer than was asked for"),
        pytest.param(connection()[:-4] + done(), id="a socket cut short"),
        pytest.param(connection() + b"\x14\0\0", id="a header cut short"),
        pytest.param(netlink.message(99, bytes(4)), id="an unknown type"),
        pytest.param(netlink.message(20, bytes(40)) + done(), id="a socket without a body"),
        pytest.param(struct.pack("=IHHII", 0, 20, 2, 1, 0), id="a length of zero"),
        pytest.param(struct.pack("=IHHII", 2**32 - 1, 20, 2, 1, 0), id="a length beyond everything"),
        pytest.param(netlink.message(2, b""), id="an error without a number"),
        pytest.param(connection(info(), struct.pack("=HH", 3, 9)) + done(), id="an attribute shorter than itself"),
        pytest.param(connection(info(), struct.pack("=HH", 99, 9)) + done(), id="an attribute beyond its message"),
    ],
)
def test_bytes_that_no_kernel_sends_are_refused(datagram: bytes) -> None:
    """A library injected between, an emulator, a bug of ours: said, not guessed at."""
    with pytest.raises(Malformed):
        dump(Kernel(v4=[[datagram, done()]]))


def test_a_datagram_that_did_not_fit_is_refused() -> None:
    """What is missing of it would be taken from the scan before."""
    datagram = b"".join(connection(cookie=n) for n in range(DATAGRAM // len(connection()) + 1))
    with pytest.raises(Malformed, match=f"a datagram of {len(datagram)} bytes"):
        dump(Kernel(v4=[[datagram, done()]]))


@pytest.mark.parametrize(
    ("code", "refusal"),
    [(errno.EACCES, NotPermitted), (errno.EAFNOSUPPORT, Unsupported), (errno.EPROTONOSUPPORT, Unsupported)],
)
def test_a_system_without_netlink_says_so(code: int, refusal: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that forbids AF_NETLINK is cured in the unit file, a missing kernel option is not."""

    def refuse(*_: int) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr("keepaliveD.platforms.linux.reading.sock_diag.socket.socket", refuse)
    with pytest.raises(refusal, match="netlink"):
        SockDiag()


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


@given(st.lists(st.binary(max_size=300) | mutated().map(lambda damaged: damaged[0]), max_size=6))
def test_any_datagrams_end_a_dump_one_way_or_the_other(datagrams: list[bytes]) -> None:
    """A dump is complete, incomplete or refused; it never hangs, and never dies of anything else."""
    try:
        complete, sockets = dump(Kernel(v4=[datagrams], v6=[datagrams]))
    except KernelError:
        return
    assert complete in (True, False)
    assert len(sockets) <= 2 * sum(map(len, datagrams)) // (16 + 72 + 4 + 144)


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


# the kernel's own counts


def count(directory: Path, v4: str, v6: str) -> None:
    """Have the kernel count so many sockets in use."""
    (directory / "sockstat").write_text(f"sockets: used 9\nTCP: inuse {v4} orphan 8 tw 7 alloc 6 mem 5\nUDP: inuse 4\n")
    (directory / "sockstat6").write_text(f"TCP6: inuse {v6}\nUDP6: inuse 4\n")


@pytest.mark.parametrize(
    ("v4", "v6", "families"),
    [("0", "0", []), ("1", "0", [V4]), ("0", "10", [V6]), ("10", "1", [V4, V6]), ("", "", [V4, V6])],
)
def test_a_family_is_not_asked_for_where_the_kernel_counts_none(
    tmp_path: Path, v4: str, v6: str, families: list[int]
) -> None:
    """Each dump walks the sockets of all families and namespaces; what is not understood is no reason to leave it."""
    count(tmp_path, v4, v6)
    kernel = Kernel()
    with talking_to(kernel, str(tmp_path)) as diag:
        diag.dump(1, Sockets(), bytearray(BATCH))
    assert list(dict.fromkeys(request[16] for request in kernel.requests)) == families


def test_the_count_is_read_anew_for_every_dump(tmp_path: Path) -> None:
    count(tmp_path, "0", "0")
    kernel = Kernel()
    with talking_to(kernel, str(tmp_path)) as diag:
        diag.dump(1, Sockets(), bytearray(BATCH))
        assert not kernel.requests
        count(tmp_path, "0", "2")
        diag.dump(1, Sockets(), bytearray(BATCH))
    assert {request[16] for request in kernel.requests} == {V6}


LISTEN, LAST_ACK = 10, 9
SHORT: list[bytes] = [connection(cookie=1), done()]
WHOLE: list[bytes] = [*SHORT[:1], connection(cookie=2), connection(state=LISTEN), connection(state=LAST_ACK), done()]


@pytest.mark.parametrize(
    ("answers", "rows", "complete"),
    [([WHOLE], 2, True), ([SHORT, WHOLE], 2, True), ([SHORT, SHORT, WHOLE], 2, True), ([SHORT] * 3, 1, False)],
)
def test_a_dump_of_fewer_than_the_kernel_counts_is_repeated_and_not_called_complete(
    tmp_path: Path, answers: list[list[bytes]], rows: int, complete: bool
) -> None:
    """The kernel ends a dump without an error at a socket that does not fit into a message."""
    count(tmp_path, "4", "0")
    kernel = Kernel(v4=answers)
    sockets = Sockets()
    with talking_to(kernel, str(tmp_path)) as diag:
        assert diag.dump(1, sockets, bytearray(BATCH)) == complete
    assert len(sockets) == rows
    assert len(kernel.requests) == len(answers)


def test_what_is_left_of_a_closed_socket_is_none_that_the_kernel_counts(tmp_path: Path) -> None:
    count(tmp_path, "2", "0")
    with talking_to(Kernel(v4=[[connection(), timewait(), done()]] * 3), str(tmp_path)) as diag:
        assert not diag.dump(1, Sockets(), bytearray(BATCH))


@pytest.mark.parametrize(
    ("tallies", "complete"),
    [
        ([(None, 0, 5)], True),
        ([(5, 0, None)], True),
        ([(640, 640, 640)], True),
        ([(640, 639, 640)], False),
        ([(640, 639, 640)] * 3, False),
        ([(640, 639, 640), (640, 638, 640)], True),  # somebody comes and goes
        ([(640, 613, 641)], False),
        ([(640, 614, 641)], True),
        ([(641, 614, 640)], True),
        ([(100, 100, 200)], True),
    ],
)
def test_few_may_be_missing_while_sockets_come_and_go(
    tallies: list[tuple[int | None, int, int | None]], complete: bool
) -> None:
    """The kernel's counts are read a moment before and after; where nothing differs, nobody comes or goes."""
    assert are_all([Tally(*each) for each in tallies]) == complete
