"""A program that has closed one direction waits for the peer's answer: what ends it then, and what does not."""

from __future__ import annotations

import contextlib
import errno
import subprocess
from collections.abc import Iterator
from socket import IPPROTO_TCP, SHUT_WR, TCP_INFO, socket

from keepaliveD.model.sockets import Column, TcpState
from keepaliveD.policy.autopsy.facts import SENDING, is_ordinary
from tests.kernel.deaths.rig import vanish
from tests.kernel.deaths.scenes import DIE_WITH_US, HOLD, abort
from tests.kernel.deaths.test_reader import pair
from tests.kernel.deaths.watching import Watch, watching
from tests.support.patience import wait_for
from tests.support.rig import Namespace


@contextlib.contextmanager
def held(connection: socket) -> Iterator[subprocess.Popen[bytes]]:
    """A program that holds the socket, too, until its input ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*DIE_WITH_US, *HOLD], stdin=pipe, stdout=pipe, pass_fds=[connection.fileno()]) as program:
        assert program.stdout
        program.stdout.read(1)  # it runs
        try:
            yield program
        finally:
            program.kill()


def half_closed(host: Namespace) -> tuple[socket, socket]:
    """Both ends of a connection: the first has closed its direction, which the peer has acknowledged."""
    near, far = pair(host)
    near.shutdown(SHUT_WR)
    wait_for(lambda: near.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == TcpState.FIN_WAIT2)
    return near, far


def ends_until_an_abort(host: Namespace, watch: Watch) -> Column:
    """The ends that are reported, without the two of an abort that is made after all else."""
    near, far = pair(host)
    ports = [each.getsockname()[1] for each in (near, far)]
    abort(far)
    ended = watch.until(lambda ended: set(ports) <= set(ended["local_port"].tolist()))
    near.close()
    rest: Column = ended[~((ended["local_port"] == ports[0]) | (ended["remote_port"] == ports[0]))]
    return rest


def test_a_program_that_is_killed_while_it_waits_for_the_answer_is_reported() -> None:
    with Namespace() as host, watching(host) as watch:
        near, far = half_closed(host)
        port = near.getsockname()[1]
        with far, held(near) as program:
            near.close()
            program.kill()
            program.wait()
            (ended,) = ends_until_an_abort(host, watch)
    assert (ended["local_port"], ended["signal"], ended["closer"]) == (port, 9, b"sh")
    assert ended["shutdown"] == SENDING, "whether it had closed both directions is not known"


def test_a_program_that_is_killed_before_its_peer_has_acknowledged_its_fin_is_reported() -> None:
    with Namespace() as host, watching(host) as watch:
        near, far = pair(host)
        host.nft("table inet t { chain out { type filter hook output priority 0; tcp flags & fin == fin drop\n}\n}")
        near.shutdown(SHUT_WR)
        with far, held(near) as program:
            near.close()
            program.kill()
            program.wait()
            host.nft("delete table inet t")
            (ended,) = watch.until(lambda ended: len(ended) > 0)
    assert (ended["state"], ended["signal"], ended["closer"]) == (TcpState.FIN_WAIT2, 9, b"sh")
    assert ended["shutdown"] == SENDING, "whether it had closed both directions is not known"


def test_a_program_that_closes_while_it_waits_for_the_answer_is_only_counted() -> None:
    with Namespace() as host, watching(host) as watch:
        near, far = half_closed(host)
        with far:
            near.close()
            assert len(ends_until_an_abort(host, watch)) == 0
    assert watch.ordinary >= 1


def test_a_program_that_ends_by_itself_while_it_waits_for_the_answer_is_only_counted() -> None:
    with Namespace() as host, watching(host) as watch:
        near, far = half_closed(host)
        with far, held(near) as program:
            near.close()
            assert program.stdin
            program.stdin.close()
            assert program.wait() == 1
            assert len(ends_until_an_abort(host, watch)) == 0
    assert watch.ordinary >= 1


def test_a_program_that_is_killed_after_its_peer_had_closed_too_is_only_counted() -> None:
    with Namespace() as host, watching(host) as watch:
        near, far = half_closed(host)
        with held(near) as program:
            far.close()
            assert near.recv(1) == b""
            near.close()
            program.kill()
            program.wait()
            assert len(ends_until_an_abort(host, watch)) == 0
    assert watch.ordinary >= 2


def test_a_program_that_is_killed_and_whose_socket_another_one_closes_is_only_counted() -> None:
    with Namespace() as host, watching(host) as watch:
        near, far = half_closed(host)
        with far, held(near) as program:
            program.kill()
            program.wait()
            near.close()
            assert len(ends_until_an_abort(host, watch)) == 0
    assert watch.ordinary >= 1


def test_a_close_whose_fin_meets_a_peer_that_had_closed_and_is_gone_is_an_ordinary_one() -> None:
    with Namespace() as host, watching(host) as watch:
        near, far = pair(host)
        far.shutdown(SHUT_WR)
        assert near.recv(1) == b""
        vanish(far)
        near.close()
        ended = watch.until(lambda ended: len(ended) > 0)
    assert ended["error"].tolist() == [errno.ECONNRESET]
    assert is_ordinary(ended).all()
