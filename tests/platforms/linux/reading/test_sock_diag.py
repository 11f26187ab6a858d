"""Dumps of sock_diag by a kernel of our own: which are whole, which are asked for again, and which are refused."""

from __future__ import annotations

import errno
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.model.errors import KernelError, NotPermitted, Unsupported
from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms.linux.reading.dumps import BATCH, DATAGRAM
from keepaliveD.platforms.linux.reading.messages import Malformed
from keepaliveD.platforms.linux.reading.sock_diag import ATTEMPTS, SockDiag, Tally, are_all
from tests.platforms.linux.reading import netlink
from tests.platforms.linux.reading.netlink import (
    DUMP_INTR,
    MULTI,
    V4,
    V6,
    Kernel,
    attribute,
    connection,
    cookies,
    done,
    error,
    info,
    talking_to,
    timewait,
)
from tests.platforms.linux.reading.test_messages import decoded, mutated


def dump(kernel: Kernel, sockets: Sockets | None = None) -> tuple[bool, Sockets]:
    """Whether the dump is complete, and its rows."""
    sockets = Sockets() if sockets is None else sockets
    with netlink.talking_to(kernel) as diag:
        return diag.dump(77, sockets, bytearray(BATCH)), sockets


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

    monkeypatch.setattr("keepaliveD.platforms.linux.reading.dumps.socket.socket", refuse)
    with pytest.raises(refusal, match="netlink"):
        SockDiag()


# any bytes at all


@given(st.lists(st.binary(max_size=300) | mutated().map(lambda damaged: damaged[0]), max_size=6))
def test_any_datagrams_end_a_dump_one_way_or_the_other(datagrams: list[bytes]) -> None:
    """A dump is complete, incomplete or refused; it never hangs, and never dies of anything else."""
    try:
        complete, sockets = dump(Kernel(v4=[datagrams], v6=[datagrams]))
    except KernelError:
        return
    assert complete in (True, False)
    assert len(sockets) <= 2 * sum(map(len, datagrams)) // (16 + 72 + 4 + 144)


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
