"""The duplicate of a descriptor has the options of its socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_INFO, TCP_KEEPIDLE, socket

import pytest

from keepaliveD.platforms.linux.arming.duplicate import Duplicate, duplicate


@pytest.fixture
def pidfd() -> Iterator[int]:
    """This process."""
    number = os.pidfd_open(os.getpid())
    yield number
    os.close(number)


def test_what_is_set_by_it_is_set_in_the_socket_and_the_other_way_round(pidfd: int) -> None:
    with socket() as sock:
        copy = duplicate(pidfd, sock.fileno())
        assert os.fstat(copy.fileno()).st_ino == os.fstat(sock.fileno()).st_ino
        copy.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 33)
        sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        assert sock.getsockopt(IPPROTO_TCP, TCP_KEEPIDLE) == 33
        assert (copy.getsockopt(IPPROTO_TCP, TCP_KEEPIDLE), copy.getsockopt(SOL_SOCKET, SO_KEEPALIVE)) == (33, 1)
        assert copy.getsockopt(IPPROTO_TCP, TCP_INFO, 8) == sock.getsockopt(IPPROTO_TCP, TCP_INFO, 8)
        copy.close()
        assert sock.getsockopt(IPPROTO_TCP, TCP_KEEPIDLE) == 33


def test_a_value_that_the_kernel_refuses_is_an_error(pidfd: int) -> None:
    with socket() as sock:
        copy = duplicate(pidfd, sock.fileno())
        with pytest.raises(OSError, match="Invalid argument"):
            copy.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, -1)
        copy.close()


def test_what_is_no_socket_has_no_options(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="Socket operation on non-socket"):
        Duplicate(file.fileno()).getsockopt(SOL_SOCKET, SO_KEEPALIVE)


def test_a_descriptor_that_does_not_exist_has_no_duplicate(pidfd: int) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        duplicate(pidfd, 1 << 20)
