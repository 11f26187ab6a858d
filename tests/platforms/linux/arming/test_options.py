"""A program that sets its keepalive while it is set by us: what it set stays, whenever that is."""

from __future__ import annotations

import errno
from collections.abc import Callable
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, socket
from typing import Any

import pytest

from keepaliveD.platforms.linux.arming.options import Brought, Four, bring_about, read

OURS = (180, 5, 121, 1)
THEIRS = (33, 7, 4, 1)
NEVER = 1000
LOOKS = 12  # four before, one before each change, four after
READ_BACK = 8  # the first of those after: what is set from then on is set after us


class Meddled(socket):
    """A socket in which something happens before the nth look, or the nth change."""

    def __init__(self, look: int = NEVER, change: int = NEVER, happens: Callable[[socket], None] | None = None) -> None:
        super().__init__()
        self._look, self._change, self._happens = look, change, happens

    def getsockopt(self, *arguments: Any) -> Any:
        self._look -= 1
        if self._look == -1 and self._happens:
            self._happens(self)
        return super().getsockopt(*arguments)

    def setsockopt(self, *arguments: Any) -> None:
        self._change -= 1
        if self._change == -1 and self._happens:
            self._happens(self)
        super().setsockopt(*arguments)


def chosen(sock: socket) -> None:
    """Its program sets all four."""
    for level, option, value in (
        (IPPROTO_TCP, TCP_KEEPIDLE, 33),
        (IPPROTO_TCP, TCP_KEEPINTVL, 7),
        (IPPROTO_TCP, TCP_KEEPCNT, 4),
        (SOL_SOCKET, SO_KEEPALIVE, 1),
    ):
        socket.setsockopt(sock, level, option, value)


def idle_only(sock: socket) -> None:
    """It sets its idle time, and nothing else yet."""
    socket.setsockopt(sock, IPPROTO_TCP, TCP_KEEPIDLE, 33)


def refuse(_: socket) -> None:
    raise OSError(errno.EPERM, "refused")


@pytest.mark.parametrize("look", range(LOOKS))
def test_what_a_program_sets_meanwhile_stays(look: int) -> None:
    """Before our first look, between any two of them, and after our last change."""
    with Meddled() as sock:
        before = read(sock)
    with Meddled(look=look, happens=chosen) as sock:
        result = bring_about(sock, before, OURS)
        assert result is Brought.LATE or look > READ_BACK
        assert read(sock) == THEIRS


@pytest.mark.parametrize("look", range(READ_BACK + 1))
def test_of_a_program_that_is_not_done_nothing_is_taken_back_but_what_is_ours(look: int) -> None:
    """That it had switched keepalive on itself cannot be excluded: on it stays, once we have switched it on."""
    with Meddled() as sock:
        before = read(sock)
    with Meddled(look=look, happens=idle_only) as sock:
        assert bring_about(sock, before, OURS) is Brought.LATE
        assert read(sock)[:3] == (33, *before[1:3])


@pytest.mark.parametrize("change", range(4))
def test_a_change_that_is_refused_leaves_everything_as_it_was(change: int) -> None:
    with Meddled() as sock:
        before = read(sock)
    with Meddled(change=change, happens=refuse) as sock:
        assert bring_about(sock, before, OURS) is Brought.NOT
        assert read(sock) == before


@pytest.mark.parametrize("back", [False, True])
def test_no_mix_in_between_ends_a_connection_in_a_shorter_outage_than_both(*, back: bool) -> None:
    """Who sets the options may be killed after each; idle 7200, interval 20 and 9 probes were such a mix."""
    off, ours = (7200, 75, 9, 0), (180, 20, 31, 1)
    before, after = (ours, off) if back else (off, ours)
    seen: list[Four] = []
    with Meddled() as sock:
        bring_about(sock, read(sock), before)
        assert bring_about(sock, before, after, lambda: seen.append(read(sock))) is Brought.ABOUT
    outages = [(probes - 1) * interval for _, interval, probes, _ in (*seen, after)]
    assert len(seen) == len(before)
    assert min(outages) == min(outages[0], outages[-1])
